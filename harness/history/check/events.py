# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules about events: none lost, none invented, none delivered where it must not be.

Pending is one bit, so sends coalesce.  What is claimed is one delivery after the last send,
and for each delivery a send (or bind) of its own.  Linux keeps a port masked from its RECV
until its ENABLE.  Claims are made about ports bound through /dev/xen/evtchn whose connections
are known at all times.
"""

from __future__ import annotations

import numpy as np

from harness.history.check.axis import Axis
from harness.history.check.deliveries import (
    FIFO_EXPANDS,
    Deliveries,
    Events,
    count_earlier,
    ports_known_by,
    writer_inside,
)
from harness.history.check.piece import Piece
from harness.history.check.ports import FOREIGN, PORT_BITS, PORT_MASK
from harness.history.check.scope import effect_unknown
from harness.history.check.timeline import Timeline
from harness.history.format.columns import NEVER, Bool, Columns, Int64
from harness.history.format.record import Op, Via
from harness.model.lock.flavours import Site


def delivered_on_closed_port(piece: Piece, deliveries: Deliveries) -> Int64:
    """Return the deliveries on a port that no agent of the domain had opened by then."""
    columns, local = piece.columns, piece.ports.local
    recv = np.flatnonzero((columns.op == Op.RECV) & (columns.ret != NEVER))
    recv = recv[~np.isin(local[recv], piece.past.ports)]
    recv = np.setdiff1d(recv, deliveries.recv)
    return recv[ports_known_by(piece, recv)]


def match_deliveries(piece: Piece, events: Events) -> tuple[Int64, Int64]:
    """Return the deliveries without a cause of their own, and those while the port was masked.

    Most are settled by what touches the time since the delivery before:

        RECV      [----- 1 -----]             [----- 2 -----]
                                |-- since 1, until 2 returned --|
        ENABLE                       [---]                          else 2 came while masked
        SEND                     [--]                               else ``_matched`` looks closer
    """
    columns, axis, causes = piece.columns, events.axis, events.causes
    recv, lifetime = _paired(events)
    ret = columns.ret[recv]
    again = np.append(False, lifetime[1:] == lifetime[:-1])[: len(lifetime)]
    previous = np.where(again, np.append(0, ret[:-1])[: len(ret)], axis.low)
    fresh = ret >= piece.past.judged
    since_previous = lifetime, previous, ret
    enable, enable_of = events.deliveries.enable, events.deliveries.enable_of
    enables = enable_of, columns.call[enable], columns.ret[enable]
    enabled = _touched(axis, since_previous, enables)
    caused = _touched(axis, since_previous, (causes.lifetime, causes.call, causes.ret))
    masked = fresh & again & ~enabled
    wrong = [
        index
        for index in np.flatnonzero(fresh & ~caused & ~masked).tolist()
        if not _matched(piece, events, recv, lifetime, index)
    ]
    return recv[np.array(wrong, np.int64)], recv[masked]


def _paired(events: Events) -> tuple[Int64, Int64]:
    """Return the deliveries (and their lifetimes) that pair up with ENABLEs.

    On the other ports nothing is claimed.  Linux's queue can still hold an event of an earlier
    lifetime of the same number, whose ENABLE then unmasks the new one too early; and so does a
    raw UNMASK.
    """
    deliveries = events.deliveries
    pairs_up = events.complete & ~events.reused
    pairs_up[deliveries.unmask_of] = False
    keep = pairs_up[deliveries.recv_of] & deliveries.port_known
    return deliveries.recv[keep], deliveries.recv_of[keep]


_Spans = tuple[Int64, Int64, Int64]  # lifetimes, and of each a time from when until when


def _touched(axis: Axis, spans: _Spans, by: _Spans) -> Bool:
    """Say which of ``spans`` one of ``by`` touches."""
    lifetime, since, until = spans
    of, begin, end = by
    if not len(of):
        return np.zeros(len(lifetime), bool)
    order = np.lexsort((begin, of))
    of, begin, end = of[order], begin[order], end[order]
    latest = np.maximum.accumulate(axis.at(of, end))
    index = np.searchsorted(axis.at(of, begin), axis.at(lifetime, until), side="right") - 1
    some = index >= 0
    index = np.maximum(index, 0)
    touching = latest[index] >= axis.at(lifetime, since)
    return np.asarray(some & (of[index] == lifetime) & touching, bool)


_BACK = 64  # deliveries before a doubtful one that are looked at


def _matched(piece: Piece, events: Events, recv: Int64, recv_of: Int64, index: int) -> bool:
    """Match deliveries with causes of their own, and say whether ``index`` gets one.

    Delivery 2 clears the pending bit after the ENABLE that followed RECV 1 was called, and before
    RECV 2 returned.  A cause can have set the bit for it unless it was called after that, or had
    returned before delivery 1 could clear the bit:

        RECV                [---- 1 ----]               [---- 2 ----]
        ENABLE     [--]                   [--]
        1 clears   |....................|
        2 clears                          |.........................|
        causes 2   |...... whatever touches this time ..............|

    So each cause can serve some consecutive deliveries, and giving each delivery the cause that
    returned first serves as many as possible.
    """
    columns, causes, axis = piece.columns, events.causes, events.axis
    lifetime = recv_of[index]
    start = int(np.searchsorted(recv_of, lifetime))
    recv = recv[start : index + 1]
    call, ret = columns.call[recv], columns.ret[recv]
    # Deliveries judged before may have had causes that are not here any more.
    judged = int(np.searchsorted(ret, piece.past.judged))
    begin = max(judged, index - start - _BACK)
    mine = slice(*np.searchsorted(causes.lifetime, [lifetime, lifetime + 1]))
    called, over = causes.call[mine], causes.ret[mine]
    enables = _enables(columns, events.deliveries, lifetime)
    near = (over >= _cleared(enables, call, begin - 1, axis.low)) & (called <= ret[-1])
    left = sorted(zip(over[near].tolist(), called[near].tolist(), strict=True))
    for number in range(begin, len(ret)):
        cleared = _cleared(enables, call, number - 1, axis.low)
        until = int(ret[number])
        taken = next((c for c in left if c[0] >= cleared and c[1] <= until), None)
        if taken is None:
            return number != len(ret) - 1
        left.remove(taken)
    return True


def _enables(columns: Columns, deliveries: Deliveries, lifetime: int) -> tuple[Int64, Int64]:
    """Return the calls of the ENABLEs of ``lifetime``, ascending, and the latest return so far."""
    mine = slice(*np.searchsorted(deliveries.enable_of, [lifetime, lifetime + 1]))
    enable = deliveries.enable[mine]
    enable = enable[np.argsort(columns.call[enable], kind="stable")]
    return columns.call[enable], np.maximum.accumulate(columns.ret[enable])


def _cleared(enables: tuple[Int64, Int64], recv: Int64, number: int, never: int) -> int:
    """Return the earliest instant at which delivery ``number`` can have cleared the pending bit.

    That is the call of the first ENABLE that may have followed the RECV before, which was called
    at ``recv[number - 1]``.  With times widened by the clocks' error, an ENABLE can seem to have
    been called before the RECV returned.
    """
    if number < 1:
        return never
    call, over = enables
    index = int(np.searchsorted(over, recv[number - 1]))
    return int(call[index]) if index < len(call) else never


def outnumbered_deliveries(piece: Piece, events: Events) -> Int64:
    """Return deliveries on a port that had, over all its lifetimes, fewer causes so far."""
    columns, lifetimes, deliveries = piece.columns, piece.lifetimes, events.deliveries
    axis = lifetimes.axis
    incomplete = ~events.complete & (columns.via[lifetimes.alloc] == Via.DEVICE)
    good = (count_earlier(piece, incomplete) == 0) & events.complete & ~events.left_behind
    good &= ~np.isin(lifetimes.channel, events.partial)
    keep = good[deliveries.recv_of] & deliveries.port_known
    recv, channel = deliveries.recv[keep], lifetimes.channel[deliveries.recv_of[keep]]
    order = np.argsort(axis.at(channel, columns.ret[recv]), kind="stable")
    recv, channel = recv[order], channel[order]
    number = np.arange(len(channel)) - np.searchsorted(channel, channel) + 1
    called = np.sort(axis.at(lifetimes.channel[events.causes.lifetime], events.causes.call))
    upto = np.searchsorted(called, axis.at(channel, columns.ret[recv]), side="right")
    causes = upto - np.searchsorted(called, axis.at(channel, np.full(len(channel), -NEVER)))
    return np.asarray(recv[causes < number], np.int64)


def delivered_before_any_send(piece: Piece) -> Int64:
    """Return deliveries on a port to which nobody can have sent anything by then.

    That needs no lifetimes: only ports are looked at that the device allocated and nobody else
    opened, whoever had connected to one of that number, whenever.
    """
    columns, ports = piece.columns, piece.ports
    if piece.past.first_row:  # who connected before is not here any more
        return np.zeros(0, np.int64)
    recv = _on_own_ports(piece)
    sender, receiver = _connected(piece, ports.local[recv])
    sends = np.flatnonzero((columns.op == Op.SEND) & np.isin(ports.local, sender))
    senders, of = np.unique(ports.local[sends], return_inverse=True)
    first = np.full(len(senders) + 1, NEVER)  # the last one: of ports that nobody sent from
    np.minimum.at(first, of, columns.call[sends])
    index = np.searchsorted(senders, sender)
    index[~np.isin(sender, senders)] = len(senders)
    slack = piece.scope.slack(sender >> PORT_BITS, receiver >> PORT_BITS)
    targets, to = np.unique(ports.local[recv], return_inverse=True)
    earliest = np.full(len(targets), NEVER)
    np.minimum.at(earliest, np.searchsorted(targets, receiver), first[index] - slack)
    return np.asarray(recv[columns.ret[recv] < earliest[to]], np.int64)


def _on_own_ports(piece: Piece) -> Int64:
    """Return the RECVs on ports that the device allocated unbound and nobody else opened."""
    columns, ports = piece.columns, piece.ports
    made = ports.made != FOREIGN
    unbound = made & (columns.op == Op.ALLOC_UNBOUND) & (columns.via == Via.DEVICE)
    otherwise = made & ~unbound & (columns.via == Via.DEVICE)
    own = np.setdiff1d(ports.made[unbound], ports.made[otherwise])
    # A bind of which nobody was told the new port: that port may be any, and send from it.
    binds = columns.op == Op.BIND_INTERDOMAIN
    own = np.setdiff1d(own, ports.remote[binds & effect_unknown(columns)])
    recv = np.flatnonzero((columns.op == Op.RECV) & (columns.ret != NEVER))
    local = ports.local[recv]
    return recv[np.isin(local, own) & ((local & PORT_MASK) < FIFO_EXPANDS)]


def _connected(piece: Piece, receivers: Int64) -> tuple[Int64, Int64]:
    """Return all pairs (sender, receiver) of ports that a bind ever connected."""
    columns, ports = piece.columns, piece.ports
    binds = (columns.op == Op.BIND_INTERDOMAIN) & (ports.made != FOREIGN)
    binds &= np.isin(ports.remote, receivers)
    pairs = np.unique(np.stack([ports.made[binds], ports.remote[binds]]), axis=1)
    return pairs[0], pairs[1]


def lost_events(piece: Piece, timeline: Timeline, events: Events) -> Int64:
    """Return sends (and binds) that set a port pending for good, and nobody ever received.

    Only at the end of a run is it certain that somebody read: when every load thread had
    stopped, readers went on until nothing came for ``scope.drained`` ns, and then ports
    were closed.  What was sent to those ports after their last delivery is lost:

        RECV      [- last -]
        ENABLE               [-]
        SEND                        [-- lost --]
        CLOSE                                  |-- drained, at least --|  [---]
    """
    columns, lifetimes, scope = piece.columns, piece.lifetimes, piece.scope
    causes, deliveries = events.causes, events.deliveries
    if not scope.drained:
        return np.zeros(0, np.int64)
    last = np.full(len(lifetimes.alloc), events.axis.low)
    np.maximum.at(last, deliveries.recv_of, columns.ret[deliveries.recv])
    unmasked = _unmasked_since(piece, timeline, events, last)
    final = (lifetimes.close >= 0) & (lifetimes.close_low > load_end(columns) + scope.most_slack)
    of = causes.lifetime
    since = np.maximum(causes.ret, unmasked[of])
    lost = causes.certain & events.complete[of] & final[of] & (causes.call > last[of])
    lost &= since != NEVER
    lost[lost] &= lifetimes.close_low[of[lost]] - since[lost] > _SILENCE * scope.drained
    index = np.flatnonzero(lost)
    _, first = np.unique(of[index], return_index=True)
    return causes.operation[index[first]]


def load_end(columns: Columns) -> int:
    """Return when the last operation that is no close was called (ns)."""
    return int(columns.call[columns.op != Op.CLOSE].max(initial=-NEVER))


_SILENCE = 0.8  # of the time without an event; clocks and the reader's own time take the rest


def _unmasked_since(piece: Piece, timeline: Timeline, events: Events, last: Int64) -> Int64:
    """Return, by lifetime, from when on it was surely not masked any more; NEVER: not known.

    ``last``: by lifetime, when its last RECV returned.
    """
    columns, lifetimes = piece.columns, piece.lifetimes
    enable, of = events.deliveries.enable, events.deliveries.enable_of
    sure = columns.call[enable] >= last[of]
    if piece.scope.may_drop(Site.UNMASK):
        channel, call, ret = lifetimes.channel[of], columns.call[enable], columns.ret[enable]
        sure &= ~writer_inside(timeline, channel, call, ret)
    never_received = last == events.axis.low
    since = np.where(never_received, columns.ret[lifetimes.alloc], NEVER)
    np.minimum.at(since, of[sure], columns.ret[enable[sure]])
    return since
