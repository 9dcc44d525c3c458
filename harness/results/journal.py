# SPDX-License-Identifier: GPL-2.0-or-later
"""results.jsonl: append-only, fsynced after each record, readable even if its writer was killed."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from harness.results.directory import cannot_write
from harness.results.records import Record, from_json, to_json
from harness.shown import without_secrets_in
from harness.verdict import ConfigError, HarnessError


@dataclass(frozen=True)
class Entry:
    """One line of the journal: a record and when it was written (UTC)."""

    time: datetime
    record: Record


@dataclass(frozen=True)
class Reading:
    """The readable part of a journal."""

    entries: tuple[Entry, ...]
    problems: tuple[str, ...]  # one line for each line that was dropped: file:line: why
    growing: bool  # True: a process still writes it


class Journal:
    """The only writer of a journal.  Threads may share it.

    The file must not exist yet: so two writers cannot share it, and a run cannot add to the results
    of another run.  When append() returns, the record is on the disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
            fcntl.flock(self._fd, fcntl.LOCK_EX)  # readers see from the lock that we are alive
            _sync_directory(path.parent)
        except FileExistsError:
            raise ConfigError(
                "another run writes or has written its results here",
                where=str(path),
                hint="give each run its own --out directory",
            ) from None
        except OSError as error:
            raise cannot_write(path, error) from error

    def append(self, record: Record) -> None:
        """Write ``record`` with the current time; LabError if it cannot be written to the disk."""
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        document = {"time": now, **without_secrets_in(to_json(record))}
        line = json.dumps(document, allow_nan=False).encode() + b"\n"
        with self._lock:
            if self._fd < 0:
                raise HarnessError(
                    "a record was written after the journal was closed", where=str(self._path)
                )
            append_line(self._fd, line, self._path)

    def close(self) -> None:
        """Close the journal; may be called twice."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def append_line(descriptor: int, line: bytes, path: Path) -> None:
    """Append ``line``, whole or not at all, and wait for the disk; LabError names ``path``."""
    size = os.fstat(descriptor).st_size
    try:
        if os.write(descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    except OSError as error:
        os.ftruncate(descriptor, size)  # remove a partly written line
        raise cannot_write(path, error) from error


def read(path: Path) -> Reading:
    """Read a journal, also while a run writes it or after its writer was killed.

    A line that is cut off or damaged is left out and reported in ``problems``.
    ConfigError if there is no journal at ``path``.
    """
    try:
        with path.open("rb") as source:
            growing = _is_locked(source.fileno())
            content = source.read()
    except OSError as error:
        raise ConfigError(
            f"cannot read the journal: {error.strerror}",
            where=str(path),
            hint="give the directory of a run",
        ) from None
    entries: list[Entry] = []
    problems: list[str] = []
    for number, line, whole in _lines(content):
        where = f"{path.name}:{number}"
        if not whole:
            if not growing:
                problems.append(f"{where}: cut off, dropped")
            continue
        try:
            entries.append(_parse(line))
        except ValueError as error:
            problems.append(f"{where}: {_reason(error)}, dropped")
    return Reading(tuple(entries), tuple(problems), growing)


def _lines(content: bytes) -> Iterator[tuple[int, bytes, bool]]:
    """Yield (number from 1, line, whether it ends with a newline)."""
    *whole, rest = content.split(b"\n")
    for number, line in enumerate(whole, 1):
        yield number, line, True
    if rest:
        yield len(whole) + 1, rest, False


def _parse(line: bytes) -> Entry:
    try:
        document = json.loads(line)
    except RecursionError:
        raise ValueError("damaged") from None
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    time = datetime.fromisoformat(str(document.get("time")))
    return Entry(time.astimezone(UTC), from_json(document))


def _reason(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        return f"field {field}: {first['msg']}"
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return "damaged"
    return str(error)


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
