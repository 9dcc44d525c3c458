# SPDX-License-Identifier: GPL-2.0-or-later
"""The log of one console stream, which has a largest size: its beginning and its end are kept.

A guest may print without end, and must not fill the disk.
"""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

HEAD = 16 << 20  # bytes that are written to the log as they come
PART = 8 << 20  # after that; of the last two such parts one is whole, so 8 to 16 MiB are kept


class ConsoleLog:
    """Writes ``path``; whoever kills us at any moment loses nothing of what is kept.

    After HEAD bytes, lines go to ``path``.tail, which becomes ``path``.tail-1 when it is full;
    ``close`` appends both to the log, after a line that says how much was left out.
    """

    def __init__(self, path: Path, head: int = HEAD, part: int = PART) -> None:
        """Open the log to append; OSError if that is not possible."""
        self._path, self._head, self._part = path, head, part
        self._older = path.with_name(f"{path.name}.tail-1")
        self._newer = path.with_name(f"{path.name}.tail")
        self._file = path.open("ab", buffering=0)
        self._tail: BinaryIO | None = None
        self._size = path.stat().st_size  # of the file that is written now
        self._lines = 0  # in that file
        self._kept = 0  # lines in the older part
        self.left_out = 0  # lines

    @property
    def capped(self) -> bool:
        """Whether more came than is written to the log as it comes."""
        return self._tail is not None

    def write(self, stamp: str, text: str) -> None:
        """Write a line with its time ``stamp``; OSError if the disk refuses it."""
        line = f"{stamp} {text}\n".encode(errors="replace")
        if self._tail is None and self._size + len(line) > self._head:
            self._mark(
                f"more than {self._head:,} bytes: the newest lines are in {self._newer.name} "
                "until the console is closed"
            )
            self._next_part()
        elif self._tail is not None and self._size + len(line) > self._part:
            self._next_part()
        _write(self._tail or self._file, line)
        self._size += len(line)
        self._lines += 1

    def close(self) -> None:
        """Bring the parts together in the log; OSError if the disk refuses it."""
        try:
            if self._tail is None:
                return
            self._tail.close()
            self._mark(f"{self.left_out:,} lines were left out here")
            for part in (self._older, self._newer):
                if part.exists():
                    _write(self._file, part.read_bytes())
                    part.unlink()
        finally:
            self._file.close()

    def _next_part(self) -> None:
        """Begin the next part, and forget the one before the last."""
        if self._tail is not None:
            self._tail.close()
            self.left_out += self._kept
            self._kept = self._lines
            self._newer.replace(self._older)
        self._tail = self._newer.open("wb", buffering=0)
        self._size = self._lines = 0

    def _mark(self, text: str) -> None:
        _write(self._file, f"{stamp(datetime.now(UTC))} harness: {text}\n".encode())


def stamp(time: datetime) -> str:
    """Return how a line of a log begins; ``time`` is in UTC."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _write(file: BinaryIO, data: bytes) -> None:
    if file.write(data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
