# SPDX-License-Identifier: GPL-2.0-or-later
"""Judge a tiny history the slow and obvious way: try every order, ask the model each time.

Nothing is shared with the checker: states come from ``harness.model.evtchn.predict.predict``,
orders from plain recursion.  What the checker assumes about the unrecorded is said here
in its simplest form: a free port may be the kernel's, which may answer anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.history.format.columns import NEVER
from harness.history.format.history import History
from harness.history.format.record import Op
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.domain import Domain, State, Vcpu, World
from harness.model.evtchn.operations import (
    AllocUnbound,
    BindInterdomain,
    BindIpi,
    BindVirq,
    Close,
    Operation,
    Poll,
    Result,
    Send,
    Status,
    Unmask,
)
from harness.model.evtchn.predict import predict
from harness.model.evtchn.releases import Release
from harness.model.evtchn.rules import Rules, by_names, by_version

EINVAL = -22


@dataclass(frozen=True)
class Step:
    """One operation of the history."""

    domid: int
    log: int
    op: Op
    port: int
    arg: int
    result: int
    call: int
    ret: int


@dataclass(frozen=True)
class Reality:
    """A state: the agents' ports, and those among them whose other end is a kernel's."""

    world: World
    vague: frozenset[tuple[int, int]] = frozenset()


def explained(history: History) -> bool:
    """Say whether some order of the operations, within their intervals, explains all answers."""
    columns = history.columns
    steps = [
        Step(
            history.threads[columns.log[i]].domid,
            int(columns.log[i]),
            Op(columns.op[i]),
            int(columns.port[i]),
            int(columns.arg[i]),
            int(columns.result[i]),
            int(columns.call[i]),
            int(columns.ret[i]),
        )
        for i in range(len(columns))
    ]
    domids = sorted({log.domid for log in history.threads})
    vcpus = tuple(Vcpu() for _ in range(4))
    domains = tuple(Domain(d, vcpus=vcpus, partial=True, privileged=True) for d in domids)
    return _explained(steps, Reality(World(domains, rules=_rules(history))))


def _rules(history: History) -> Rules:
    release = Release(*history.release)
    return by_version(release) if history.rules is None else by_names(release, history.rules)


def _explained(left: list[Step], now: Reality) -> bool:
    if all(step.ret == NEVER for step in left):
        return True
    first_return = min(step.ret for step in left)
    for index, step in enumerate(left):
        if step.call > first_return:
            continue
        rest = left[:index] + left[index + 1 :]
        if any(_explained(rest, after) for after in _after(step, now)):
            return True
    return False


def _after(step: Step, now: Reality) -> list[Reality]:
    """Return all states in which ``step`` can leave ``now`` with the answer it got."""
    if step.ret == NEVER:
        return _unknown(step, now)
    if step.op is Op.BIND_INTERDOMAIN:
        return _bind(step, now)
    if step.op in (Op.ALLOC_UNBOUND, Op.BIND_IPI, Op.BIND_VIRQ):
        if step.result < 0:
            return [now]
        return [r for result, r in _ask(step, now) if result.code == step.result]
    if _state(now, step.domid, step.port) is State.FREE:
        return [now]  # the kernel's, perhaps
    if (step.domid, step.port) in now.vague:
        return _vague(step, now)
    return [r for result, r in _ask(step, now) if _matches(step, result)]


def _unknown(step: Step, now: Reality) -> list[Reality]:
    """It may not have happened; a close or bind may have, with the answer lost."""
    if step.op is Op.CLOSE:
        return [now, *_after(replace(step, ret=0, result=0), now)]
    if step.op is Op.BIND_INTERDOMAIN:
        remote = (_resolve(step, step.arg), step.port)
        if _state(now, *remote) is State.FREE:
            return [now]
        channel = _domain(now, remote[0]).port(remote[1])
        unbound = channel.state is State.UNBOUND and channel.remote_dom == step.domid
        taken = replace(now, vague=now.vague | {remote})
        return [now, taken] if unbound else [now]
    return [now]


def _bind(step: Step, now: Reality) -> list[Reality]:
    remote = (_resolve(step, step.arg), step.port)
    foreign = _state(now, *remote) is State.FREE
    vague = remote in now.vague
    if step.result < 0:
        refused = any(result.rc == step.result for result, _ in _ask(step, now))
        return [now] if foreign or vague or refused or step.result != EINVAL else []
    if _state(now, step.domid, step.result) is not State.FREE:
        return []
    if not foreign and not vague:
        return [r for result, r in _ask(step, now) if result.code == step.result]
    if not foreign:  # it was unbound then, and is connected to this port now
        domain = _domain(now, remote[0])
        channel = replace(domain.port(remote[1]), state=State.UNBOUND)
        world = now.world.with_domain(domain.with_port(remote[1], channel))
        known = Reality(world, now.vague - {remote})
        return [r for result, r in _ask(step, known) if result.code == step.result]
    # The other end is a kernel's: only this end is known.
    opened = AllocUnbound(step.domid, DOMID_SELF, remote[0])
    worlds = [o.world for o in predict(now.world, opened) if o.result.code == step.result]
    here = (step.domid, step.result)
    return [Reality(world, now.vague | {here}) for world in worlds]


def _vague(step: Step, now: Reality) -> list[Reality]:
    """A port that is unbound for, or connected to, a known domain."""
    here = (step.domid, step.port)
    channel = _domain(now, step.domid).port(step.port)
    if step.op is Op.CLOSE and step.result == 0:
        closed = [r for result, r in _ask(step, now) if result.rc == 0]
        return [replace(r, vague=r.vague - {here}) for r in closed]
    if step.op is Op.STATUS:
        told = step.result & 0xFF in (1, 2) and step.result >> 16 == channel.remote_dom
        itself = step.result & 0xFF == 2 and (channel.remote_dom, step.arg) == here
        return [now] if step.result >= 0 and told and not itself else []
    return [now] if step.result == 0 else []


def _matches(step: Step, result: Result) -> bool:
    if step.op is Op.STATUS and result.status is not None:
        told = result.status
        number = told.status | told.dom << 16
        detail = step.arg if told.status in (2, 4) else told.detail
        return step.result & ~0xFF00 == number and detail == told.detail
    return result.rc == step.result


def _ask(step: Step, now: Reality) -> list[tuple[Result, Reality]]:
    outcomes = predict(now.world, _operation(step))
    return [(outcome.result, replace(now, world=outcome.world)) for outcome in outcomes]


def _operation(step: Step) -> Operation:
    me = step.domid
    match step.op:
        case Op.ALLOC_UNBOUND:
            return AllocUnbound(me, step.port, step.arg)
        case Op.BIND_INTERDOMAIN:
            return BindInterdomain(me, step.arg, step.port)
        case Op.BIND_VIRQ:
            return BindVirq(me, step.port, step.arg)
        case Op.BIND_IPI:
            return BindIpi(me, step.arg)
        case Op.CLOSE:
            return Close(me, step.port)
        case Op.SEND:
            return Send(me, step.port)
        case Op.STATUS:
            return Status(me, DOMID_SELF, step.port)
        case Op.POLL:
            return Poll(me, (step.port,))
        case Op.UNMASK:
            return Unmask(me, step.port)
    raise ValueError(step.op)


def _resolve(step: Step, domid: int) -> int:
    return step.domid if domid == DOMID_SELF else domid


def _domain(now: Reality, domid: int) -> Domain:
    domain = now.world.domain(domid)
    assert domain is not None
    return domain


def _state(now: Reality, domid: int, port: int) -> State:
    return _domain(now, domid).port(port).state
