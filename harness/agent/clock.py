"""One clock for all domains: the reference is dom0's CPU counter."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True)
class ClockReading:
    """A domain's counter compared with dom0's, in ticks."""

    local: int  # the domain's counter
    remote: int  # dom0's, at the same moment
    error: int  # ... to within so much
    skew: int  # bound of how far the domain's vCPUs are apart
    tick_hz: int  # ticks per second, measured since the agent started


@dataclass(frozen=True)
class Clock:
    """A domain's counter as a straight line over reference time."""

    tick_hz: int
    ticks_at_zero: int  # the domain's counter at reference time 0
    error_ns: int  # bound of the line's error


def reference(before: ClockReading, after: ClockReading) -> Clock:
    """Return dom0's own clock; reference time 0 is the moment of ``before``."""
    return Clock(after.tick_hz, before.remote, 0)


def compare(before: ClockReading, after: ClockReading, dom0: Clock) -> Clock:
    """Return the clock of a domain that was compared with ``dom0`` before and after a run.

    Both comparisons bound the difference of the two counters.  When they can be true at
    once, the counters run at one rate and their common part is the bound.  Otherwise the
    line goes through both points, and is nowhere worse than at the worse of them.
    """
    low = max(r.local - r.remote - r.error for r in (before, after))
    high = min(r.local - r.remote + r.error for r in (before, after))
    if low <= high:
        middle = (low + high) // 2
        error = max(high - middle, middle - low)
        return Clock(dom0.tick_hz, dom0.ticks_at_zero + middle, _ns(error, dom0.tick_hz))
    rate = (after.local - before.local) / (after.remote - before.remote)
    since_zero = before.remote - dom0.ticks_at_zero
    return Clock(
        round(dom0.tick_hz * rate),
        before.local - round(since_zero * rate),
        _ns(max(before.error, after.error) + 1, dom0.tick_hz),
    )


def _ns(ticks: int, tick_hz: int) -> int:
    return ceil(ticks * 1_000_000_000 / tick_hz)
