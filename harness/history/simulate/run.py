# SPDX-License-Identifier: GPL-2.0-or-later
"""Run a simulated load and record what agents would have: ``generate(Recipe(seed=7))``.

The same recipe gives the same history, byte for byte.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from harness.history.format.history import History, ThreadLog
from harness.history.format.record import RECORD, Op, Via
from harness.history.simulate.load import Load, Shared, Thread
from harness.history.simulate.world import Call, Dom, World
from harness.model.evtchn.releases import Release
from harness.model.evtchn.rules import by_version
from harness.model.lock.flavours import FLAVOURS

QUIET_NS = 5_000_000  # short, so that even a small history can show a lost event

_RELEASE = Release(4, 17)
_EVENT_LOCK = {Op.BIND_INTERDOMAIN, Op.CLOSE, Op.STATUS, Op.BIND_VCPU}  # wait for a close


@dataclass(frozen=True)
class Recipe:
    """What to simulate."""

    seed: int
    flavour: str = "counter"
    operations: int = 150  # about
    domains: int = 2
    threads: int = 2  # per domain, beside the one that receives
    skew_ns: int = 0  # bound of the clocks' error
    crash: bool = False  # one domain dies in the middle
    kernel: float = 0.05  # kernel port allocations and closes per operation


@dataclass(eq=False)
class Runner:
    """One thread and the calls it made, in order."""

    domid: int
    number: int
    program: Thread
    calls: list[Call] = field(default_factory=list)
    waiting: bool = False
    done: bool = False


class Run:
    """The event loop: one instant after the other, until every port is closed."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.rng = random.Random(recipe.seed)
        self.now = 0
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.order = itertools.count()
        domids = list(range(recipe.domains))
        self.world = World(FLAVOURS[recipe.flavour], domids, self.rng, self.at, self._wake)
        shared = {domid: Shared(domid) for domid in domids}
        self.load = Load(self.rng, shared, recipe.operations)
        self.workers: list[Runner] = []
        self.receivers: list[Runner] = []
        for domid in domids:
            for number in range(recipe.threads):
                self.workers.append(Runner(domid, number, self.load.worker(shared[domid])))
            receiver = Runner(domid, recipe.threads, self.load.receiver(shared[domid]))
            self.receivers.append(receiver)
        self.dead: dict[int, int] = {}  # domid: when it died
        self.closing: dict[tuple[int, int], Call] = {}  # ports that a close is inside of
        self.drained = 0  # when the final silence ended

    def runners(self) -> list[Runner]:
        """Return all threads."""
        return self.workers + self.receivers

    def at(self, delay: int, action: Callable[[], None]) -> None:
        """Let ``action`` happen ``delay`` ns from now."""
        heapq.heappush(self.queue, (self.now + delay, next(self.order), action))

    def run(self) -> None:
        """Load, drain, tear down."""
        for runner in self.workers + self.receivers:
            self.at(self.rng.randrange(20_000), partial(self._start, runner))
        if self.recipe.kernel:
            self.at(1000, self._kernel)
        if self.recipe.crash:
            self.at(self.rng.randrange(1, 1 + 8_000 * self.recipe.operations), self._crash)
        self._drive()
        self.now += 3 * QUIET_NS
        self.drained = self.now
        for domid, shared in self.load.domains.items():
            if domid not in self.dead:
                last = next(w for w in self.workers if w.domid == domid)
                last.program, last.done = self.load.teardown(shared, self._left(domid)), False
                self.at(0, partial(self._start, last))
        self._drive()

    def _left(self, domid: int) -> dict[int, Via]:
        ports = self.world.domains[domid].ports
        return {
            port: Via.DEVICE if lifetime.device else Via.RAW
            for port, lifetime in ports.items()
            if not lifetime.kernel
        }

    def _drive(self) -> None:
        while self.queue:
            self.now, _, action = heapq.heappop(self.queue)
            action()

    # -- threads ---------------------------------------------------------------------------

    def _start(self, runner: Runner, answer: Call | None = None) -> None:
        if runner.domid in self.dead:
            return
        try:
            call = runner.program.send(answer) if answer else next(runner.program)
        except StopIteration:
            runner.done = True
            return
        call.called, call.cpu = self.now, self.rng.randrange(2)
        runner.calls.append(call)
        delay = self._some_time()
        if call.op is Op.CLOSE:
            self._hold(call, delay)
        if call.op is Op.RECV:
            self.at(delay, lambda: self._receive(runner, call))
        else:
            self.at(delay, lambda: self._effect(runner, call))

    def _some_time(self) -> int:
        if self.rng.random() < 0.02:  # somebody else has the CPU
            return self.rng.randrange(20_000, 200_000)
        return self.rng.randrange(50, 4_000)

    def _hold(self, call: Call, hold: int) -> None:
        """A close is inside the locks of both ends from some point until its effect."""
        lifetime = self.world.domains[call.domid].ports.get(call.port)
        if lifetime is None or self._closing(call):
            return
        if call.via is Via.DEVICE and not lifetime.device:  # refused before Xen hears of it
            return
        peer = self.world.peer(lifetime)
        for end in (lifetime, peer):
            if end is not None:
                self.closing[end.domid, end.port] = call
                self.world.write(end.domid, end.port, hold)

    def _closing(self, call: Call) -> bool:
        """Say whether another close is inside a lock that ``call`` needs (event_lock is held)."""
        keys = {(call.domid, call.port), (self.world.resolve(call, call.arg), call.port)}
        lifetime = self.world.domains[call.domid].ports.get(call.port)
        peer = self.world.peer(lifetime) if lifetime else None
        if peer is not None:
            keys.add((peer.domid, peer.port))
        return any(self.closing.get(key, call) is not call for key in keys)

    def _effect(self, runner: Runner, call: Call) -> None:
        if call.op in _EVENT_LOCK and self._closing(call):
            self.at(self.rng.randrange(100, 400), partial(self._effect, runner, call))
            return
        lost = call.domid in self.dead and self.rng.random() < 0.5
        if not lost:
            self.world.apply(call)
        self.closing = {key: c for key, c in self.closing.items() if c is not call}
        if lost:
            return
        delay = self._some_time()
        if call.lifetime is not None and call.result > 0 and call in call.lifetime.changes:
            self.world.write(call.lifetime.domid, call.lifetime.port, self.rng.randrange(delay))
        pending = call.lifetime is not None and call.lifetime.pending
        if call.op is Op.POLL and call.result == 0 and not pending:
            delay += call.arg * 1000 if self.rng.random() < 0.8 else 0
        self.at(delay, lambda: self._return(runner, call))

    def _return(self, runner: Runner, call: Call) -> None:
        if call.domid in self.dead:
            return
        call.returned = self.now
        pause = self.rng.randrange(10, 3_000)
        self.at(pause, lambda: self._start(runner, call))

    def _receive(self, runner: Runner, call: Call) -> None:
        ring = self.world.domains[call.domid].ring
        runner.waiting = not ring
        if ring:
            call.port, call.lifetime = ring.popleft()
            if call.lifetime is not None:
                call.lifetime.received.append(call)
            self.at(self._some_time(), lambda: self._return(runner, call))

    def _wake(self, dom: Dom) -> None:
        for runner in self.receivers:
            if runner.domid == dom.domid and runner.waiting:
                runner.waiting = False
                self.at(self.rng.randrange(3_000), partial(self._receive, runner, runner.calls[-1]))

    # -- what nobody records ---------------------------------------------------------------

    def _kernel(self) -> None:
        """A kernel takes a port, or gives one back."""
        dom = self.world.domains[self.rng.choice(list(self.world.domains))]
        mine = [port for port, lifetime in dom.ports.items() if lifetime.kernel]
        if mine and self.rng.random() < 0.5:
            self.world.close(dom.domid, self.rng.choice(mine), None)
        elif len(mine) < 3:
            remote = self.rng.choice(list(self.world.domains))
            self.world.open(dom.domid, None, self.rng.choice([1, 4, 5]), remote_dom=remote)
        if any(not w.done and w.domid not in self.dead for w in self.workers):
            self.at(int(self.rng.expovariate(self.recipe.kernel / 4_000)) + 1, self._kernel)

    def _crash(self) -> None:
        """A domain dies; Xen closes its ports some time later."""
        domid = self.rng.choice(list(self.world.domains))
        self.dead[domid] = self.now
        for port in list(self.world.domains[domid].ports):
            delay = self.rng.randrange(200_000)
            self.at(delay, partial(self._vanish, domid, port))

    def _vanish(self, domid: int, port: int) -> None:
        self.world.close(domid, port, None)

    # -- what an agent writes down ---------------------------------------------------------

    def history(self) -> History:
        """Return the history, on clocks that are wrong within the recipe's bound."""
        runners: dict[tuple[int, int], list[Runner]] = defaultdict(list)
        for runner in self.workers + self.receivers:
            runners[runner.domid, runner.number].append(runner)
        logs = []
        clocks = {domid: self._clock() for domid in self.world.domains}
        for (domid, number), same in sorted(runners.items()):
            hz, zero, offset = clocks[domid]
            calls = [call for runner in same for call in runner.calls]
            logs.append(
                ThreadLog(
                    domid=domid,
                    domain="dom0" if domid == 0 else f"domu{domid}",
                    thread=number,
                    vcpu=number % 2,
                    records=_records(self._seen(calls), hz, zero, offset),
                    tick_hz=hz,
                    ticks_at_zero=zero,
                    error_ns=self.recipe.skew_ns + 1 + 1_000_000_000 // hz,  # and up to one tick
                )
            )
        meta = {"drained_ns": QUIET_NS}
        held = frozenset(rule.value for rule in by_version(_RELEASE).held)
        release = (_RELEASE.major, _RELEASE.minor)
        return History(self.recipe.flavour, release, "x86_64", "simulated", tuple(logs), meta, held)

    def _seen(self, calls: list[Call]) -> list[Call]:
        # An agent's receiver records only what it got; in a crash nothing of a wait is known.
        return [c for c in calls if not (c.op is Op.RECV and c.returned is None)]

    def _clock(self) -> tuple[int, int, int]:
        hz = self.rng.choice([62_500_000, 1_000_000_000, 2_399_987_000])
        skew = self.recipe.skew_ns
        return hz, self.rng.randrange(1 << 50), self.rng.randint(-skew, skew)


def _records(calls: Iterable[Call], hz: int, zero: int, offset: int) -> npt.NDArray[np.void]:
    rows = []
    for call in calls:
        begin = zero + (call.called + offset) * hz // 1_000_000_000
        end = 0
        if call.returned is not None:
            end = zero + (call.returned + offset) * hz // 1_000_000_000
        result = call.result if call.returned is not None else 0
        rows.append((begin, end, call.port, call.arg, result, call.cpu, call.op, call.via))
    return np.array(rows, RECORD)


def generate(recipe: Recipe) -> History:
    """Return a legal history."""
    run = Run(recipe)
    run.run()
    return run.history()
