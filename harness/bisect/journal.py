# SPDX-License-Identifier: GPL-2.0-or-later
"""bisect.jsonl: each event is on the disk before the next step begins, so that kill -9 loses at
most one step.  Each line is sealed (harness.results.seal): a damaged journal is not resumed."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from harness import bounded
from harness.bisect.observations import Built, Event, Observations, Skipped, Tested
from harness.results import seal
from harness.results.directory import cannot_write
from harness.results.journal import append_line
from harness.verdict import ConfigError, HarnessError

_LARGEST = 64 << 20  # bytes of a journal
_KINDS: dict[str, type[Event]] = {"built": Built, "tested": Tested, "skipped": Skipped}
_NAMES = {kind: name for name, kind in _KINDS.items()}


@dataclass(frozen=True)
class Header:
    """The first line: what is searched.  A journal is resumed only with the same header."""

    good: str
    bad: str
    tests: tuple[str, ...]
    host: str
    signature: str  # Signature.key() of the target; "": the most frequent failure of the bad end
    compares: str = "evidence"  # how failures are compared; an older harness compared messages
    changed: str = ""  # digest of the series that each revision gets, and of --model

    def fields(self) -> dict[str, Any]:
        """Return the fields, without what older journals do not have if it is not used."""
        return {name: value for name, value in asdict(self).items() if name != "changed" or value}


class Journal:
    """The only writer of a journal, which is new or resumed.

    ``observations`` holds the events of the journal so far.  If the last line is cut off, because
    the writer was killed, it is dropped.  ConfigError if the journal has another header, or
    another process writes it; HarnessError if it is damaged.
    """

    def __init__(self, path: Path, head: Header, observations: Observations) -> None:
        self._path = path
        try:
            if path.exists():
                bounded.opened(path).close()  # a FIFO would never let us read
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            content = bounded.content(path, _LARGEST)
        except BlockingIOError:
            raise ConfigError("another bisection writes here", where=str(path)) from None
        except OSError as error:
            raise cannot_write(path, error) from error
        self.observations = observations
        try:
            self._resume(content, head)
        except BaseException:
            self.close()
            raise

    def _resume(self, content: bytes, head: Header) -> None:
        """Read the events in ``content``, or begin a new journal."""
        path = self._path
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.ftruncate(self._fd, len(whole))
        lines = whole.split(b"\n")[:-1]
        self._written = len(lines)
        seals = seal.Seals()
        header_line = {"kind": "question", **_plain(head.fields())}
        if not lines:
            self._write(header_line)
        elif "compares" not in (asked := _json(lines[0], seals, path, 1)):
            raise ConfigError(
                "an older harness began this bisection, and compared failures by their messages",
                where=str(path),
                hint="give --out a new directory",
            )
        elif asked != header_line:
            raise ConfigError(
                "this directory holds the bisection of another question",
                where=str(path),
                hint="give --out a new directory",
            )
        for number, line in enumerate(lines[1:], 2):
            self.observations = self.observations.with_event(
                _event(_json(line, seals, path, number), path, number)
            )

    def add(self, event: Event) -> None:
        """Write ``event``; LabError if the disk refuses it."""
        self._write({"kind": _NAMES[type(event)], **_plain(asdict(event))})

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _write(self, document: dict[str, Any]) -> None:
        append_line(self._fd, seal.seal(document, self._written + 1), self._path)
        self._written += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """Return ``value`` as JSON reads it back: lists for tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(value))
    return plain


def _json(line: bytes, seals: seal.Seals, path: Path, number: int) -> dict[str, Any]:
    try:
        document = bounded.json_value(line)
        if missing := seals.check(line):
            raise ValueError(missing)
    except ValueError as error:
        why = f"damaged: {str(error).splitlines()[0]}"
        raise HarnessError(why, where=f"{path}:{number}", hint=_START_AGAIN) from None
    if not isinstance(document, dict):
        raise HarnessError("not a JSON object", where=f"{path}:{number}", hint=_START_AGAIN)
    return {key: value for key, value in document.items() if key not in seal.KEYS}


def _event(document: dict[str, Any], path: Path, number: int) -> Event:
    kind = _KINDS.get(str(document.pop("kind", "")))
    try:
        if kind is None:
            raise ValueError("unknown kind")
        event: Event = TypeAdapter(kind).validate_python(document)
        return event
    except (ValueError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise HarnessError(reason, where=f"{path}:{number}", hint=_START_AGAIN) from None


_START_AGAIN = "give --out a new directory to start again"
