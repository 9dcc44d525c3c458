# SPDX-License-Identifier: GPL-2.0-or-later
"""results.jsonl: append-only, fsynced after each record, readable even if its writer was killed.

Each line is sealed (harness.results.seal), so that damage is noticed.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from harness import bounded
from harness.config.json_file import first_problem
from harness.results.directory import cannot_write
from harness.results.records import Record, from_json, to_json
from harness.results.seal import Seals, seal
from harness.shown import without_secrets_in
from harness.verdict import ConfigError, HarnessError

_LARGEST = 128 << 20  # bytes of a journal that are read
_MOST_PROBLEMS = 20  # that are told one by one


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
        self._written = 0  # lines
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
        with self._lock:
            if self._fd < 0:
                raise HarnessError(
                    "a record was written after the journal was closed", where=str(self._path)
                )
            append_line(self._fd, seal(document, self._written + 1), self._path)
            self._written += 1

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

    A line that is cut off, damaged or too long is left out and reported in ``problems``, as are
    lines that are missing.  ConfigError if there is no journal at ``path``.
    """
    entries: list[Entry] = []
    problems: list[str] = []
    try:
        with bounded.opened(path) as source:
            growing = _is_locked(source.fileno())
            seals = Seals()
            for number, (line, whole) in enumerate(bounded.lines(source, most=_LARGEST), 1):
                if not whole and growing:
                    break
                try:
                    if source.tell() > _LARGEST:
                        raise _TooLarge(f"the journal is larger than {bounded.size(_LARGEST)}")
                    if not whole:
                        raise ValueError("cut off")
                    entry = _parse(line)
                    missing = seals.check(line or b"")
                    problems += [f"{path.name}:{number}: {missing}"] if missing else []
                    entries.append(entry)
                except ValueError as error:
                    seals.skip()
                    problems.append(f"{path.name}:{number}: {_reason(error)}, dropped")
                    if isinstance(error, _TooLarge):
                        break
    except OSError as error:
        raise ConfigError(
            f"cannot read the journal: {error.strerror}",
            where=str(path),
            hint="give the directory of a run",
        ) from None
    return Reading(tuple(entries), _told(problems), growing)


class _TooLarge(ValueError):
    """The rest of a journal is not read."""


def _told(problems: list[str]) -> tuple[str, ...]:
    more = len(problems) - _MOST_PROBLEMS
    rest = [f"and {more} more lines that cannot be read"] if more > 0 else []
    return (*problems[:_MOST_PROBLEMS], *rest)


def _parse(line: bytes | None) -> Entry:
    if line is None:
        raise ValueError(f"longer than {bounded.size(bounded.LINE)}")
    try:
        document = bounded.json_value(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except ValueError as error:
        raise ValueError(f"damaged: {error}") from None
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    time = bounded.time(str(document.get("time")))
    return Entry(time, from_json(document))


def _reason(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        field, what = first_problem(error)
        return f"field {field}: {what}"
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
