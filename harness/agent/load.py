# SPDX-License-Identifier: GPL-2.0-or-later
"""Load on all domains at once, from one seed; its records become one history."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import TypeVar

from harness.agent import clock
from harness.agent.client import AgentClient
from harness.agent.clock import Clock
from harness.agent.load_agent import QUIET_MS, LoadAgent
from harness.agent.wire import AgentGarbled
from harness.history.format.history import History, ThreadLog
from harness.verdict import ConfigError, HarnessError, LabError

STATUS_EVERY = 0.5  # seconds
_SALVAGE_AT_MOST = 60.0  # seconds

Value = TypeVar("Value")


@dataclass(frozen=True)
class LoadPlan:
    """What to do, and how much of it.

    ``raw``, ``device``, ``cross`` and ``virq`` are numbers of channels per domain.  Both ends of
    a ``raw`` or ``device`` channel are in that domain; they are made by hypercalls or through
    /dev/xen/evtchn.  ``cross`` is for each other domain, and for each of four kinds: made by a
    hypercall or the device, allocated here or bound here.  ``virq`` is for each of three kinds:
    VIRQ by hypercall, VIRQ by the device, IPI.
    """

    seed: int
    duration_s: float
    # Of it come the numbers of this load that the headers of its pages of records have.
    secret: int = field(default_factory=lambda: secrets.randbits(128), repr=False)
    threads_per_vcpu: int = 1
    records: int = 1 << 18  # room per thread (8 MiB); a thread ends when it is full
    raw: int = 4
    device: int = 3
    cross: int = 2
    virq: int = 1

    def run_of(self, domid: int) -> int:
        """Return the number that the load has in the pages of domain ``domid``, 32 bits.

        Only the agent of that domain is told it.  So who finds pages in the machine's memory knows
        whose they are: a guest cannot plant pages of another domain.
        """
        digest = hashlib.blake2b(f"{self.secret} {domid}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "little")


@dataclass(frozen=True)
class LoadProgress:
    """How far a load is."""

    elapsed_s: float
    operations: Mapping[str, int]  # so far, by domain
    per_second: float  # operations of all domains, since the progress before


def run_load(
    agents: Mapping[str, AgentClient],
    plan: LoadPlan,
    *,
    flavour: str,
    release: tuple[int, int],
    rules: frozenset[str] | None = None,
    arch: str,
    host: str,
    progress: Callable[[LoadProgress], None],
    watch: Callable[[], None],
    broke: Callable[[BaseException], None] = lambda error: None,
    salvage: Callable[[History], None] = lambda history: None,
) -> History:
    """Put load on every domain of ``agents`` (name to client; one is dom0's) and record it.

    ``watch`` is called at least once a second, and raises when another part of the machine has
    failed.  At the end all ports are closed; those that Xen does not report as closed are in
    ``meta["open_ports"]`` of the history, by domain.

    Raises AgentLost when an agent no longer answers, OperationInFlight when an operation of a
    thread does not return from Xen, LabError when a thread makes no operation for another
    reason, and what ``watch`` raises.  Before it raises, it calls ``broke`` with the error, and
    ``salvage`` with the history of what can still be collected, operations in flight included
    (harness.agent.recover can add to that).
    """
    if all(agent.domid != 0 for agent in agents.values()):
        raise HarnessError("a load needs dom0's agent: its clock is the reference")
    if len({agent.domid for agent in agents.values()}) < len(agents):
        raise LabError("two agents say that they are in the same domain")
    loaded = {name: LoadAgent(agents[name], i) for i, name in enumerate(sorted(agents))}

    def history(complete: bool) -> History:
        meta = _meta(plan, loaded) | {"complete": complete}
        if complete:  # only then did every agent read events until no more came
            meta["drained_ns"] = QUIET_MS * 1_000_000
        logs = tuple(_checked(log, drop=not complete) for log in _logs(loaded))
        return History(flavour, release, arch, host, logs, meta, rules)

    pool = ThreadPoolExecutor(len(loaded), "agent")
    on_all = _OnAll(pool, loaded, watch)
    try:
        _read_clocks(loaded, watch)
        _begin(loaded, plan, on_all)
        on_all(LoadAgent.go)
        _let_run(loaded, plan, on_all, progress)
        on_all(LoadAgent.stop)
        on_all(LoadAgent.drain)  # all of them, before the first port is closed
        on_all(LoadAgent.release)
        _read_clocks(loaded, watch)
        on_all(LoadAgent.collect)
        return history(complete=True)
    except BaseException as error:
        broke(error)
        _salvage(loaded)
        salvage(history(complete=False))
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class _OnAll:
    """Calls a function for all agents at once; raises its first error, or what watch raises."""

    pool: ThreadPoolExecutor
    agents: Mapping[str, LoadAgent]
    watch: Callable[[], None]

    def __call__(self, task: Callable[[LoadAgent], Value]) -> dict[str, Value]:
        futures = {name: self.pool.submit(task, agent) for name, agent in self.agents.items()}
        pending: set[Future[Value]] = set(futures.values())
        while pending:
            done, pending = wait(pending, STATUS_EVERY, FIRST_EXCEPTION)
            self.watch()
            for future in done:
                future.result()
        return {name: future.result() for name, future in futures.items()}


def _read_clocks(agents: Mapping[str, LoadAgent], watch: Callable[[], None]) -> None:
    """Compare each clock with dom0's, one after the other: a comparison needs both CPUs."""
    for agent in agents.values():
        watch()
        agent.read_clock()


def _begin(agents: Mapping[str, LoadAgent], plan: LoadPlan, on_all: _OnAll) -> None:
    """Have every agent make its channels, and tell each which ports of its peers it may bind to."""

    def begin(agent: LoadAgent) -> Mapping[int, list[int]]:
        peers = [a.client.domid for a in agents.values() if a is not agent]
        return agent.begin(
            {
                "seed": plan.seed,
                "run": plan.run_of(agent.client.domid),
                "records": plan.records,
                "raw": plan.raw,
                "device": plan.device,
                "cross": plan.cross,
                "virq": plan.virq,
                "peers": peers,
            },
            plan.threads_per_vcpu,
        )

    bindable = {agents[name].client.domid: ports for name, ports in on_all(begin).items()}

    def set_peer_ports(agent: LoadAgent) -> None:
        me = agent.client.domid
        others = {peer: ports for peer, ports in bindable.items() if peer != me}
        if silent := [peer for peer, ports in others.items() if me not in ports]:
            raise AgentGarbled(
                f"domain {silent[0]} does not say which ports domain {me} may bind to"
            )
        agent.set_peer_ports({peer: ports[me] for peer, ports in others.items()})

    on_all(set_peer_ports)


def _let_run(
    agents: Mapping[str, LoadAgent],
    plan: LoadPlan,
    on_all: _OnAll,
    progress: Callable[[LoadProgress], None],
) -> None:
    """Wait until the load's time is over, or the records of all threads are full."""
    began = last = time.monotonic()
    total = 0
    while (left := began + plan.duration_s - time.monotonic()) > 0:
        time.sleep(min(STATUS_EVERY, left))
        on_all(LoadAgent.watch_progress)
        now = time.monotonic()
        done = {name: agent.operations for name, agent in agents.items()}
        rate = (sum(done.values()) - total) / (now - last)
        progress(LoadProgress(now - began, done, rate))
        total, last = sum(done.values()), now
        if all(agent.full for agent in agents.values()):
            return


def _salvage(agents: Mapping[str, LoadAgent]) -> None:
    """Collect the records of every agent that still answers, even if its load still runs."""
    pool = ThreadPoolExecutor(len(agents), "salvage")
    wait([pool.submit(agent.salvage) for agent in agents.values()], _SALVAGE_AT_MOST)
    pool.shutdown(wait=False)


def _logs(agents: Mapping[str, LoadAgent]) -> list[ThreadLog]:
    clocks = _clocks(agents)
    return [
        ThreadLog(
            domid=agent.client.domid,
            domain=name,
            thread=thread.thread,
            vcpu=thread.vcpu,
            records=thread.records,
            tick_hz=clocks[name].tick_hz,
            ticks_at_zero=clocks[name].ticks_at_zero,
            error_ns=clocks[name].error_ns,
            lost=thread.lost,
        )
        for name, agent in agents.items()
        if name in clocks
        for thread in agent.collected.values()
    ]


def _checked(log: ThreadLog, *, drop: bool) -> ThreadLog:
    """Return ``log``; if it cannot be what a thread did, ``drop`` its records, or AgentGarbled."""
    try:
        log.validate()
        return log
    except ConfigError as error:  # whoever made these records: it was not the user
        if drop:
            return replace(log, records=log.records[:0])
        raise AgentGarbled(f"records that cannot be: {error}", where=log.domain) from None


def _clocks(agents: Mapping[str, LoadAgent]) -> dict[str, Clock]:
    """Return the clock of each agent whose clock was compared at least once."""
    readings = {
        name: (agent.before, agent.after or agent.before)
        for name, agent in agents.items()
        if agent.before
    }
    first = next((name for name in readings if agents[name].client.domid == 0), None)
    if first is None:
        return {}
    dom0 = clock.reference(*readings[first])
    return {
        name: dom0 if name == first else clock.compare(*pair, dom0)
        for name, pair in readings.items()
    }


def _meta(plan: LoadPlan, agents: Mapping[str, LoadAgent]) -> dict[str, object]:
    readings = [r for a in agents.values() for r in (a.before, a.after) if r]
    return {
        "seed": plan.seed,
        "duration_s": plan.duration_s,
        "cpu_error_ns": max((-(-r.skew * 10**9 // r.tick_hz) for r in readings), default=0),
        "open_ports": {name: a.open_ports for name, a in agents.items() if a.open_ports},
    }
