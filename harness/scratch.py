"""Scratch directories of a run: sockets, overlays, keys.  Gone when the run ends, however it ends.

The owner holds a lock on ``owner`` inside; the kernel frees it when the owner
dies, so the next run can tell a dead run's directory from a living one's.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.verdict import LabError

_PREFIX = f"evtchn-harness-{os.getuid()}-"
_UNBORN = f".{_PREFIX}"


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a new private directory (mode 0700) in the temporary directory; remove it at the end.

    Short on purpose: a UNIX socket's path has at most 107 bytes.
    """
    sweep()
    try:
        fresh = Path(tempfile.mkdtemp(prefix=_UNBORN))
        handle = (fresh / "owner").open("w")
        fcntl.flock(handle, fcntl.LOCK_EX)
        folder = fresh.with_name(fresh.name.replace(_UNBORN, _PREFIX, 1))
        fresh.rename(folder)  # only now may a sweep look at it
    except OSError as error:
        raise LabError(
            f"no scratch directory: {error.strerror}",
            where=tempfile.gettempdir(),
            hint="free space there, or set TMPDIR",
        ) from error
    with handle:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def sweep() -> list[Path]:
    """Remove the directories of our own runs that died; return them."""
    dead = []
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            with (folder / "owner").open() as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # alive, or not made yet
            continue
        shutil.rmtree(folder, ignore_errors=True)
        dead.append(folder)
    return dead
