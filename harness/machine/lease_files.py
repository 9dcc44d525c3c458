# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of one server's leases, in a folder that several computers and users may share.

Every tenure has a file of its own, ``NAME@NUMBER.json``; the one with the highest number counts.
Who takes the lease creates the next number, which only one can (O_EXCL, also on NFS), and from
then on writes to nothing else: so there is no lock that a stopped process could keep.  The
highest file of a tenure is never removed, only replaced by a higher one: who comes late finds
that out.

What is in the folder may be anybody's: nothing is opened that is no regular file, and no more is
read than a lease has.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from harness.verdict import LabError

FREE = b"free\n"  # what the holder leaves in its file when it gives the server back
_MOST_BYTES = 4096
_DIGITS = 12  # of a number; it grows by one with every tenure
_SHARED = 0o644  # whatever the umask: who waits for the lease has to read it


@dataclass(frozen=True)
class Entry:
    """The file of one tenure: its number and what it contains."""

    number: int
    body: bytes


NOBODY = Entry(0, FREE)  # the server was never leased


class LeaseFiles:
    """The files of server ``name`` in ``folder``; every method raises OSError, or LabError for
    what somebody has put there that is no lease."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._ours = re.compile(re.escape(name) + rf"@([0-9]{{1,{_DIGITS}}})\.json")

    def path(self, number: int) -> Path:
        """Return where the file of tenure ``number`` is."""
        return self._folder / f"{self._name}@{number}.json"

    def newest(self) -> Entry:
        """Return the entry that counts."""
        while True:
            number = max(self._numbers(), default=0)
            if not number:
                return NOBODY
            try:
                return Entry(number, _read(self.path(number)))
            except FileNotFoundError:  # replaced since we looked
                continue

    def create(self, number: int, body: bytes) -> int | None:
        """Create the file of tenure ``number``; None if somebody else has done that.

        Returns a file descriptor, to be given to ``write``.
        """
        path = self.path(number)
        if len(str(number)) > _DIGITS:
            raise LabError(
                "there is no number left for the lease",
                where=str(self.path(number - 1)),
                hint="somebody has made that file; remove it",
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            file = os.open(path, flags, _SHARED)
        except FileExistsError:
            return None
        try:
            os.fchmod(file, _SHARED)
            self.write(file, body)
        except BaseException:
            os.close(file)
            # Nobody holds it: else everybody would wait for whoever has written nothing into it.
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        return file

    def write(self, file: int, body: bytes) -> None:
        """Replace what is in an open file by ``body``.  A reader may see half of it: that is no
        lease it knows, and another content than before, so it goes on waiting."""
        if os.pwrite(file, body, 0) < len(body):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.ftruncate(file, len(body))
        os.fsync(file)  # other clients of NFS see it from now on

    def sweep(self, number: int) -> None:
        """Remove the files of tenures before ``number``, where this user may."""
        for old in self._numbers():
            if old < number:
                with contextlib.suppress(OSError):
                    self.path(old).unlink()

    def _numbers(self) -> list[int]:
        try:
            names = [path.name for path in self._folder.iterdir()]
        except FileNotFoundError:
            return []
        return [int(found[1]) for name in names if (found := self._ours.fullmatch(name))]


def _read(path: Path) -> bytes:
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise _no_lease(path)
    # If it is replaced now: O_NOFOLLOW refuses a symlink, O_NONBLOCK does not wait at a fifo.
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise _no_lease(path)
        return os.pread(file, _MOST_BYTES, 0)
    finally:
        os.close(file)


def _no_lease(path: Path) -> LabError:
    return LabError(
        "this is not a lease, but no regular file",
        where=str(path),
        hint="somebody has put it there: see who may write in that folder, and remove it",
    )
