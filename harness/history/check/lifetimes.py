# SPDX-License-Identifier: GPL-2.0-or-later
"""Port lifetimes: from an allocation to the close that ended it, as far as that is certain.

Xen gives a port number away only while it is free, so on one port successful allocations and
closes take turns:

    allocation   [A1]             [A2]                 [A3]
    close               [C1]              [C2]                    [C3]
    lifetime     |------- 1 ------|-------- 2 ---------|------- 3 ...
    gap              |----- 1 ------|------- 2 ----------|----- 3 ...

With the allocations A1, A2... of one port ordered by their return, counting is enough:

- a close called after A(k) returned, and not after A(k+1) returned, belongs to gap k;
- an allocation that overlaps no close and no other allocation is an *anchor*: what came before
  it is settled, and counting begins anew;
- from an anchor on, as many closes as gaps: each close ended exactly one lifetime;
- fewer closes than gaps: a port was given away twice (a violation);
- more closes than gaps: somebody closed the port a second time.  A kernel may have had it in
  between; or the close overlaps the next allocation and ended that lifetime at once:

      A1 [--]            A2 [--------]
      C     [--]   C'          [---------]    which of the two did C' close?

  Then lifetime 2 is *doubtful*: nothing is claimed about it here, nor about a later one whose
  allocation overlaps its own, because the order of the two is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.history.check.axis import Axis
from harness.history.check.ports import FOREIGN, PORT_BITS, Ports
from harness.history.check.scope import Scope, effect_unknown
from harness.history.format.columns import NEVER, Bool, Columns, Int64
from harness.history.format.record import Op


@dataclass(frozen=True)
class Lifetimes:
    """One row per allocation of a port, sorted by port and by return of the allocation.

    A *channel* is a port's index in ``keys``.  Like Xen's ``struct evtchn`` it stands for one
    port number of one domain, whoever has it at the time.
    """

    keys: Int64  # by channel: the port's key (harness.history.check.ports), ascending
    first: Int64  # by channel, and one past the last: its first lifetime
    channel: Int64
    alloc: Int64  # the allocating operation
    doubtful: Bool  # nothing is known about its close, see above
    close: Int64  # the operation that closed it; -1: none did, or one of several
    close_low: Int64  # when it was closed, at the earliest and at the latest
    close_high: Int64
    begin_low: Int64  # when it began at the earliest: not before the one before it was closed
    next_ret: Int64  # when the next allocation of the port returned; NEVER: there is none
    not_free: Int64  # lifetimes that began although the port was in use
    axis: Axis

    def find(self, keys: Int64) -> Int64:
        """Return the channels of the ports ``keys``; FOREIGN where no agent allocated any."""
        if not len(self.keys):
            return np.full(len(keys), FOREIGN, np.int64)
        index = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[index] == keys, index, FOREIGN)


def find_lifetimes(columns: Columns, ports: Ports, scope: Scope) -> Lifetimes:
    """Return the lifetimes of all ports that agents allocated in ``columns`` (widened)."""
    keys, allocs = _find_allocs(columns, ports)
    axis = _axis(columns, scope, len(keys))
    closes = _find_closes(columns, ports, keys, axis)
    upto = np.searchsorted(closes.called, axis.at(allocs.channel, allocs.ret), side="right")
    counts = _count(columns, allocs, closes, upto, axis)
    close, close_low, close_high = _match(columns, scope, keys, allocs, closes, upto)
    doubtful = _doubtful(allocs, counts, axis)
    same_as_next = np.diff(allocs.channel, append=-1) == 0
    return Lifetimes(
        keys=keys,
        first=allocs.first,
        channel=allocs.channel,
        alloc=allocs.operation,
        doubtful=doubtful,
        close=close,
        close_low=close_low,
        close_high=close_high,
        begin_low=_begin_low(allocs, doubtful, close_low),
        next_ret=np.where(same_as_next, _shifted(allocs.ret, NEVER, back=True), NEVER),
        not_free=_not_free(allocs, counts),
        axis=axis,
    )


@dataclass(frozen=True)
class _Allocs:
    """Successful allocations, sorted by channel and return."""

    operation: Int64
    channel: Int64
    first: Int64  # by channel, and one past the last: its first allocation
    call: Int64
    ret: Int64
    for_other: Bool  # made by another domain than the port's: who closes it is not recorded


@dataclass(frozen=True)
class _Closes:
    """Closes that happened or may have, sorted by channel and call."""

    operation: Int64
    channel: Int64
    called: Int64  # axis numbers
    high: Int64  # when it happened at the latest; NEVER when it need not have


@dataclass(frozen=True)
class _Counts:
    """By allocation: what was counted up to it."""

    before: Int64  # closes of its port that were called before it returned
    anchor: Bool
    base: Int64  # the last anchor up to it, itself included; else the port's first allocation
    settled: Bool  # there is such an anchor


def _find_allocs(columns: Columns, ports: Ports) -> tuple[Int64, _Allocs]:
    operation = np.flatnonzero(ports.made != FOREIGN)
    keys, channel = np.unique(ports.made[operation], return_inverse=True)
    order = np.lexsort((columns.ret[operation], channel))
    operation, channel = operation[order], channel[order].astype(np.int64)
    allocs = _Allocs(
        operation=operation,
        channel=channel,
        first=np.searchsorted(channel, np.arange(len(keys) + 1)),
        call=columns.call[operation],
        ret=columns.ret[operation],
        for_other=ports.caller[operation] != (keys[channel] >> PORT_BITS),
    )
    return keys, allocs


def _axis(columns: Columns, scope: Scope, channels: int) -> Axis:
    returned = columns.ret[columns.ret != NEVER]
    low = int(columns.call.min()) if len(columns) else 0
    high = max([int(columns.call.max(initial=low)), int(returned.max(initial=low))])
    ends = scope.recorded_until.values()
    return Axis(min([low, *ends]), max([high, *ends]), channels + 1)


def _find_closes(columns: Columns, ports: Ports, keys: Int64, axis: Axis) -> _Closes:
    unknown = effect_unknown(columns)
    index = np.flatnonzero((columns.op == Op.CLOSE) & (unknown | (columns.result == 0)))
    if not len(keys):
        index = index[:0]
    where = np.minimum(np.searchsorted(keys, ports.local[index]), max(len(keys) - 1, 0))
    ours = keys[where] == ports.local[index] if len(keys) else np.zeros(0, bool)
    index, channel = index[ours], where[ours].astype(np.int64)
    called = axis.at(channel, columns.call[index])
    order = np.argsort(called, kind="stable")
    index, channel = index[order], channel[order]
    high = np.where(unknown[index], NEVER, columns.ret[index])
    return _Closes(index, channel, called[order], high)


def _count(columns: Columns, allocs: _Allocs, closes: _Closes, upto: Int64, axis: Axis) -> _Counts:
    """``upto``: by allocation, index of the first close that was called after it returned."""
    number = np.arange(len(allocs.operation))
    first = allocs.first[allocs.channel]
    before = upto - np.searchsorted(closes.channel, allocs.channel)
    returned = np.maximum.accumulate(axis.at(closes.channel, columns.ret[closes.operation]))
    apart = before == 0  # no close overlaps the allocation
    some = np.flatnonzero(~apart)
    call = axis.at(allocs.channel[some], allocs.call[some])
    apart[some] = returned[upto[some] - 1] < call
    previous = _shifted(allocs.ret, NEVER)
    alone = (number == first) | (previous < allocs.call)
    anchor = apart & alone & ~_overtaken(allocs, axis)
    base = np.maximum.accumulate(np.where(anchor, number, -1))
    settled = base >= first
    return _Counts(before, anchor, np.where(settled, base, first), settled)


def _overtaken(allocs: _Allocs, axis: Axis) -> Bool:
    """Say which allocations are overlapped by one of the same port that returned later."""
    if not len(allocs.channel):
        return np.zeros(0, bool)
    earliest = np.minimum.accumulate(axis.at(allocs.channel, allocs.call)[::-1])[::-1]
    following = _shifted(earliest, NEVER, back=True)
    return np.asarray(following <= axis.at(allocs.channel, allocs.ret), bool)


def _doubtful(allocs: _Allocs, counts: _Counts, axis: Axis) -> Bool:
    """Say which lifetimes a surplus close may have ended at once, or are of unknown order."""
    channel = allocs.channel
    gaps = np.arange(len(channel)) - counts.base
    since_base = counts.before - np.where(counts.settled, counts.before[counts.base], 0)
    surplus = since_base - gaps
    overlap = np.where(surplus > 0, axis.at(channel, allocs.ret), -1)
    overlap_before = _shifted(np.maximum.accumulate(overlap), -1)
    doubtful = (surplus != 0) | (overlap_before >= axis.at(channel, allocs.call))
    return np.asarray(doubtful | np.isin(channel, channel[allocs.for_other]), bool)


def _not_free(allocs: _Allocs, counts: _Counts) -> Int64:
    """Return the allocations before which one more close is missing than before the last one.

    Counted from what was settled before each: an anchor would forget what is missing.
    """
    number = np.arange(len(allocs.operation))
    base, settled = _shifted(counts.base, 0), _shifted(counts.settled, False)
    surplus = counts.before - np.where(settled, counts.before[base], 0) - (number - base)
    surplus[number == allocs.first[allocs.channel]] = 0
    surplus_before = _shifted(np.where(counts.anchor, 0, surplus), 0)
    return np.flatnonzero((surplus < 0) & (surplus < surplus_before))


def _match(
    columns: Columns, scope: Scope, keys: Int64, allocs: _Allocs, closes: _Closes, upto: Int64
) -> tuple[Int64, Int64, Int64]:
    """Return, by lifetime, its close (-1: several can be), and the bounds of when it happened.

    Without a close the port is open until its domain ends.
    """
    count = len(allocs.operation)
    last = np.arange(count) == allocs.first[allocs.channel + 1] - 1
    of_channel = np.searchsorted(closes.channel, allocs.channel, side="right")
    until = np.where(last, of_channel, _shifted(upto, 0, back=True))
    found = until - upto
    ends = [scope.recorded_until.get(int(key >> PORT_BITS), NEVER - 1) for key in keys]
    gone = np.array(ends, np.int64) + 1
    low = np.where(found > 0, NEVER, gone[allocs.channel])
    high = np.full(count, NEVER)
    close = np.full(count, -1)
    some = np.flatnonzero(found > 0)
    low[some] = columns.call[closes.operation[upto[some]]]
    high[some] = _least(closes.high, upto[some], until[some])
    one = some[found[some] == 1]
    close[one] = closes.operation[upto[one]]
    return close, low, high


def _least(values: Int64, begin: Int64, end: Int64) -> Int64:
    """Return min(values[b:e]) for each b, e (never empty, ascending, disjoint)."""
    if not len(begin):
        return np.zeros(0, np.int64)
    bounds = np.stack([begin, end], axis=1).ravel()
    padded: npt.NDArray[np.int64] = np.append(values, NEVER)
    return np.minimum.reduceat(padded, bounds)[::2]


def _begin_low(allocs: _Allocs, doubtful: Bool, close_low: Int64) -> Int64:
    """Return when each lifetime began at the earliest."""
    previous = _shifted(close_low, 0)
    same = np.diff(allocs.channel, prepend=-1) == 0
    certain = same & ~doubtful & ~_shifted(doubtful, True) & (previous != NEVER)
    return np.where(certain, np.maximum(allocs.call, previous), allocs.call)


def _shifted(values: npt.NDArray[Any], end: int, *, back: bool = False) -> npt.NDArray[Any]:
    """Return for each row the value of the one before it (``back``: of the one after it)."""
    moved = np.empty_like(values)
    if back:
        moved[:-1], moved[-1:] = values[1:], end
    else:
        moved[1:], moved[:1] = values[:-1], end
    return moved
