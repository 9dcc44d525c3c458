"""One bug in a simulated Xen, with an effect that the history shows.

Some bugs change an answer afterwards; others make the simulated Xen do the wrong thing
once.  ``inject`` only returns a history when the effect is visible: no writer's call
overlaps what would have to be excluded, even on the worst clocks.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from harness.history.history import History
from harness.history.record import Op, Via
from harness.history.scope import ALLOCATING
from harness.history.simulate.run import QUIET_NS, Recipe, Run
from harness.history.simulate.world import EINVAL, INTERDOMAIN, UNBOUND, VIRQ, Call, Life


def inject(recipe: Recipe, bug: str) -> tuple[History, Call] | None:
    """Return a history with one visible ``bug`` and its culprit; None: no chance came up."""
    if bug in ANSWERS:
        return _wrong_answer(recipe, bug)
    return _wrong_deed(recipe, bug)


def _margin(recipe: Recipe) -> int:
    return 4 * recipe.skew_ns + 8


def _clear(run: Run, call: Call, change: Call) -> bool:
    """Say whether ``change`` is certainly before or certainly after ``call``."""
    margin = _margin(run.recipe)
    if change is call:
        return True
    if change.returned is not None and change.returned + margin < call.called:
        return True
    return call.returned is not None and call.returned + margin < change.called


def _owned_throughout(run: Run, call: Call) -> bool:
    """The port met was an agent's during the whole call, and nobody closed it a second time."""
    life = call.life
    if life is None or life.kernel or call.returned is None or not life.changes:
        return False
    if (life.domid, life.port) in run.world.double_closed or not _known(run, life, call):
        return False
    return all(_clear(run, call, change) for change in (life.changes[0], *_closes(life)))


def _known(run: Run, life: Life, call: Call) -> bool:
    """Nobody else was given the port's number about then, and no close of it is in flight."""
    here = (life.domid, life.port)
    for other in (c for runner in run.runners() for c in runner.calls):
        flying = other.op is Op.CLOSE and (other.domid, other.port) == here
        if flying and other.returned is None and other.called < (call.returned or 0):
            return False
        given = other.op in ALLOCATING and (other.domid, other.result) == here
        if given and not _clear(run, life.changes[0], other):
            return False
    return True


def _closes(life: Life) -> list[Call]:
    return [
        c for c in life.changes if c.op is Op.CLOSE and (c.domid, c.port) == (life.domid, life.port)
    ]


def _steady(run: Run, call: Call) -> bool:
    """The port's state did not change during the call, nor did its peers' ports vanish."""
    life = call.life
    if life is None or not _owned_throughout(run, call) or life.domid in run.dead:
        return False
    if any((peer.domid, peer.port) in run.world.double_closed for peer in life.peers):
        return False
    if not _inside(run, life):
        return False
    peers = {c.domid for c in life.changes} | {life.remote_dom}
    return not peers & set(run.dead) and all(_clear(run, call, c) for c in life.changes)


def _inside(run: Run, life: Life) -> bool:
    """Each bind came well after the birth and before the close of the port that it named.

    Else a kernel may have had that port, and been bound to instead.
    """
    return all(
        _clear(run, bind, change)
        for server in (life, *life.peers)
        for bind in server.changes[1:]
        if bind.op is Op.BIND_INTERDOMAIN
        for change in (server.changes[0], *_closes(server))
    )


def _kernel_peer(call: Call) -> bool:
    """A kernel has the other end: it may close it, and nobody records that."""
    return call.life is not None and any(peer.kernel for peer in call.life.peers)


_NO_VCPU = 200  # that no operation binds to


def _spoil_result(value: int) -> Callable[[Call], None]:
    def spoil(call: Call) -> None:
        call.result = value

    return spoil


def _status(call: Call, kind: int) -> bool:
    return call.op is Op.STATUS and call.result >= 0 and call.result & 0xFF == kind


def _unbind_status(call: Call) -> None:
    call.result, call.arg = call.result & ~0xFF | UNBOUND, 0


def _other_vcpu(call: Call) -> None:
    call.result = call.result & ~0xFF00 | _NO_VCPU << 8


def _other_port(call: Call) -> None:
    call.arg += 1


def _other_domain(call: Call) -> None:
    call.result ^= 1 << 16


# Bug: (which answers it can spoil, how).
ANSWERS: dict[str, tuple[Callable[[Run, Call], bool], Callable[[Call], None]]] = {
    "send refused": (
        lambda run, c: (
            c.op is Op.SEND and c.via is Via.RAW and c.result == 0 and _owned_throughout(run, c)
        ),
        _spoil_result(EINVAL),
    ),
    "poll refused": (
        lambda run, c: c.op is Op.POLL and c.result == 0 and _owned_throughout(run, c),
        _spoil_result(EINVAL),
    ),
    "unmask refused": (
        lambda run, c: c.op is Op.UNMASK and c.result == 0 and _owned_throughout(run, c),
        _spoil_result(EINVAL),
    ),
    "status closed": (
        lambda run, c: c.op is Op.STATUS and c.result > 0 and _owned_throughout(run, c),
        _spoil_result(0),
    ),
    "status unbound": (
        lambda run, c: _status(c, INTERDOMAIN) and _steady(run, c) and not _kernel_peer(c),
        _unbind_status,
    ),
    "status wrong port": (
        lambda run, c: _status(c, INTERDOMAIN) and _steady(run, c),
        _other_port,
    ),
    "status wrong domain": (
        lambda run, c: (_status(c, INTERDOMAIN) or _status(c, UNBOUND)) and _steady(run, c),
        _other_domain,
    ),
    "status wrong vcpu": (
        lambda run, c: (
            c.op is Op.STATUS
            and c.result > 0
            and c.life is not None
            and not c.life.device
            and _owned_throughout(run, c)
        ),
        _other_vcpu,
    ),
    "send to VIRQ accepted": (
        lambda run, c: (
            c.op is Op.SEND
            and c.via is Via.RAW
            and c.result == EINVAL
            and c.life is not None
            and c.life.kind == VIRQ
            and _owned_throughout(run, c)
        ),
        _spoil_result(0),
    ),
}


def _wrong_answer(recipe: Recipe, bug: str) -> tuple[History, Call] | None:
    run = Run(recipe)
    run.run()
    fits, spoil = ANSWERS[bug]
    chances = [c for runner in run.runners() for c in runner.calls if fits(run, c)]
    if not chances:
        return None
    call = random.Random(recipe.seed).choice(chances)
    spoil(call)
    return run.history(), call


# -- wrong deeds ---------------------------------------------------------------------------


def _wrong_deed(recipe: Recipe, bug: str) -> tuple[History, Call] | None:
    run = Run(recipe)
    rng = random.Random(recipe.seed)
    deed = _Deed(run, bug, rng.randrange(1, 12))
    run.world.spoil = deed.spoil
    if bug in ("event invented", "event on a closed port"):
        run.at(rng.randrange(20_000, 20_000 + 6_000 * recipe.operations), deed.deliver)
    run.run()
    if deed.life is None or run.world.double_closed or recipe.crash:
        return None
    call = DEEDS[bug](run, deed)
    return None if call is None else (run.history(), call)


class _Deed:
    """Misbehaves at the ``left``-th chance, once, and remembers where."""

    def __init__(self, run: Run, bug: str, left: int) -> None:
        self.run = run
        self.bug = bug
        self.left = left
        self.life: Life | None = None
        self.when = 0

    def spoil(self, what: str, life: Life | None) -> bool:
        if what != self.bug or self.life is not None or life is None or life.kernel:
            return False
        self.left -= 1
        last = self.bug == "send lost" and self.run.load.left > 4  # else the next send hides it
        if self.left > 0 or last:
            return False
        self.life, self.when = life, self.run.now
        return True

    def deliver(self) -> None:
        rng, world = self.run.rng, self.run.world
        dom = world.domains[rng.choice(list(world.domains))]
        idle = [
            life
            for life in dom.ports.values()
            if life.device and life.enabled and not life.masked and not life.pending
        ]
        if self.bug == "event on a closed port":
            self.life, self.when = Life(dom.domid, 999, UNBOUND), self.run.now
            world.queue(dom.domid, 999, self.life)
        elif idle:
            self.life, self.when = rng.choice(idle), self.run.now
            self.life.masked, self.life.enabled = True, False
            world.queue(dom.domid, self.life.port, self.life)


def _calls(run: Run, deed: _Deed, op: Op) -> list[Call]:
    """Return the calls of sort ``op`` that met the port, in the order of their calls."""
    met = [c for r in run.runners() for c in r.calls if c.op is op and c.life is deed.life]
    return sorted((c for c in met if c.returned is not None), key=lambda c: c.called)


def _settled(run: Run, life: Life) -> bool:
    """Each change of the port, and of those it was connected to, is apart from all others.

    And no kernel's port of one of their numbers was closed: it may have been connected, too.
    """
    ends = (life, *life.peers)
    if any((end.domid, end.port) in run.world.double_closed for end in ends):
        return False
    return all(_known(run, end, end.changes[-1]) for end in ends if end.changes) and all(
        _clear(run, one, other) for end in ends for one in end.changes for other in end.changes
    )


def _at(run: Run, deed: _Deed, ops: set[Op]) -> Call | None:
    """Return the call during which it happened."""
    for runner in run.runners():
        for call in runner.calls:
            inside = call.returned is not None and call.called <= deed.when <= call.returned
            if inside and call.op in ops and _met(call, deed.life):
                return call
    return None


def _met(call: Call, life: Life | None) -> bool:
    if call.op is Op.SEND:
        return call.life is not None and life in call.life.peers
    return call.life is life


def _bind_seen(run: Run, deed: _Deed) -> Call | None:
    call = _at(run, deed, {Op.BIND_INTERDOMAIN})
    if call is None:
        binds = [c for c in deed.life.changes if c.op is Op.BIND_INTERDOMAIN] if deed.life else []
        call = next((c for c in binds if c.called <= deed.when <= (c.returned or 0)), None)
    if call is None or deed.life is None or not _settled(run, deed.life):
        return None
    call = _with_life(call, deed.life)
    return call if _steady(run, call) else None


def _with_life(call: Call, life: Life) -> Call:
    call.life = life
    return call


def _kept_seen(run: Run, deed: _Deed) -> Call | None:
    """The peer of a closed port stays connected: a later STATUS tells."""
    for call in _calls(run, deed, Op.STATUS):
        later = call.called > deed.when + QUIET_NS // 20 + _margin(run.recipe)
        closers = [c for r in run.runners() for c in r.calls if c.op is Op.CLOSE]
        busy = [c for c in closers if not _clear(run, call, c)]
        if later and _status(call, INTERDOMAIN) and _steady(run, call) and not busy:
            return call
    return None


def _silent(run: Run, life: Life, since: Call) -> bool:
    margin = _margin(run.recipe)
    return all(
        (c.returned or 0) + margin < since.called for c in life.received if c.returned is not None
    ) and all(c.returned is not None for c in life.received)


def _closed_early(run: Run, life: Life) -> bool:
    """Say whether the port was closed before the final silence."""
    return any((c.returned or 0) < run.drained for c in _closes(life))


def _enabled_surely(run: Run, deed: _Deed) -> bool:
    life = deed.life
    assert life is not None
    if not life.received:
        return True
    last = max(c.returned or 0 for c in life.received)
    again = [c for c in _calls(run, deed, Op.ENABLE) if c.called >= last]
    return any(all(_clear(run, c, change) for change in life.changes) for c in again)


def _sure_send(run: Run, call: Call) -> bool:
    sender = call.life
    return sender is not None and _steady(run, call) and _settled(run, sender)


def _loss_seen(run: Run, deed: _Deed) -> Call | None:
    life = deed.life
    assert life is not None
    call = _at(run, deed, {Op.SEND})
    quiet = life.device and not _closed_early(run, life) and _settled(run, life)
    if call is None or not quiet or not _sure_send(run, call):
        return None
    if not _silent(run, life, call) or not _enabled_surely(run, deed):
        return None
    return call


def _mask_seen(run: Run, deed: _Deed) -> Call | None:
    life = deed.life
    assert life is not None
    enable = next(
        (c for c in _calls(run, deed, Op.ENABLE) if c.called <= deed.when <= (c.returned or 0)),
        None,
    )
    if enable is None or _closed_early(run, life) or not _settled(run, life):
        return None
    if not all(_clear(run, enable, change) for change in life.changes):
        return None
    for cause in life.causes:
        after = cause.called > (enable.returned or 0) + _margin(run.recipe)
        if after and cause.op is Op.SEND and _sure_send(run, cause) and _silent(run, life, cause):
            return cause
    return None


def _invented_seen(run: Run, deed: _Deed) -> Call | None:
    life = deed.life
    assert life is not None
    received = [c for c in life.received if c.returned is not None]
    extra = next((c for c in received if (c.returned or 0) > deed.when), None)
    reused = [c.life for r in run.runners() for c in r.calls if c.life is not None]
    twice = any(
        o.device and o is not life and (o.domid, o.port) == (life.domid, life.port) for o in reused
    )
    if extra is None or twice or not _settled(run, life) or _calls(run, deed, Op.UNMASK):
        return None
    before = received[: received.index(extra)]
    since = 0
    if len(before) > 1:
        enables = [c.called for c in _calls(run, deed, Op.ENABLE)]
        since = max((t for t in enables if t < (before[-1].returned or 0)), default=0)
    margin = _margin(run.recipe)
    # By its times, a send that began before the two were connected may have come after that.
    ends = {(peer.domid, peer.port) for peer in life.peers}
    sends = (c for r in run.runners() for c in r.calls if c.op is Op.SEND)
    slow = [
        c
        for c in sends
        if (c.domid, c.port) in ends and all(c.life is not peer for peer in life.peers)
    ]
    bound = min((c.called for c in life.changes if c.op is Op.BIND_INTERDOMAIN), default=0)
    if any((c.returned or 1 << 62) + margin >= bound and c.called < bound for c in slow):
        return None
    possible = [
        c
        for c in life.causes
        if (c.returned or 1 << 62) + margin >= since and c.called - margin <= (extra.returned or 0)
    ]
    return None if possible else extra


def _stray_seen(run: Run, deed: _Deed) -> Call | None:
    calls = [c for r in run.receivers for c in r.calls if c.life is deed.life]
    return next((c for c in calls if c.returned is not None), None)


DEEDS: dict[str, Callable[[Run, _Deed], Call | None]] = {
    "bind refused": _bind_seen,
    "bound twice": _bind_seen,
    "peer not released": _kept_seen,
    "send lost": _loss_seen,
    "unmask lost": _mask_seen,
    "event invented": _invented_seen,
    "event on a closed port": _stray_seen,
}
BUGS: tuple[str, ...] = (*ANSWERS, *DEEDS)
