# SPDX-License-Identifier: GPL-2.0-or-later
"""The timeline of a port: its changes of state, one after the other, each within bounds.

Nobody knows the instant of a change, but the hypercall that made it contains that instant, and
the changes of one port happened in a known order: allocated, bound by the other end, released
by the other end's close, ..., closed; then the next lifetime.  That narrows the bounds twice.

*In order*: a change is not before the earliest instant of the one before it, and not after the
latest instant of the one after it.

    as called       [--- 1 ---]
                                  [------------- 2 -------------]
                             [------ 3 ------]
    in order        [--- 1 ---]
                                  [--- 2 ----]
                                  [--- 3 ----]

*Across ports*: one hypercall can be a change on two ports (a bind, the close of a connected
port).  It had one instant, so what narrows it on one port narrows it on the other.

    bind, on port P          [----------------------]
    bind, on port Q                [-----------]
    on both                        [-----------]

A change whose bounds cross (earliest > latest) cannot have happened: a violation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from harness.history.check.axis import by_channel, later
from harness.history.check.connections import Connections
from harness.history.check.lifetimes import Lifetimes
from harness.history.check.states import ANYTHING
from harness.history.format.columns import NEVER, Columns, Int64

_ROUNDS = 8  # bounds travel one port per round; with more, the checker would only be stricter


@dataclass(frozen=True)
class Timeline:
    """All changes of all ports that agents allocated, sorted by channel and by their order.

    Parallel arrays, one element per change; times in ns, in the clock of the port's domain.
    Bounds are always *in order*.
    """

    lifetimes: Lifetimes
    connections: Connections
    lifetime: Int64
    channel: Int64
    low: Int64  # bounds of the instant of the change
    high: Int64
    operation: Int64  # that made the change; -1: it may be another, so it has bounds of its own
    slack: Int64  # between the clock of the operation and that of the port
    after: Int64  # the state that the change leads to (harness.history.check.states)
    peer: Int64  # the lifetime at the other end if that state is INTERDOMAIN and known, else -1
    lock_low: Int64  # the writer that made the change held the channel's lock
    lock_high: Int64  # at some time between these two

    def positions(self, channel: Int64, call: Int64, ret: Int64) -> tuple[Int64, Int64]:
        """Return the first and last position at which something in [call, ret] may lie.

        Position p is after change p - 1 and before change p:

            bounds of changes        [0]    [-- 1 --]      [2]
            position              0      1             2        3
            [call, ret]                         [-----]             1 or 2
        """
        axis = self.lifetimes.axis
        order = by_channel(channel)
        channel = channel[order]
        first, last = np.empty_like(channel), np.empty_like(channel)
        highs, lows = axis.at(self.channel, self.high), axis.at(self.channel, self.low)
        first[order] = np.searchsorted(highs, axis.at(channel, call[order]))
        last[order] = np.searchsorted(lows, axis.at(channel, ret[order]), side="right")
        return first, np.maximum(first, last)

    def state(self, channel: Int64, position: Int64) -> Int64:
        """Return the state of ``channel`` at ``position``."""
        if not len(self.channel):
            return np.zeros(len(position), np.int64)
        inside = (position > 0) & (self.channel[position - 1] == channel)
        return np.where(inside, self.after[position - 1], ANYTHING)

    def crossed(self) -> Int64:
        """Return the changes that cannot have happened, the first of each port only."""
        impossible = np.flatnonzero(self.low > self.high)
        _, first = np.unique(self.channel[impossible], return_index=True)
        return impossible[first]

    def in_order(self) -> Timeline:
        """Return this with bounds narrowed by the order of each port's changes."""
        low, high = self._in_order(self.low, self.high)
        return replace(self, low=low, high=high)

    def across_ports(self, columns: Columns) -> Timeline:
        """Return this with bounds narrowed by that order, and by operations on two ports."""
        low, high = self.low, self.high
        called, returned = columns.call.copy(), columns.ret.copy()
        shared = np.flatnonzero(self.operation >= 0)
        operation, slack = self.operation[shared], self.slack[shared]
        for _ in range(_ROUNDS):
            before = low, high
            low, high = self._in_order(low, high)
            np.maximum.at(called, operation, low[shared] - slack)
            np.minimum.at(returned, operation, later(high[shared], slack))
            low[shared] = np.maximum(low[shared], called[operation] - slack)
            high[shared] = np.minimum(high[shared], later(returned[operation], slack))
            if np.array_equal(low, before[0]) and np.array_equal(high, before[1]):
                break
        low, high = self._in_order(low, high)
        return replace(self, low=low, high=high)

    def _in_order(self, low: Int64, high: Int64) -> tuple[Int64, Int64]:
        axis = self.lifetimes.axis
        rising = np.maximum.accumulate(axis.at(self.channel, low))
        falling = np.minimum.accumulate(axis.at(self.channel, high)[::-1])[::-1]
        return (
            np.maximum(low, axis.time(self.channel, rising)),
            np.minimum(high, axis.time(self.channel, falling)),
        )

    def with_answers(self, channel: Int64, position: Int64, call: Int64, ret: Int64) -> Timeline:
        """Return this with bounds narrowed by answers of which each lies at one ``position``.

        The change before it had happened when the call returned, and the change after it had
        not when the call began:

            bounds of changes     [--------- 0 ---------]
                                        [---------- 1 ----------]
            answer at 1                     [-----]
            narrowed              [------ 0 ------]
                                            [------ 1 ----------]
        """
        if not len(self.channel):
            return self
        low, high = self.low.copy(), self.high.copy()
        before = position - 1
        there = (before >= 0) & (self.channel[before] == channel)
        np.minimum.at(high, before[there], ret[there])
        after = np.minimum(position, len(self.channel) - 1)
        there = (position < len(self.channel)) & (self.channel[after] == channel)
        np.maximum.at(low, after[there], call[there])
        return replace(self, low=low, high=high).in_order()

    def disclaimed(self, channels: Int64) -> Timeline:
        """Return this with nothing claimed about ``channels``: a violation was found on them."""
        if not len(channels):
            return self
        lost = np.isin(self.channel, channels)
        return replace(
            self,
            after=np.where(lost, ANYTHING, self.after),
            operation=np.where(lost, -1, self.operation),
            low=np.where(lost, self.lifetimes.axis.low, self.low),
            high=np.where(lost, NEVER, self.high),
        )
