# SPDX-License-Identifier: GPL-2.0-or-later
"""What an observer of a simulated run can be sure of, by the recorded times alone.

A bug is *visible* only where no writer's call overlaps what would have to be excluded, even on
the worst clocks.
"""

from __future__ import annotations

from harness.history.format.record import ALLOCATING, Op
from harness.history.simulate.run import Recipe, Run
from harness.history.simulate.world import Call, Lifetime


def margin_ns(recipe: Recipe) -> int:
    """Return by how much two times must differ, so that their order is certain on any clock."""
    return 4 * recipe.skew_ns + 8


def apart(run: Run, call: Call, change: Call) -> bool:
    """Say whether ``change`` is certainly before or certainly after ``call``."""
    margin = margin_ns(run.recipe)
    if change is call:
        return True
    if change.returned is not None and change.returned + margin < call.called:
        return True
    return call.returned is not None and call.returned + margin < change.called


def owned_throughout(run: Run, call: Call) -> bool:
    """Say whether the port was an agent's during the whole call, and closed at most once."""
    lifetime = call.lifetime
    if lifetime is None or lifetime.kernel or call.returned is None or not lifetime.changes:
        return False
    if (lifetime.domid, lifetime.port) in run.world.double_closed:
        return False
    if not nobody_else_had(run, lifetime, call):
        return False
    return all(apart(run, call, change) for change in (lifetime.changes[0], *closes_of(lifetime)))


def nobody_else_had(run: Run, lifetime: Lifetime, call: Call) -> bool:
    """Say whether no one else got the port's number about then, and no close is in flight."""
    here = (lifetime.domid, lifetime.port)
    for other in (c for runner in run.runners() for c in runner.calls):
        close = other.op is Op.CLOSE and (other.domid, other.port) == here
        if close and other.returned is None and other.called < (call.returned or 0):
            return False
        given = other.op in ALLOCATING and (other.domid, other.result) == here
        if given and not apart(run, lifetime.changes[0], other):
            return False
    return True


def closes_of(lifetime: Lifetime) -> list[Call]:
    """Return the calls that closed the port itself, not its other end."""
    return [
        c
        for c in lifetime.changes
        if c.op is Op.CLOSE and (c.domid, c.port) == (lifetime.domid, lifetime.port)
    ]


def steady(run: Run, call: Call) -> bool:
    """Say whether the port's state was the same all through the call, and is known."""
    lifetime = call.lifetime
    if lifetime is None or not owned_throughout(run, call) or lifetime.domid in run.dead:
        return False
    if any((peer.domid, peer.port) in run.world.double_closed for peer in lifetime.peers):
        return False
    if not _inside(run, lifetime):
        return False
    peers = {c.domid for c in lifetime.changes} | {lifetime.remote_dom}
    return not peers & set(run.dead) and all(apart(run, call, c) for c in lifetime.changes)


def _inside(run: Run, lifetime: Lifetime) -> bool:
    """Each bind came well after the allocation and before the close of the port that it named.

    Else a kernel may have had that port, and been bound to instead.
    """
    return all(
        apart(run, bind, change)
        for server in (lifetime, *lifetime.peers)
        for bind in server.changes[1:]
        if bind.op is Op.BIND_INTERDOMAIN
        for change in (server.changes[0], *closes_of(server))
    )


def kernel_peer(call: Call) -> bool:
    """Say whether a kernel has the other end: it may close it, and nobody records that."""
    return call.lifetime is not None and any(peer.kernel for peer in call.lifetime.peers)


def tells(call: Call, kind: int) -> bool:
    """Say whether ``call`` is a STATUS that told EVTCHNSTAT ``kind``."""
    return call.op is Op.STATUS and call.result >= 0 and call.result & 0xFF == kind
