"""Answers: the result of each operation against the states its port can have been in.

Per-port rules in vectorised form; ``harness.model.channels.predict`` says the same, and a
test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from harness.history.check.lives import Axis, Lives, may_have_happened
from harness.history.check.scope import FOREIGN, PORT_BITS, Ports, Scope
from harness.history.check.timeline import (
    ANYTHING,
    INTERDOMAIN,
    IPI,
    OWNED,
    UNBOUND,
    VIRQ,
    Timeline,
    encode,
    later,
    may_be_connected,
    stat,
)
from harness.history.format.columns import Bool, Columns, Int64
from harness.history.format.record import ALLOCATING, Op, Via
from harness.model.domain import PER_VCPU_VIRQS
from harness.model.releases import Errno


class Claim(IntEnum):
    """What an answer says about the state of the port at some instant of the call."""

    CLOSED = 0  # free or reserved
    EXACTLY = 1  # the state that STATUS told
    NO_PEER = 2  # SEND refused: free, or a VIRQ
    PEER = 3  # SEND accepted: not a VIRQ
    FIXED = 4  # BIND_VCPU refused: free, an IPI or a per-vCPU VIRQ
    MOVABLE = 5  # BIND_VCPU accepted
    NOT_FOR_ME = 6  # BIND_INTERDOMAIN refused: the remote port is not unbound for the caller


# Errors that some state of some release allows.  EFAULT: any operation's buffer may fault.
_E = Errno
_ALLOCATION = {_E.EINVAL, _E.ENOSPC, _E.ENOMEM}
ERRORS: dict[Op, set[Errno]] = {
    Op.ALLOC_UNBOUND: _ALLOCATION | {_E.ESRCH, _E.EPERM},
    Op.BIND_INTERDOMAIN: _ALLOCATION | {_E.ESRCH, _E.EPERM},
    Op.BIND_VIRQ: _ALLOCATION | {_E.ENOENT, _E.EEXIST, _E.EBUSY},
    Op.BIND_IPI: _ALLOCATION | {_E.ENOENT},
    Op.CLOSE: {_E.EINVAL},
    Op.SEND: {_E.EINVAL},
    Op.STATUS: {_E.EINVAL, _E.EACCES, _E.ESRCH, _E.EPERM},
    Op.BIND_VCPU: {_E.EINVAL, _E.ENOENT},
    Op.UNMASK: {_E.EINVAL},
    Op.SET_PRIORITY: {_E.EINVAL, _E.ENOSYS, _E.EACCES},
    Op.POLL: {_E.EINVAL},
}


@dataclass(frozen=True)
class Reads:
    """Answers that say something about a port's state."""

    operation: Int64
    group: Int64
    claim: Int64
    state: Int64  # EXACTLY: the state told; NOT_FOR_ME: the one that would have been right
    call: Int64
    ret: Int64


def wrong_numbers(columns: Columns) -> Int64:
    """Return the operations whose result no state of any port could give."""
    raw = (columns.via == Via.RAW) & ~may_have_happened(columns)
    bad = np.zeros(len(columns), bool)
    for op, errors in ERRORS.items():
        these = np.flatnonzero(raw & (columns.op == op))
        result = columns.result[these]
        if op in ALLOCATING:
            good = (result > 0) | np.isin(-result, list(errors))
        elif op is Op.STATUS:
            good = ((result >= 0) & ((result & 0xFF) <= IPI)) | np.isin(-result, list(errors))
        else:
            good = (result == 0) | np.isin(-result, list(errors))
        bad[these[~good]] = True
    device = np.isin(columns.op, list(ALLOCATING)) & (columns.via == Via.DEVICE)
    bad |= device & (columns.result == 0) & ~may_have_happened(columns)
    return np.flatnonzero(bad)


def bound_again(columns: Columns, ports: Ports, born: Lives) -> Int64:
    """Return successful binds of a VIRQ that another port of the domain certainly still had."""
    life = np.flatnonzero(columns.op[born.born] == Op.BIND_VIRQ)
    operation = born.born[life]
    virq = columns.port[operation].astype(np.int64)
    vcpu = np.where(np.isin(virq, list(PER_VCPU_VIRQS)), columns.arg[operation], 0)
    which = (ports.caller[operation] << 40) | (virq << 20) | vcpu
    _, which = np.unique(which, return_inverse=True)
    axis = Axis(born.axis.low, born.axis.low + born.axis.span, len(life) + 1)
    call, ret = axis.at(which, columns.call[operation]), axis.at(which, columns.ret[operation])
    doubtful = born.doubtful[life]
    sure = np.flatnonzero(~doubtful)
    sure = sure[np.argsort(ret[sure], kind="stable")]
    latest = np.maximum.accumulate(axis.at(which[sure], born.end_low[life[sure]]))
    # A doubtful port may be gone again at once: only what was bound before its bind counts.
    before = np.searchsorted(ret[sure], np.where(doubtful, call, ret)) - 1
    again = np.zeros(len(life), bool)
    some = np.flatnonzero(before >= 0)
    again[some] = latest[before[some]] > ret[some]
    return np.asarray(operation[again], np.int64)


def reads(columns: Columns, ports: Ports, scope: Scope, made: Timeline) -> Reads:
    """Return the answers that claim something about an agent's port."""
    known = ~may_have_happened(columns)
    result = columns.result
    einval = result == -Errno.EINVAL
    raw = known & (columns.via == Via.RAW)
    refused = raw & (result < 0)
    op = columns.op
    status = raw & (op == Op.STATUS)
    closed = status & ((result < 0) | ((result & 0xFF) == 0))
    closed |= refused & np.isin(op, [Op.CLOSE, Op.POLL, Op.UNMASK])
    closed |= (op == Op.SET_PRIORITY) & refused & (result == -Errno.EACCES)
    has_virq = bool((stat(made.after) == VIRQ).any() | (stat(made.after) == IPI).any())
    claims: list[tuple[Claim, Bool]] = [
        (Claim.CLOSED, closed),
        (Claim.EXACTLY, status & ~closed),
        (Claim.NO_PEER, refused & (op == Op.SEND)),
        (Claim.FIXED, raw & (op == Op.BIND_VCPU) & einval),
        (Claim.NOT_FOR_ME, known & (op == Op.BIND_INTERDOMAIN) & einval),
    ]
    if has_virq:
        claims += [
            (Claim.PEER, raw & (op == Op.SEND) & (result == 0)),
            (Claim.MOVABLE, raw & (op == Op.BIND_VCPU) & (result == 0)),
        ]
    operation = np.concatenate([np.flatnonzero(mask) for _, mask in claims])
    claim = np.repeat([int(c) for c, _ in claims], [int(mask.sum()) for _, mask in claims])
    bind = claim == Claim.NOT_FOR_ME
    about = np.where(bind, ports.remote[operation], ports.local[operation])
    group = made.lives.find(about)
    mine = group != FOREIGN
    operation, claim, bind, about, group = (
        array[mine] for array in (operation, claim, bind, about, group)
    )
    slack = scope.slack(ports.caller[operation], about >> PORT_BITS)
    told = _told(columns, operation)
    wanted = encode(UNBOUND, ports.caller[operation], 0)
    return Reads(
        operation=operation,
        group=group,
        claim=claim,
        state=np.where(bind, wanted, told),
        call=columns.call[operation] - slack,
        ret=later(columns.ret[operation], slack),
    )


def _told(columns: Columns, operation: Int64) -> Int64:
    """Return the state in a STATUS answer: state | vcpu << 8 | remote domid << 16, and arg."""
    result = columns.result[operation].astype(np.int64)
    arg = columns.arg[operation].astype(np.int64)
    number, domid = result & 0xFF, (result >> 16) & 0xFFFF
    domid = np.where((number == UNBOUND) | (number == INTERDOMAIN), domid, 0)
    arg = np.where((number == INTERDOMAIN) | (number == VIRQ), arg, 0)
    return np.asarray((number << 48) | (domid << PORT_BITS) | arg, np.int64)


def allowed(claim: Int64, told: Int64, state: Int64) -> Bool:
    """Say which claims (with what they told) hold in ``state``, element by element."""
    number = stat(state)
    fixed = number == IPI
    fixed |= (number == VIRQ) & np.isin(state & 0xFFFFFFFF, list(PER_VCPU_VIRQS))
    owned = number == OWNED
    connected = (stat(told) == UNBOUND) | (stat(told) == INTERDOMAIN)
    same = connected & ((told >> PORT_BITS) & 0xFFFF == (state >> PORT_BITS) & 0xFFFF)
    holds = np.select(
        [claim == c for c in Claim],
        [
            np.zeros(len(claim), bool),
            np.where(owned, same, state == told),
            number == VIRQ,
            number != VIRQ,
            fixed,
            ~fixed,
            owned | (state != told),
        ],
    )
    return np.asarray(holds | (state == ANYTHING), bool)


@dataclass(frozen=True)
class Judged:
    """What became of the answers."""

    wrong: Int64  # operations with an answer that no instant of the call allows
    open: Int64  # operations that some, but not all possible states of the port explain
    guessed: Int64  # operations on a port whose state is not known at the time


_WIDEST = 64  # changes under one answer that are looked at one by one


def judge(these: Reads, made: Timeline) -> Judged:
    """Hold ``these`` against the chains; tighten the bounds of changes that an answer fixes.

    An answer that only one position of the chain explains lies there: the change before it
    had happened when the call returned, and the change after it had not when it began.
    """
    first, last = made.positions(these.group, these.call, these.ret)
    count = np.where(last - first < _WIDEST, last - first + 1, 0)
    read = np.repeat(np.arange(len(count)), count)
    offset = np.cumsum(count) - count
    position = np.arange(len(read)) - offset[read] + first[read]
    state = made.state(these.group[read], position)
    holds = allowed(these.claim[read], these.state[read], state)
    holds &= _connectable(these, made, read, position, state)
    explained = np.bincount(read[holds], minlength=len(count))
    wrong = these.operation[(explained == 0) & (count > 0)]
    sure = holds & (explained == 1)[read] & (count[read] > 1)
    _tighten(made, these, read[sure], position[sure])
    before = np.maximum(position - 1, 0)
    vague = np.zeros(len(read), bool)
    if len(made.group):
        life = made.life[before]
        vague = (position > 0) & (made.group[before] == these.group[read])
        vague &= made.lives.doubtful[life] | (stat(state) == OWNED)
    vague &= ~np.isin(these.claim[read], [Claim.PEER, Claim.MOVABLE])  # they tell next to nothing
    guessed = np.bincount(read[vague], minlength=len(count)) > 0
    several = (explained > 1) & (explained < count)
    return Judged(wrong, these.operation[several | (count == 0)], these.operation[guessed])


def _connectable(these: Reads, made: Timeline, read: Int64, position: Int64, state: Int64) -> Bool:
    """Say, by position, whether the port may be connected to the one that STATUS told."""
    fits = np.ones(len(read), bool)
    told = these.state[read]
    asked = np.flatnonzero(
        (these.claim[read] == Claim.EXACTLY) & (stat(told) == INTERDOMAIN) & (stat(state) == OWNED)
    )
    if len(asked):
        life = made.life[position[asked] - 1]
        fits[asked] = may_be_connected(made, life, told[asked] & 0xFFFFFFFF)
    return fits


def _tighten(made: Timeline, these: Reads, read: Int64, position: Int64) -> None:
    if not len(made.group):
        return
    group = these.group[read]
    before = position - 1
    has = (before >= 0) & (made.group[before] == group)
    np.minimum.at(made.high, before[has], these.ret[read[has]])
    after = np.minimum(position, len(made.group) - 1)
    has = (position < len(made.group)) & (made.group[after] == group)
    np.maximum.at(made.low, after[has], these.call[read[has]])
