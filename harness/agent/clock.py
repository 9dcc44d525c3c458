# SPDX-License-Identifier: GPL-2.0-or-later
"""One clock for all domains: dom0's CPU counter is the reference."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from harness.verdict import LabError


@dataclass(frozen=True)
class ClockReading:
    """A domain's CPU counter, compared with dom0's; all but the last are ticks."""

    local: int  # the domain's counter
    remote: int  # dom0's counter at the same moment
    error: int  # how far the two moments can be apart
    skew: int  # how far the counters of two of the domain's vCPUs can be apart
    tick_hz: int  # ticks per second, as measured since the agent started


@dataclass(frozen=True)
class Clock:
    """Makes reference time of a domain's ticks: (ticks - ticks_at_zero) / tick_hz seconds."""

    tick_hz: int
    ticks_at_zero: int  # the domain's counter at reference time 0
    error_ns: int  # how far that can be wrong


def reference(before: ClockReading, after: ClockReading) -> Clock:
    """Return dom0's own clock: its reference time 0 is the moment of ``before``."""
    return Clock(after.tick_hz, before.remote, 0)


def compare(before: ClockReading, after: ClockReading, dom0: Clock) -> Clock:
    """Return the clock of a domain that was compared with ``dom0`` before and after a run.

    Each comparison says between which two values the difference of the counters was:

        before      |------- difference -------|
        after            |------- difference -------|
        both             |---------------------|

    If there are differences that fit both comparisons, the counters run at the same rate: the
    clock has the middle of them.  If there are none, the rates differ: the clock is the straight
    line through both comparisons, and its error is nowhere larger than at the worse of them.
    LabError if a counter has not gone on.
    """
    low = max(r.local - r.remote - r.error for r in (before, after))
    high = min(r.local - r.remote + r.error for r in (before, after))
    if low <= high:
        middle = (low + high) // 2
        error = max(high - middle, middle - low)
        return Clock(dom0.tick_hz, dom0.ticks_at_zero + middle, _ns(error, dom0.tick_hz))
    if after.remote <= before.remote or after.local <= before.local:
        raise LabError("the clock of a domain, or dom0's, stood still or went back")
    rate = (after.local - before.local) / (after.remote - before.remote)
    since_zero = before.remote - dom0.ticks_at_zero
    return Clock(
        round(dom0.tick_hz * rate),
        before.local - round(since_zero * rate),
        _ns(max(before.error, after.error) + 1, dom0.tick_hz),
    )


def _ns(ticks: int, tick_hz: int) -> int:
    return ceil(ticks * 1_000_000_000 / tick_hz)
