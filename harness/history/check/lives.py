"""Port lives: which allocation of a port each close ended, as far as that is certain.

Xen gives a port away only while it is free, so on one port successful allocations and
closes take turns.  With the allocations A1, A2... ordered by their return, counting is
enough:

- a close called after A(k) returned and not after A(k+1) returned belongs to gap k;
- an allocation that no close overlaps is an *anchor*: everything before it is settled;
- from an anchor on, as many closes as gaps: each close ended exactly one life;
- fewer closes than gaps: a port was given away twice (a violation);
- more: somebody closed the port a second time (the kernel may have had it meanwhile), and
  if such a close overlaps the next allocation it may have ended that life at once.  That
  life is *doubtful* and nothing is claimed about it here, nor about a later one whose
  allocation overlaps its own: somebody may have closed the port before its owner was told
  the number, and the order of the two is not known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.history.check.scope import FOREIGN, PORT_BITS, Ports, Scope
from harness.history.format.columns import NEVER, Bool, Columns, Int64
from harness.history.format.record import Op, Via

EFAULT = 14


class Axis:
    """Times within groups as single sortable numbers: ``group * span + time``."""

    def __init__(self, low: int, high: int, groups: int) -> None:
        self.low = low - 1
        self.span = high - low + 4
        if groups * self.span >= 1 << 62:
            raise OverflowError("too many ports over too long a time for one piece")

    def at(self, group: Int64, time: Int64) -> Int64:
        """Return the numbers of ``time`` in ``group``; NEVER sorts after everything else."""
        number: Int64 = np.clip(time, self.low, self.low + self.span - 1)
        number -= self.low
        number += group * self.span
        return number

    def one(self, group: int, time: int) -> int:
        """Return what ``at`` returns for one pair, many times faster than arrays of one."""
        last = self.low + self.span - 1
        return group * self.span + min(max(time, self.low), last) - self.low

    def time(self, group: Int64, number: Int64) -> Int64:
        """Undo ``at``: the last number of a group is NEVER again."""
        offset = number - group * self.span
        return np.where(offset >= self.span - 1, NEVER, offset + self.low)


@dataclass(frozen=True)
class Lives:
    """One row per allocation of a port, sorted by port and by return of the allocation."""

    keys: Int64  # by group: the port's key, ascending
    start: Int64  # by group (and one past the last): its first life
    group: Int64
    born: Int64  # index of the allocating operation
    doubtful: Bool
    end_low: Int64  # when its close happened, at the earliest and at the latest
    end_high: Int64
    end: Int64  # index of the close if there is exactly one candidate, else -1
    twice: Int64  # lives (indices) that began although the port was not free
    axis: Axis

    def find(self, keys: Int64) -> Int64:
        """Return the groups of the ports ``keys``; FOREIGN for ports that no agent owned."""
        if not len(self.keys):
            return np.full(len(keys), FOREIGN, np.int64)
        index = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[index] == keys, index, FOREIGN)


def may_have_happened(columns: Columns) -> Bool:
    """Operations whose effect is unknown: in flight, or the answer was lost on the way out."""
    faulted = (columns.result == -EFAULT) & (columns.via == Via.RAW)
    return np.asarray((columns.ret == NEVER) | faulted, bool)


def lives(columns: Columns, ports: Ports, scope: Scope) -> Lives:
    """Return the lives of all agent-owned ports in ``columns`` (widened, writers suffice)."""
    births = np.flatnonzero(ports.made != FOREIGN)
    keys, group = np.unique(ports.made[births], return_inverse=True)
    returned = columns.ret[columns.ret != NEVER]
    low = int(columns.call.min()) if len(columns) else 0
    high = max([int(columns.call.max(initial=low)), int(returned.max(initial=low))])
    high = max([high, *scope.end.values()])
    axis = Axis(min([low, *scope.end.values()]), high, len(keys) + 1)
    order = np.lexsort((columns.ret[births], group))
    births, group = births[order], group[order].astype(np.int64)
    start = np.searchsorted(group, np.arange(len(keys) + 1))
    closes = _closes(columns, ports, keys, axis)
    return _match(columns, scope, ports, keys, start, group, births, closes, axis)


@dataclass(frozen=True)
class _Closes:
    operation: Int64
    group: Int64
    called: Int64  # axis numbers, ascending
    high: Int64  # latest time each may have happened; NEVER when it need not have


def _closes(columns: Columns, ports: Ports, keys: Int64, axis: Axis) -> _Closes:
    unknown = may_have_happened(columns)
    index = np.flatnonzero((columns.op == Op.CLOSE) & (unknown | (columns.result == 0)))
    if not len(keys):
        index = index[:0]
    where = np.minimum(np.searchsorted(keys, ports.local[index]), max(len(keys) - 1, 0))
    owned = keys[where] == ports.local[index] if len(keys) else np.zeros(0, bool)
    index, group = index[owned], where[owned].astype(np.int64)
    called = axis.at(group, columns.call[index])
    order = np.argsort(called, kind="stable")
    index, group = index[order], group[order]
    high = np.where(unknown[index], NEVER, columns.ret[index])
    return _Closes(index, group, called[order], high)


def _match(
    columns: Columns,
    scope: Scope,
    ports: Ports,
    keys: Int64,
    start: Int64,
    group: Int64,
    births: Int64,
    closes: _Closes,
    axis: Axis,
) -> Lives:
    count = len(births)
    number = np.arange(count)
    first = start[group] if count else number
    call, ret = columns.call[births], columns.ret[births]
    close_start = np.searchsorted(closes.group, group)
    upto = np.searchsorted(closes.called, axis.at(group, ret), side="right")
    before = upto - close_start  # closes called before the allocation returned
    latest = np.maximum.accumulate(axis.at(closes.group, columns.ret[closes.operation]))
    apart = before == 0
    some = np.flatnonzero(~apart)
    apart[some] = latest[upto[some] - 1] < axis.at(group[some], call[some])
    previous = np.concatenate([[NEVER], ret[:-1]])[:count]
    alone = ((number == first) | (previous < call)) & ~_overtaken(group, call, ret, axis)
    anchor = apart & alone
    base = np.maximum.accumulate(np.where(anchor, number, -1))
    settled = base >= first
    base = np.where(settled, base, first)
    surplus = before - np.where(settled, before[base], 0) - (number - base)
    # How many closes there were too few, counted from what was settled before each birth.
    earlier = np.append(0, base[:-1])[:count]
    known = np.append(False, settled[:-1])[:count]
    fewer = before - np.where(known, before[earlier], 0) - (number - earlier)
    fewer[number == first] = 0
    before_that = np.append(0, np.where(anchor, 0, fewer)[:-1])[:count]
    wild = ports.caller[births] != (keys[group] >> PORT_BITS)
    vague = np.where(surplus > 0, axis.at(group, ret), -1)  # another may have come before
    before_it = np.append(-1, np.maximum.accumulate(vague))[:count]
    doubtful = (surplus != 0) | (before_it >= axis.at(group, call)) | np.isin(group, group[wild])

    # The closes of each life's gap: from its own return to the next one's.
    last = number == start[group + 1] - 1 if count else np.zeros(0, bool)
    until = np.where(
        last, np.searchsorted(closes.group, group, side="right"), np.append(upto[1:], 0)
    )
    found = until - upto
    gone = np.array([scope.end.get(int(k >> PORT_BITS), NEVER - 1) for k in keys], np.int64) + 1
    end_low = np.where(found > 0, NEVER, gone[group] if count else 0)
    end_high = np.full(count, NEVER)
    end = np.full(count, -1)
    has = np.flatnonzero(found > 0)
    end_low[has] = columns.call[closes.operation[upto[has]]]
    end_high[has] = _first_certain(closes.high, upto[has], until[has])
    one = has[found[has] == 1]
    end[one] = closes.operation[upto[one]]
    return Lives(
        keys=keys,
        start=start,
        group=group,
        born=births,
        doubtful=doubtful,
        end_low=end_low,
        end_high=end_high,
        end=end,
        twice=np.flatnonzero((fewer < 0) & (fewer < before_that)),
        axis=axis,
    )


def _overtaken(group: Int64, call: Int64, ret: Int64, axis: Axis) -> Bool:
    """Say which allocations another one of the same port, that returned later, overlaps."""
    if not len(group):
        return np.zeros(0, bool)
    earliest = np.minimum.accumulate(axis.at(group, call)[::-1])[::-1]
    following = np.append(earliest[1:], NEVER)
    return np.asarray(following <= axis.at(group, ret), bool)


def _first_certain(high: Int64, begin: Int64, end: Int64) -> Int64:
    """Return min(high[b:e]) for each b, e (never empty, ascending, disjoint)."""
    if not len(begin):
        return np.zeros(0, np.int64)
    bounds = np.stack([begin, end], axis=1).ravel()
    padded: npt.NDArray[np.int64] = np.append(high, NEVER)
    return np.minimum.reduceat(padded, bounds)[::2]
