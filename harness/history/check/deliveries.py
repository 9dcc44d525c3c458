# SPDX-License-Identifier: GPL-2.0-or-later
"""Deliveries of events, and the operations that may have caused them, by lifetime of the port.

An event's way, in the times that a history shows:

    sender      SEND   [----]                     sets the other end's port pending
    receiver    RECV           [-----------]      read() returned the port; Linux keeps it masked
                ENABLE                       [-]  written back: Linux unmasks it

Only RECV tells of a delivery, so only ports bound through /dev/xen/evtchn have any.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.history.check.axis import Axis, by_channel, later, ranges
from harness.history.check.piece import Piece
from harness.history.check.ports import FOREIGN, PORT_BITS, PORT_MASK
from harness.history.check.scope import effect_unknown
from harness.history.check.timeline import Timeline
from harness.history.format.columns import NEVER, Bool, Int64
from harness.history.format.record import Op, Via
from harness.model.lock.flavours import Site

FIFO_EXPANDS = 1024  # from this port on the kernel grows FIFO's array: that may raise old events


@dataclass(frozen=True)
class Deliveries:
    """What the owners of ports did with their events: operations by lifetime, then by return."""

    recv: Int64
    recv_of: Int64  # lifetime of the port
    port_known: Bool  # by RECV: every port that its domain had opened by then is known
    enable: Int64
    enable_of: Int64
    unmask: Int64
    unmask_of: Int64


@dataclass(frozen=True)
class Causes:
    """Sends and binds that may have set a port pending, sorted by lifetime, then by call."""

    operation: Int64
    lifetime: Int64  # of the port that was set pending
    sender: Int64  # lifetime of the port at the other end
    certain: Bool  # it set the port pending for sure
    call: Int64  # in the receiver's clock, at the earliest and at the latest
    ret: Int64


@dataclass(frozen=True)
class Events:
    """All events of a piece, and what may be claimed about them."""

    deliveries: Deliveries
    causes: Causes
    axis: Axis  # for times by lifetime
    complete: Bool  # by lifetime: all its connections are known, so all its causes are here
    reused: Bool  # by lifetime: the device had a port of its number before
    left_behind: Bool  # by lifetime: its port had lifetimes in the past
    partial: Int64  # channels with lifetimes that began in the past: early causes are not here


def find_deliveries(piece: Piece) -> Deliveries:
    """Return the deliveries of ``piece``, which needs no bounds of any change."""
    op = piece.columns.op
    recv, recv_of = _latest_lifetime(piece, np.flatnonzero(op == Op.RECV))
    enable, enable_of = _every_lifetime(piece, np.flatnonzero(op == Op.ENABLE))
    unmask, unmask_of = _every_lifetime(piece, np.flatnonzero(op == Op.UNMASK))
    port_known = ports_known_by(piece, recv)
    return Deliveries(recv, recv_of, port_known, enable, enable_of, unmask, unmask_of)


def ports_known_by(piece: Piece, recv: Int64) -> Bool:
    """Say for which RECVs every port is known that their domain had opened by then.

    An allocation of unknown effect may have opened any port from its call on.
    """
    columns, caller = piece.columns, piece.ports.caller
    opening = effect_unknown(columns) & np.isin(
        columns.op, [Op.ALLOC_UNBOUND, Op.BIND_INTERDOMAIN, Op.BIND_VIRQ]
    )
    known = np.ones(len(recv), bool)
    for domid in np.unique(caller[opening]).tolist():
        since = columns.call[opening & (caller == domid)].min()
        known &= (caller[recv] != domid) | (columns.ret[recv] < since)
    return known


def _latest_lifetime(piece: Piece, operation: Int64) -> tuple[Int64, Int64]:
    """Return the operations that returned, each with the last lifetime begun by then."""
    columns = piece.columns
    operation = operation[columns.ret[operation] != NEVER]
    operation, channel = _on_channels(piece, operation)
    return _sorted(piece, operation, channel, _last_begun(piece, channel, columns.ret[operation]))


def _every_lifetime(piece: Piece, operation: Int64) -> tuple[Int64, Int64]:
    """Return the operations, in flight or not, with every lifetime that each may be about:

    lifetimes     |===== 1 =====|    |===== 2 =====|    |===== 3 ...
    ENABLE                [-------------]                            1 and 2
    """
    columns, lifetimes = piece.columns, piece.lifetimes
    operation, channel = _on_channels(piece, operation)
    last = _last_begun(piece, channel, columns.ret[operation])
    first = _last_begun(piece, channel, columns.call[operation])
    first = np.minimum(np.maximum(first, lifetimes.first[channel]), last)
    count = last - first + 1
    operation, channel = np.repeat(operation, count), np.repeat(channel, count)
    return _sorted(piece, operation, channel, ranges(first, last + 1))


def _on_channels(piece: Piece, operation: Int64) -> tuple[Int64, Int64]:
    """Return the operations on agents' ports, put together by channel, and the channels."""
    channel = piece.lifetimes.find(piece.ports.local[operation])
    operation, channel = operation[channel != FOREIGN], channel[channel != FOREIGN]
    order = by_channel(channel)
    return operation[order], channel[order]


def _last_begun(piece: Piece, channel: Int64, time: Int64) -> Int64:
    """Return the last lifetime of (or before) ``channel`` that may have begun by ``time``."""
    lifetimes = piece.lifetimes
    axis = lifetimes.axis
    begun = np.maximum.accumulate(axis.at(lifetimes.channel, lifetimes.begin_low))
    return np.searchsorted(begun, axis.at(channel, time), side="right") - 1


def _sorted(piece: Piece, operation: Int64, channel: Int64, lifetime: Int64) -> tuple[Int64, Int64]:
    """Return operations and lifetimes, in the order of lifetimes and then of returns.

    Those whose ``lifetime`` is one of another channel are left out: their port was not open yet.
    """
    known = (lifetime >= 0) & (piece.lifetimes.channel[np.maximum(lifetime, 0)] == channel)
    operation, lifetime = operation[known], lifetime[known]
    order = np.lexsort((piece.columns.ret[operation], lifetime))
    return operation[order], lifetime[order]


def find_events(piece: Piece, timeline: Timeline, deliveries: Deliveries) -> Events:
    """Return the events of ``piece``: ``deliveries`` with all their causes."""
    columns, lifetimes, past = piece.columns, piece.lifetimes, piece.past
    row = columns.row[lifetimes.alloc]
    left_behind = np.isin(lifetimes.keys[lifetimes.channel], past.ports)
    device = columns.via[lifetimes.alloc] == Via.DEVICE
    # The events of a lifetime that had ended before this piece are not all here.
    here = (row >= past.first_row) | (lifetimes.close_low > past.load_end)
    return Events(
        deliveries=deliveries,
        causes=_find_causes(piece, timeline),
        axis=lifetimes.axis.with_channels(len(lifetimes.alloc) + 1),
        complete=_complete(piece, timeline) & here,
        reused=(count_earlier(piece, device) > 0) | left_behind,
        left_behind=left_behind,
        partial=np.unique(lifetimes.channel[row < past.first_row]),
    )


def count_earlier(piece: Piece, chosen: Bool) -> Int64:
    """Return, by lifetime, how many ``chosen`` ones its port had before it."""
    lifetimes = piece.lifetimes
    total: Int64 = np.cumsum(chosen, dtype=np.int64) - chosen
    return total - total[lifetimes.first[lifetimes.channel]]


def _complete(piece: Piece, timeline: Timeline) -> Bool:
    """Say for which lifetimes all connections, and those of all peers, are known."""
    columns, lifetimes, known = piece.columns, piece.lifetimes, timeline.connections.known
    good: Bool = known & ~lifetimes.doubtful & (columns.via[lifetimes.alloc] == Via.DEVICE)
    good &= np.isin(columns.op[lifetimes.alloc], [Op.ALLOC_UNBOUND, Op.BIND_INTERDOMAIN])
    good &= (lifetimes.keys[lifetimes.channel] & PORT_MASK) < FIFO_EXPANDS
    connected = np.flatnonzero(timeline.peer >= 0)
    unknown = ~known[timeline.peer[connected]]
    good[timeline.lifetime[connected[unknown]]] = False
    disclaimed = (timeline.low == lifetimes.axis.low) & (timeline.high == NEVER)
    good[timeline.lifetime[disclaimed]] = False
    return np.asarray(good, bool)


def _find_causes(piece: Piece, timeline: Timeline) -> Causes:
    lifetimes, columns = piece.lifetimes, piece.columns
    sends, binds = _sends(piece, timeline), _binds(piece, timeline)
    operation, lifetime, sender, certain, low, high = (
        np.concatenate(pair) for pair in zip(sends, binds, strict=True)
    )
    receiver = lifetimes.keys[lifetimes.channel[lifetime]] >> PORT_BITS
    slack = piece.scope.slack(piece.ports.caller[operation], receiver)
    call = np.maximum(columns.call[operation], low) - slack
    ret = later(np.minimum(columns.ret[operation], high), slack)
    order = np.lexsort((call, lifetime))
    return Causes(
        operation=operation[order],
        lifetime=lifetime[order],
        sender=sender[order],
        certain=certain[order],
        call=call[order],
        ret=ret[order],
    )


_Found = tuple[Int64, Int64, Int64, Bool, Int64, Int64]  # as in Causes, in the sender's clock


def _sends(piece: Piece, timeline: Timeline) -> _Found:
    """Return every send with every port that its own port may have been connected to.

    It reaches that port only while the two are connected:

        sender's port      ...unbound |[bind]----- connected -----[close]| unbound...
        SEND                    [--------------]
        may have reached the other end   [-----]
    """
    columns = piece.columns
    unknown = effect_unknown(columns)
    sends = np.flatnonzero((columns.op == Op.SEND) & (unknown | (columns.result == 0)))
    sends, channel = _on_channels(piece, sends)
    call, ret = columns.call[sends], columns.ret[sends]
    first, last = timeline.positions(channel, call, ret)
    count = last - first + 1
    certain = (count == 1) & ~unknown[sends]
    if piece.scope.may_drop(Site.SEND):
        certain &= ~writer_inside(timeline, channel, call, ret)
    which = np.repeat(np.arange(len(sends)), count)
    position = ranges(first, last + 1)
    before = np.maximum(position - 1, 0)  # the change that led to the state at ``position``
    here = (position > 0) & (timeline.channel[before] == channel[which])
    reached = here & (timeline.peer[before] >= 0)
    which, before = which[reached], before[reached]
    following = np.minimum(before + 1, max(len(timeline.channel) - 1, 0))
    ends = (following > before) & (timeline.channel[following] == timeline.channel[before])
    return (
        sends[which],
        timeline.peer[before],
        timeline.lifetime[before],
        certain[which],
        timeline.low[before],
        np.where(ends, timeline.high[following], NEVER),
    )


def _binds(piece: Piece, timeline: Timeline) -> _Found:
    """Return the binds that made a port: EVTCHNOP_bind_interdomain sets it pending."""
    lifetimes = piece.lifetimes
    binds = np.flatnonzero(timeline.peer >= 0)
    binds = binds[timeline.operation[binds] == lifetimes.alloc[timeline.lifetime[binds]]]
    return (
        timeline.operation[binds],
        timeline.lifetime[binds],
        timeline.peer[binds],
        np.ones(len(binds), bool),
        np.full(len(binds), lifetimes.axis.low),
        np.full(len(binds), NEVER),
    )


def writer_inside(timeline: Timeline, channel: Int64, call: Int64, ret: Int64) -> Bool:
    """Say whether a writer of the channel may have been inside its lock during [call, ret]."""
    axis = timeline.lifetimes.axis
    lows = axis.at(timeline.channel, timeline.lock_low)
    entered = np.minimum.accumulate(lows[::-1])[::-1]
    left = np.maximum.accumulate(axis.at(timeline.channel, timeline.lock_high))
    begun = np.searchsorted(entered, axis.at(channel, ret), side="right")
    return np.asarray(begun > np.searchsorted(left, axis.at(channel, call)), dtype=bool)
