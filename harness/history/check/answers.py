# SPDX-License-Identifier: GPL-2.0-or-later
"""Answers: the result of each operation against the states its port can have been in.

The same as ``harness.model.evtchn.predict.predict``, for one port and many answers at once; a test
compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from harness.history.check.axis import later
from harness.history.check.piece import Piece
from harness.history.check.ports import FOREIGN, PORT_BITS, PORT_MASK
from harness.history.check.scope import effect_unknown
from harness.history.check.states import (
    ANYTHING,
    INTERDOMAIN,
    IPI,
    OPEN,
    UNBOUND,
    VIRQ,
    domid_of,
    encode,
    stat_of,
)
from harness.history.check.timeline import Timeline
from harness.history.format.columns import Bool, Columns, Int64
from harness.history.format.record import ALLOCATING, Op, Via
from harness.model.evtchn.abi import Errno
from harness.model.evtchn.changed_rules import Rule
from harness.model.evtchn.domain import PER_VCPU_VIRQS
from harness.model.evtchn.rules import Rules


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
class Answers:
    """Answers that say something about a port's state."""

    operation: Int64
    channel: Int64
    claim: Int64
    state: Int64  # EXACTLY: the state told; NOT_FOR_ME: the one that would have been right
    call: Int64  # in the clock of the port's domain, at the earliest and at the latest
    ret: Int64


# Errors that only a Xen gives in which the rule holds.
_GIVEN_BY: dict[tuple[Op, Errno], Rule] = {
    (Op.BIND_VIRQ, _E.EBUSY): Rule.VIRQ_WANTS_HANDLER,
    (Op.STATUS, _E.EACCES): Rule.STATUS_HIDES_XEN_BOUND,
    (Op.SET_PRIORITY, _E.EACCES): Rule.UNUSABLE_PORT_UNTOUCHED,
}


def errors(op: Op, rules: Rules | None) -> set[Errno]:
    """Return the errors that some state allows; without ``rules``, those of every release."""
    never = {
        errno
        for (given, errno), rule in _GIVEN_BY.items()
        if given is op and rules is not None and not rules.holds(rule)
    }
    return ERRORS[op] - never


def impossible_results(columns: Columns, rules: Rules | None = None) -> Int64:
    """Return the operations whose result no state of any port could give in a Xen with ``rules``.

    None: it is not known which rules the Xen had.
    """
    raw = (columns.via == Via.RAW) & ~effect_unknown(columns)
    bad = np.zeros(len(columns), bool)
    for op in ERRORS:
        refusals = list(errors(op, rules))
        these = np.flatnonzero(raw & (columns.op == op))
        result = columns.result[these]
        if op in ALLOCATING:
            good = (result > 0) | np.isin(-result, refusals)
        elif op is Op.STATUS:
            good = ((result >= 0) & ((result & 0xFF) <= IPI)) | np.isin(-result, refusals)
        else:
            good = (result == 0) | np.isin(-result, refusals)
        bad[these[~good]] = True
    device = np.isin(columns.op, list(ALLOCATING)) & (columns.via == Via.DEVICE)
    bad |= device & (columns.result == 0) & ~effect_unknown(columns)
    return np.flatnonzero(bad)


def virqs_bound_twice(piece: Piece) -> Int64:
    """Return successful binds of a VIRQ that another port of the domain certainly still had."""
    columns, lifetimes = piece.columns, piece.lifetimes
    lifetime = np.flatnonzero(columns.op[lifetimes.alloc] == Op.BIND_VIRQ)
    operation = lifetimes.alloc[lifetime]
    virq = columns.port[operation].astype(np.int64)
    vcpu = np.where(np.isin(virq, list(PER_VCPU_VIRQS)), columns.arg[operation], 0)
    which = (piece.ports.caller[operation] << 40) | (virq << 20) | vcpu
    _, which = np.unique(which, return_inverse=True)
    axis = lifetimes.axis.with_channels(len(lifetime) + 1)
    call, ret = axis.at(which, columns.call[operation]), axis.at(which, columns.ret[operation])
    doubtful = lifetimes.doubtful[lifetime]
    sure = np.flatnonzero(~doubtful)
    sure = sure[np.argsort(ret[sure], kind="stable")]
    latest = np.maximum.accumulate(axis.at(which[sure], lifetimes.close_low[lifetime[sure]]))
    # A doubtful port may be gone again at once: only what was bound before its bind counts.
    before = np.searchsorted(ret[sure], np.where(doubtful, call, ret)) - 1
    twice = np.zeros(len(lifetime), bool)
    some = np.flatnonzero(before >= 0)
    twice[some] = latest[before[some]] > ret[some]
    return np.asarray(operation[twice], np.int64)


def find_answers(piece: Piece, timeline: Timeline) -> Answers:
    """Return the answers that say something about the state of an agent's port."""
    columns, ports = piece.columns, piece.ports
    masks = _claims(columns, timeline)
    operation = np.concatenate([np.flatnonzero(mask) for mask in masks.values()])
    claim = np.repeat([int(c) for c in masks], [int(mask.sum()) for mask in masks.values()])
    bind = claim == Claim.NOT_FOR_ME
    key = np.where(bind, ports.remote[operation], ports.local[operation])
    channel = piece.lifetimes.find(key)
    ours = channel != FOREIGN
    operation, claim, bind, key, channel = (
        array[ours] for array in (operation, claim, bind, key, channel)
    )
    slack = piece.scope.slack(ports.caller[operation], key >> PORT_BITS)
    unbound_for_caller = encode(UNBOUND, ports.caller[operation], 0)
    return Answers(
        operation=operation,
        channel=channel,
        claim=claim,
        state=np.where(bind, unbound_for_caller, _state_told(columns, operation)),
        call=columns.call[operation] - slack,
        ret=later(columns.ret[operation], slack),
    )


def _claims(columns: Columns, timeline: Timeline) -> dict[Claim, Bool]:
    """Return, by claim, the operations whose answer makes it."""
    op, result = columns.op, columns.result
    known = ~effect_unknown(columns)
    einval = result == -Errno.EINVAL
    raw = known & (columns.via == Via.RAW)
    refused = raw & (result < 0)
    status = raw & (op == Op.STATUS)
    closed = status & ((result < 0) | ((result & 0xFF) == 0))
    closed |= refused & np.isin(op, [Op.CLOSE, Op.POLL, Op.UNMASK])
    closed |= (op == Op.SET_PRIORITY) & refused & (result == -Errno.EACCES)
    claims: dict[Claim, Bool] = {
        Claim.CLOSED: closed,
        Claim.EXACTLY: status & ~closed,
        Claim.NO_PEER: refused & (op == Op.SEND),
        Claim.FIXED: raw & (op == Op.BIND_VCPU) & einval,
        Claim.NOT_FOR_ME: known & (op == Op.BIND_INTERDOMAIN) & einval,
    }
    if np.isin(stat_of(timeline.after), [VIRQ, IPI]).any():  # else these two always hold
        claims[Claim.PEER] = raw & (op == Op.SEND) & (result == 0)
        claims[Claim.MOVABLE] = raw & (op == Op.BIND_VCPU) & (result == 0)
    return claims


def _state_told(columns: Columns, operation: Int64) -> Int64:
    """Return the state in a STATUS answer: state | vcpu << 8 | remote domid << 16, and arg."""
    result = columns.result[operation].astype(np.int64)
    arg = columns.arg[operation].astype(np.int64)
    stat, domid = result & 0xFF, (result >> 16) & 0xFFFF
    domid = np.where((stat == UNBOUND) | (stat == INTERDOMAIN), domid, 0)
    detail = np.where((stat == INTERDOMAIN) | (stat == VIRQ), arg, 0)
    return encode(stat, domid, detail)


def allowed(claim: Int64, told: Int64, state: Int64) -> Bool:
    """Say which claims (with what they told) hold in ``state``, element by element."""
    stat = stat_of(state)
    fixed = stat == IPI
    fixed |= (stat == VIRQ) & np.isin(state & PORT_MASK, list(PER_VCPU_VIRQS))
    is_open = stat == OPEN
    unbound_or_connected = (stat_of(told) == UNBOUND) | (stat_of(told) == INTERDOMAIN)
    same_domain = unbound_or_connected & (domid_of(told) == domid_of(state))
    holds = np.select(
        [claim == c for c in Claim],
        [
            np.zeros(len(claim), bool),
            np.where(is_open, same_domain, state == told),
            stat == VIRQ,
            stat != VIRQ,
            fixed,
            ~fixed,
            is_open | (state != told),
        ],
    )
    return np.asarray(holds | (state == ANYTHING), bool)


@dataclass(frozen=True)
class Judged:
    """What became of the answers: operations."""

    wrong: Int64  # no state that the port had during the call allows the answer
    ambiguous: Int64  # some, but not all states that it can have had allow it
    unknown: Int64  # the port's state is not known for all of the call


_WIDEST = 64  # changes during one answer that are looked at one by one


def judge_answers(answers: Answers, timeline: Timeline) -> tuple[Judged, Timeline]:
    """Hold ``answers`` against the states of their ports.

    An answer that only one position of the timeline explains lies there: the timeline that is
    returned has the bounds that follow from it.
    """
    first, last = timeline.positions(answers.channel, answers.call, answers.ret)
    count = np.where(last - first < _WIDEST, last - first + 1, 0)
    answer = np.repeat(np.arange(len(count)), count)
    offset = np.cumsum(count) - count
    position = np.arange(len(answer)) - offset[answer] + first[answer]
    state = timeline.state(answers.channel[answer], position)
    holds = allowed(answers.claim[answer], answers.state[answer], state)
    holds &= _possible_peers(answers, timeline, answer, position, state)
    explained = np.bincount(answer[holds], minlength=len(count))
    wrong = answers.operation[(explained == 0) & (count > 0)]
    ambiguous = ((explained > 1) & (explained < count)) | (count == 0)
    unknown = _unknown(answers, timeline, answer, position, state)
    judged = Judged(wrong, answers.operation[ambiguous], answers.operation[unknown])
    lies_here = holds & (explained == 1)[answer] & (count[answer] > 1)
    which = answer[lies_here]
    return judged, timeline.with_answers(
        answers.channel[which], position[lies_here], answers.call[which], answers.ret[which]
    )


def _possible_peers(
    answers: Answers, timeline: Timeline, answer: Int64, position: Int64, state: Int64
) -> Bool:
    """Say, by position, whether the port may be connected to the one that STATUS told."""
    fits = np.ones(len(answer), bool)
    told = answers.state[answer]
    exactly = answers.claim[answer] == Claim.EXACTLY
    asked = np.flatnonzero(exactly & (stat_of(told) == INTERDOMAIN) & (stat_of(state) == OPEN))
    if len(asked):
        lifetime = timeline.lifetime[position[asked] - 1]
        port = told[asked] & PORT_MASK
        fits[asked] = timeline.connections.possible_peer(lifetime, port)
    return fits


def _unknown(
    answers: Answers, timeline: Timeline, answer: Int64, position: Int64, state: Int64
) -> Bool:
    """Say, by answer, whether the port's state is not known at one of its positions."""
    unknown = np.zeros(len(answer), bool)
    if len(timeline.channel):
        before = np.maximum(position - 1, 0)
        unknown = (position > 0) & (timeline.channel[before] == answers.channel[answer])
        doubtful = timeline.lifetimes.doubtful[timeline.lifetime[before]]
        unknown &= doubtful | (stat_of(state) == OPEN)
    # Those two say next to nothing.
    unknown &= ~np.isin(answers.claim[answer], [Claim.PEER, Claim.MOVABLE])
    return np.bincount(answer[unknown], minlength=len(answers.operation)) > 0
