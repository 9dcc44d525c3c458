# SPDX-License-Identifier: GPL-2.0-or-later
"""Slots for emulated machines: this computer runs only as many at once as it has CPUs for.

Two machines that share too few CPUs both stop for many seconds at a time (seen on arm64), and
both runs end with MISS.  So the second one waits for a slot.  If a run is killed, its slot is
free at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from harness import cache
from harness.verdict import LabError

_PAUSE = 0.05


@contextmanager
def slot(cpus: int, notice: Callable[[str], None]) -> Iterator[None]:
    """Wait for a slot for a machine of ``cpus`` CPUs, and hold it while the block runs.

    If there is none, ``notice`` gets a message that says so.  All runs with the same cache share
    the slots.  A loop of runs frees its slot only for moments: so runs wait in a queue.
    """

    def waits() -> None:
        notice("waiting until another run ends: there are not enough CPUs for both machines")

    shelf = cache.shelf("slots")
    try:
        turn = _first_free([FileLock(shelf / "queue.lock")], waits)
        try:
            lock = _first_free([FileLock(shelf / f"{n}.lock") for n in range(slots(cpus))], waits)
        finally:
            turn.release()
    except OSError as error:
        raise LabError(
            f"cannot hold a CPU slot for the machine: {error}", where=str(shelf)
        ) from error
    try:
        yield
    finally:
        lock.release()


def slots(cpus: int, ours: int | None = None) -> int:
    """Return how many machines of ``cpus`` CPUs can run at once; at least 1."""
    return max(1, (ours or len(os.sched_getaffinity(0))) // cpus)


def _first_free(locks: list[FileLock], notice: Callable[[], None]) -> FileLock:
    while True:
        for lock in locks:
            try:
                lock.acquire(timeout=0)
                return lock
            except Timeout:
                continue
        notice()
        time.sleep(_PAUSE)
