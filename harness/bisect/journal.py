"""bisect.jsonl: every event on the disk before the next step, so that kill -9 costs one step."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from harness.bisect.tally import Built, Event, Skipped, State, Tested
from harness.results.directory import cannot_write
from harness.results.journal import append_line
from harness.verdict import ConfigError, HarnessError

_KINDS: dict[str, type[Event]] = {"built": Built, "tested": Tested, "skipped": Skipped}
_NAMES = {kind: name for name, kind in _KINDS.items()}


@dataclass(frozen=True)
class Head:
    """What is asked; a journal goes on only for the same question."""

    good: str
    bad: str
    tests: tuple[str, ...]
    host: str
    signature: str  # that is looked for: Signature.key(); "": the bad end's
    compares: str = "evidence"  # what makes two failures the same; before it was their words


class Journal:
    """The one writer of a journal, new or gone on with.  ``state`` is what it holds so far.

    A last line that was cut off by the end of its writer is dropped.  ConfigError if it is
    another question's, or another process writes it.
    """

    def __init__(self, path: Path, head: Head, state: State) -> None:
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            content = path.read_bytes()
        except BlockingIOError:
            raise ConfigError("another bisection writes here", where=str(path)) from None
        except OSError as error:
            raise cannot_write(path, error) from error
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.ftruncate(self._fd, len(whole))
        lines = whole.splitlines()
        wanted = {"kind": "question", **_plain(asdict(head))}
        if not lines:
            self._write(wanted)
        elif "compares" not in (asked := _json(lines[0], path, 1)):
            raise ConfigError(
                "an older harness began this bisection, and told failures by their words",
                where=str(path),
                hint="give --out a new directory",
            )
        elif asked != wanted:
            raise ConfigError(
                "this directory holds the bisection of another question",
                where=str(path),
                hint="give --out a new directory",
            )
        self.state = state
        for number, line in enumerate(lines[1:], 2):
            self.state = self.state.after(_event(_json(line, path, number), path, number))

    def add(self, event: Event) -> None:
        """Write ``event``; LabError if the disk will not take it."""
        self._write({"kind": _NAMES[type(event)], **_plain(asdict(event))})

    def close(self) -> None:
        """End the journal."""
        os.close(self._fd)

    def _write(self, document: dict[str, Any]) -> None:
        append_line(self._fd, json.dumps(document).encode() + b"\n", self._path)

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


def _json(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except ValueError:
        raise HarnessError("damaged", where=f"{path}:{number}", hint=_AFRESH) from None
    if not isinstance(document, dict):
        raise HarnessError("not a JSON object", where=f"{path}:{number}", hint=_AFRESH)
    return document


def _event(document: dict[str, Any], path: Path, number: int) -> Event:
    kind = _KINDS.get(str(document.pop("kind", "")))
    try:
        if kind is None:
            raise ValueError("unknown kind")
        event: Event = TypeAdapter(kind).validate_python(document)
        return event
    except (ValueError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise HarnessError(reason, where=f"{path}:{number}", hint=_AFRESH) from None


_AFRESH = "give --out a new directory to begin afresh"
