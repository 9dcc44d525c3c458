# SPDX-License-Identifier: GPL-2.0-or-later
"""Times on many channels at once: as sortable numbers, moved, and put in order.

For each of many operations the rules look up a place in the sequence of its own channel.  One
binary search does that for all channels when (channel, time) is one number:

    channel         0                    1                    2
    time      |low  ...  NEVER|    |low  ...  NEVER|    |low  ...  NEVER|
    number    0 ...    span - 1    span ...   2*span-1  2*span ...
"""

from __future__ import annotations

import numpy as np

from harness.history.format.columns import NEVER, Int64


class Axis:
    """Numbers for (channel, time): ``channel * span + time - low``, in the order of both.

    ``low`` is a time before everything; NEVER gets the last number of its channel.
    """

    def __init__(self, first: int, last: int, channels: int) -> None:
        """``first``, ``last``: of all times (ns) that are not NEVER."""
        self.low = first - 1
        self.span = last - first + 4
        if channels * self.span >= 1 << 62:
            raise OverflowError("too many ports over too long a time for one piece")

    def with_channels(self, channels: int) -> Axis:
        """Return an axis for the same times on another number of channels (or other groups)."""
        return Axis(self.low + 1, self.low + self.span, channels)

    def at(self, channel: Int64, time: Int64) -> Int64:
        """Return the numbers of ``time`` on ``channel``."""
        number: Int64 = np.clip(time, self.low, self.low + self.span - 1)
        number -= self.low
        number += channel * self.span
        return number

    def one(self, channel: int, time: int) -> int:
        """Return what ``at`` returns for one pair, many times faster than arrays of one."""
        last = self.low + self.span - 1
        return channel * self.span + min(max(time, self.low), last) - self.low

    def time(self, channel: Int64, number: Int64) -> Int64:
        """Undo ``at``."""
        offset = number - channel * self.span
        return np.where(offset >= self.span - 1, NEVER, offset + self.low)


def later(time: Int64, by: Int64) -> Int64:
    """Return ``time + by``; NEVER stays NEVER."""
    return np.where(time == NEVER, NEVER, time + np.where(time == NEVER, 0, by))


def by_channel(channel: Int64) -> Int64:
    """Return an order that puts the members of a channel together, otherwise as they were.

    What is looked up in this order lies close together in memory: several times as fast.
    """
    few = channel.size and int(channel.min()) >= -(1 << 15) and int(channel.max()) < 1 << 15
    return np.argsort(channel.astype(np.int16) if few else channel, kind="stable")


def ranges(begin: Int64, end: Int64) -> Int64:
    """Return the numbers of all [begin, end), one range after the other."""
    length = np.maximum(end - begin, 0)
    offset = np.cumsum(length) - length
    return np.asarray(np.arange(int(length.sum())) + np.repeat(begin - offset, length), np.int64)
