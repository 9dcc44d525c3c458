# SPDX-License-Identifier: GPL-2.0-or-later
"""Slots for emulated machines: this computer runs only as many at once as it has CPUs for.

Two machines that share too few CPUs both stop for many seconds at a time (seen on arm64), and
both runs end with MISS.  So the second one waits for a slot.  If a run is killed, its slot is
free at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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
        turn = _first_free([shelf / "queue.lock"], waits)
        try:
            held = _first_free([shelf / f"{n}.lock" for n in range(slots(cpus))], waits)
        finally:
            os.close(turn)
    except OSError as error:
        raise LabError(
            f"cannot hold a CPU slot for the machine: {error.strerror}",
            where=str(error.filename or shelf),
            hint=f"correct the permissions there, or set {cache.ENVIRONMENT} to another directory",
        ) from error
    try:
        yield
    finally:
        os.close(held)


def slots(cpus: int, ours: int | None = None) -> int:
    """Return how many machines of ``cpus`` CPUs can run at once; at least 1."""
    return max(1, (ours or len(os.sched_getaffinity(0))) // cpus)


def _first_free(paths: list[Path], notice: Callable[[], None]) -> int:
    """Lock the first free one of ``paths``, and return its descriptor: closing it unlocks."""
    while True:
        for path in paths:
            file = _opened(path)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return file
            except BlockingIOError:
                os.close(file)
            except BaseException:
                os.close(file)
                raise
        notice()
        time.sleep(_PAUSE)


def _opened(path: Path) -> int:
    """Open a lock file for reading, which is enough to lock it: its owner may be another user."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    while True:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(os.lstat(path).st_mode):
                raise LabError(
                    "this is no lock file",
                    where=str(path),
                    hint="see who may write in that folder, and remove it",
                )
            return os.open(path, flags)
        with contextlib.suppress(FileExistsError):  # another run was faster
            file = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
            os.fchmod(file, 0o644)  # whatever the umask: other users wait for it as well
            return file
