# SPDX-License-Identifier: GPL-2.0-or-later
"""Scratch directories of a run, for sockets, overlays and keys.

A run removes its directory at its end.  It holds a lock on the file ``owner`` in it, which the
kernel releases if the run dies; so the next run sees which directories are of dead runs and
removes them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
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

    Its path is short, because the path of a UNIX socket has at most 107 bytes.
    """
    sweep()
    try:
        fresh = Path(tempfile.mkdtemp(prefix=_UNBORN))
        handle = (fresh / "owner").open("w")
        fcntl.flock(handle, fcntl.LOCK_EX)
        folder = fresh.with_name(fresh.name.replace(_UNBORN, _PREFIX, 1))
        fresh.rename(folder)  # from now on sweep() of another run sees it
    except OSError as error:
        raise LabError(
            f"cannot make a scratch directory: {error.strerror}",
            where=tempfile.gettempdir(),
            hint="free space there, or set TMPDIR",
        ) from error
    with handle:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def sweep() -> list[Path]:
    """Remove the directories of this user's dead runs; return their paths.

    Anybody may make files of any name and kind in the temporary directory.
    """
    dead = []
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            with _owner(folder) as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # not ours; or its run is alive, or has not locked it yet
            continue
        shutil.rmtree(folder, ignore_errors=True)
        dead.append(folder)
    return dead


@contextmanager
def _owner(folder: Path) -> Iterator[int]:
    """Open the file ``owner`` in ``folder``; OSError unless both can only be of a run of ours."""
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        private = _is_ours(os.fstat(here)) and not os.fstat(here).st_mode & 0o022
        found = os.stat("owner", dir_fd=here, follow_symlinks=False)
        if not (private and _is_ours(found) and stat.S_ISREG(found.st_mode)):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open("owner", flags, dir_fd=here)
    finally:
        os.close(here)
    try:
        yield handle
    finally:
        os.close(handle)


def _is_ours(found: os.stat_result) -> bool:
    return found.st_uid == os.getuid()
