# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults: the simulated Xen does the wrong thing once."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from harness.history.format.history import History
from harness.history.format.record import Op
from harness.history.simulate.run import QUIET_NS, Recipe, Run
from harness.history.simulate.visible import (
    apart,
    closes_of,
    margin_ns,
    nobody_else_had,
    steady,
    tells,
)
from harness.history.simulate.world import INTERDOMAIN, UNBOUND, Call, Lifetime


def with_fault(recipe: Recipe, bug: str) -> tuple[History, Call] | None:
    """Return a history in which the fault ``bug`` (a key of FAULTS) shows, and its culprit.

    None: it did not happen, or nobody could tell.
    """
    run = Run(recipe)
    rng = random.Random(recipe.seed)
    trap = _Trap(run, bug, rng.randrange(1, 12))
    run.world.goes_wrong = trap.goes_wrong
    if bug in ("event invented", "event on a closed port"):
        run.at(rng.randrange(20_000, 20_000 + 6_000 * recipe.operations), trap.deliver)
    run.run()
    if trap.fault is None or run.world.double_closed or recipe.crash:
        return None
    call = FAULTS[bug](run, trap.fault)
    return None if call is None else (run.history(), call)


@dataclass(frozen=True)
class _Fault:
    """What went wrong: on which port, and when (ns)."""

    lifetime: Lifetime
    when: int


class _Trap:
    """Lets ``bug`` happen once, at the ``left``-th chance."""

    def __init__(self, run: Run, bug: str, left: int) -> None:
        self.run = run
        self.bug = bug
        self.left = left
        self.fault: _Fault | None = None

    def goes_wrong(self, what: str, lifetime: Lifetime | None) -> bool:
        """Say whether ``what`` goes wrong now on that port."""
        if what != self.bug or self.fault is not None or lifetime is None or lifetime.kernel:
            return False
        self.left -= 1
        early = self.bug == "send lost" and self.run.load.left > 4  # the next send would hide it
        if self.left > 0 or early:
            return False
        self.fault = _Fault(lifetime, self.run.now)
        return True

    def deliver(self) -> None:
        """Deliver an event that nobody sent."""
        rng, world = self.run.rng, self.run.world
        dom = world.domains[rng.choice(list(world.domains))]
        idle = [
            lifetime
            for lifetime in dom.ports.values()
            if lifetime.device and lifetime.enabled and not lifetime.masked and not lifetime.pending
        ]
        if self.bug == "event on a closed port":
            lifetime = Lifetime(dom.domid, 999, UNBOUND)
        elif idle:
            lifetime = rng.choice(idle)
            lifetime.masked, lifetime.enabled = True, False
        else:
            return
        self.fault = _Fault(lifetime, self.run.now)
        world.queue(dom.domid, lifetime.port, lifetime)


# -- whether a fault shows: by which call, or None -----------------------------------------


def _calls(run: Run, fault: _Fault, op: Op) -> list[Call]:
    """Return the calls of sort ``op`` that met the port, in the order of their calls."""
    met = [c for r in run.runners() for c in r.calls if c.op is op and c.lifetime is fault.lifetime]
    return sorted((c for c in met if c.returned is not None), key=lambda c: c.called)


def _settled(run: Run, lifetime: Lifetime) -> bool:
    """Each change of the port, and of those it was connected to, is apart from all others.

    And no kernel's port of one of their numbers was closed: it may have been connected, too.
    """
    ends = (lifetime, *lifetime.peers)
    if any((end.domid, end.port) in run.world.double_closed for end in ends):
        return False
    return all(nobody_else_had(run, end, end.changes[-1]) for end in ends if end.changes) and all(
        apart(run, one, other) for end in ends for one in end.changes for other in end.changes
    )


def _at(run: Run, fault: _Fault, ops: set[Op]) -> Call | None:
    """Return the call during which it happened."""
    for runner in run.runners():
        for call in runner.calls:
            inside = call.returned is not None and call.called <= fault.when <= call.returned
            if inside and call.op in ops and _met(call, fault.lifetime):
                return call
    return None


def _met(call: Call, lifetime: Lifetime) -> bool:
    if call.op is Op.SEND:
        return call.lifetime is not None and lifetime in call.lifetime.peers
    return call.lifetime is lifetime


def _bind_shows(run: Run, fault: _Fault) -> Call | None:
    call = _at(run, fault, {Op.BIND_INTERDOMAIN})
    if call is None:
        binds = [c for c in fault.lifetime.changes if c.op is Op.BIND_INTERDOMAIN]
        call = next((c for c in binds if c.called <= fault.when <= (c.returned or 0)), None)
    if call is None or not _settled(run, fault.lifetime):
        return None
    call.lifetime = fault.lifetime
    return call if steady(run, call) else None


def _kept_shows(run: Run, fault: _Fault) -> Call | None:
    """The peer of a closed port stays connected: a later STATUS tells."""
    for call in _calls(run, fault, Op.STATUS):
        later = call.called > fault.when + QUIET_NS // 20 + margin_ns(run.recipe)
        closers = [c for r in run.runners() for c in r.calls if c.op is Op.CLOSE]
        busy = [c for c in closers if not apart(run, call, c)]
        if later and tells(call, INTERDOMAIN) and steady(run, call) and not busy:
            return call
    return None


def _silent(run: Run, lifetime: Lifetime, since: Call) -> bool:
    """Say whether every delivery was certainly before ``since``."""
    margin = margin_ns(run.recipe)
    return all(
        c.returned is not None and c.returned + margin < since.called for c in lifetime.received
    )


def _closed_early(run: Run, lifetime: Lifetime) -> bool:
    """Say whether the port was closed before the final silence."""
    return any((c.returned or 0) < run.drained for c in closes_of(lifetime))


def _enabled_surely(run: Run, fault: _Fault) -> bool:
    lifetime = fault.lifetime
    if not lifetime.received:
        return True
    last = max(c.returned or 0 for c in lifetime.received)
    again = [c for c in _calls(run, fault, Op.ENABLE) if c.called >= last]
    return any(all(apart(run, c, change) for change in lifetime.changes) for c in again)


def _sure_send(run: Run, call: Call) -> bool:
    sender = call.lifetime
    return sender is not None and steady(run, call) and _settled(run, sender)


def _loss_shows(run: Run, fault: _Fault) -> Call | None:
    lifetime = fault.lifetime
    call = _at(run, fault, {Op.SEND})
    quiet = lifetime.device and not _closed_early(run, lifetime) and _settled(run, lifetime)
    if call is None or not quiet or not _sure_send(run, call):
        return None
    if not _silent(run, lifetime, call) or not _enabled_surely(run, fault):
        return None
    return call


def _mask_shows(run: Run, fault: _Fault) -> Call | None:
    lifetime = fault.lifetime
    enable = next(
        (c for c in _calls(run, fault, Op.ENABLE) if c.called <= fault.when <= (c.returned or 0)),
        None,
    )
    if enable is None or _closed_early(run, lifetime) or not _settled(run, lifetime):
        return None
    if not all(apart(run, enable, change) for change in lifetime.changes):
        return None
    for cause in lifetime.causes:
        after = cause.called > (enable.returned or 0) + margin_ns(run.recipe)
        sent = after and cause.op is Op.SEND and _sure_send(run, cause)
        if sent and _silent(run, lifetime, cause):
            return cause
    return None


def _invented_shows(run: Run, fault: _Fault) -> Call | None:
    lifetime = fault.lifetime
    received = [c for c in lifetime.received if c.returned is not None]
    extra = next((c for c in received if (c.returned or 0) > fault.when), None)
    reused = [c.lifetime for r in run.runners() for c in r.calls if c.lifetime is not None]
    here = (lifetime.domid, lifetime.port)
    twice = any(o.device and o is not lifetime and (o.domid, o.port) == here for o in reused)
    if extra is None or twice or not _settled(run, lifetime) or _calls(run, fault, Op.UNMASK):
        return None
    before = received[: received.index(extra)]
    since = 0
    if len(before) > 1:
        enables = [c.called for c in _calls(run, fault, Op.ENABLE)]
        since = max((t for t in enables if t < (before[-1].returned or 0)), default=0)
    margin = margin_ns(run.recipe)
    # By its times, a send that began before the two were connected may have come after that.
    ends = {(peer.domid, peer.port) for peer in lifetime.peers}
    sends = (c for r in run.runners() for c in r.calls if c.op is Op.SEND)
    slow = [
        c
        for c in sends
        if (c.domid, c.port) in ends and all(c.lifetime is not peer for peer in lifetime.peers)
    ]
    bound = min((c.called for c in lifetime.changes if c.op is Op.BIND_INTERDOMAIN), default=0)
    if any((c.returned or 1 << 62) + margin >= bound and c.called < bound for c in slow):
        return None
    possible = [
        c
        for c in lifetime.causes
        if (c.returned or 1 << 62) + margin >= since and c.called - margin <= (extra.returned or 0)
    ]
    return None if possible else extra


def _stray_shows(run: Run, fault: _Fault) -> Call | None:
    calls = [c for r in run.receivers for c in r.calls if c.lifetime is fault.lifetime]
    return next((c for c in calls if c.returned is not None), None)


FAULTS: dict[str, Callable[[Run, _Fault], Call | None]] = {
    "bind refused": _bind_shows,
    "bound twice": _bind_shows,
    "peer not released": _kept_shows,
    "send lost": _loss_shows,
    "unmask lost": _mask_shows,
    "event invented": _invented_shows,
    "event on a closed port": _stray_shows,
}
