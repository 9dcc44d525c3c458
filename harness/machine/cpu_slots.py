"""How many emulated machines this one can run at once: as many as it has CPUs for.

Two that share too few CPUs both stand still for many seconds at a time (seen on arm64), and
all that comes of it is two MISSes.  So one waits for the other; a run that is killed frees
its slot at once.
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
    """Wait for, and hold, the right to run a machine of ``cpus`` CPUs.

    ``notice`` is told that it waits.  Runs of one user, or of one cache, know of each other.
    A loop of runs leaves the slot free for moments only: who has waited is first in the queue.
    """

    def waits() -> None:
        notice("waiting for another run's machine: there are no CPUs for both")

    shelf = cache.root() / "slots"
    try:
        shelf.mkdir(parents=True, exist_ok=True)
        turn = _first_free([FileLock(shelf / "queue.lock")], waits)
        try:
            lock = _first_free([FileLock(shelf / f"{n}.lock") for n in range(slots(cpus))], waits)
        finally:
            turn.release()
    except OSError as error:
        raise LabError(f"cannot hold a place for the machine: {error}", where=str(shelf)) from error
    try:
        yield
    finally:
        lock.release()


def slots(cpus: int, ours: int | None = None) -> int:
    """Return how many machines of ``cpus`` CPUs fit; one always does."""
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
