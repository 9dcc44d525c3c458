# SPDX-License-Identifier: GPL-2.0-or-later
"""Patience: how long to wait for a machine, counted in the time that it really had.

On a busy computer the threads of an emulated machine stand in the scheduler's queue, and what
takes a second alone takes ten.  A deadline in wall time would then judge the neighbours.  So a
deadline is counted on a ``Clock``.  That of a machine under QEMU stands still while the machine
wants a CPU and has none.  It does not stand still while the guest has nothing to do, waits for
ever, or is stopped: that is what deadlines are for.  A server has its CPUs for itself: its clock is
the wall's.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

# The clock of a machine that has no CPU at all still goes at this share of the wall's: the longest
# wait is so many times as long as on a quiet computer.
_SLOWEST = 1 / 20
_LOOK_SECONDS = 0.05  # between two looks at the threads, which take half a millisecond


class Clock(Protocol):
    """Measures how long somebody has waited for a machine."""

    def now(self) -> float:
        """Return seconds since some moment; never less than before."""
        ...

    @property
    def starved(self) -> float:
        """The share of all time so far, 0 to 1, for which the machine had to wait for a CPU."""
        ...


class WallClock:
    """Every second counts."""

    def now(self) -> float:
        """Return the seconds of the system's monotonic clock."""
        return time.monotonic()

    @property
    def starved(self) -> float:
        """Nothing is known of a server's CPUs."""
        return 0.0


WALL = WallClock()


class MachineClock:
    """Stands still while a thread of the process waits for a CPU (the slowest thread decides).

    ``pid`` returns the process, 0 while there is none: then every second counts.
    """

    def __init__(self, pid: Callable[[], int]) -> None:
        self._pid = pid
        self._lock = threading.Lock()
        self._began = self._seen = time.monotonic()
        self._now = 0.0
        # By thread: how many seconds it has waited, and how many are still to be subtracted.
        self._waited: dict[str, float] = {}
        self._debts: dict[str, float] = {}

    def now(self) -> float:
        """Return the seconds that the machine has had."""
        with self._lock:
            passed = time.monotonic() - self._seen
            if passed < _LOOK_SECONDS:
                return self._now
            self._seen += passed
            waited = _waited(self._pid())
            # The kernel accounts for a wait at its end, so it may be longer than ``passed``.
            debts = {
                thread: self._debts.get(thread, 0.0) + now - self._waited.get(thread, now)
                for thread, now in waited.items()
            }
            given = max(passed - max(debts.values(), default=0.0), passed * _SLOWEST)
            # Threads that wait at the same time are late by the same seconds.
            self._debts = {t: max(0.0, debt - (passed - given)) for t, debt in debts.items()}
            self._waited = waited
            self._now += given
            return self._now

    @property
    def starved(self) -> float:
        """The share of all time so far, 0 to 1, for which the machine had to wait for a CPU."""
        now = self.now()
        passed = self._seen - self._began
        return round(1 - now / passed, 3) if passed > 0 else 0.0


class Deadline:
    """A moment on a clock, so many ``seconds`` from now."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._end = clock.now() + seconds

    @property
    def left(self) -> float:
        """Seconds until then; 0 or less when it is over."""
        return self._end - self._clock.now()

    @property
    def over(self) -> bool:
        """Whether it has passed."""
        return self.left <= 0


def _waited(pid: int) -> dict[str, float]:
    """Return how many seconds each thread of a process has waited for a CPU since it began.

    Second number in schedstat (the kernel's Documentation/scheduler/sched-stats.rst).
    """
    waited = {}
    if pid:
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError, ValueError, IndexError):  # the thread has ended
                waited[path.parent.name] = int(path.read_text().split()[1]) / 1e9
    return waited
