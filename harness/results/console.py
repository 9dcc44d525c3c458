# SPDX-License-Identifier: GPL-2.0-or-later
"""Excerpts of console logs: the lines around each event, and the last lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.results.records import ConsoleEvent

BEFORE = 12  # lines shown before an event,
AFTER = 20  # and after it: a panic's registers and stack follow it
TAIL = 25
MAX_EXCERPTS = 6  # per stream: crashes matter more than symptoms, and the first ones most
_WIDTH = 240

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b.|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Line:
    """One line of a console log."""

    time: datetime | None  # None: the line has no time stamp
    text: str
    event: str = ""  # name of the event that this line reports; "": none


@dataclass(frozen=True)
class Excerpt:
    """Consecutive lines of a stream; ``first`` is the number of the first one, from 1."""

    first: int
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Stream:
    """One console of one host."""

    name: str
    path: Path
    total: int  # lines
    begin: datetime | None  # of the first line
    excerpts: tuple[Excerpt, ...]  # around the events, in order
    left_off: int  # number of events that no excerpt shows
    tail: Excerpt


def read_streams(folder: Path, events: Sequence[ConsoleEvent]) -> tuple[Stream, ...]:
    """Return the streams recorded in ``folder`` (none if it does not exist), xen and dom0 first."""
    paths = sorted(folder.glob("*.log"), key=lambda path: (_rank(path.stem), path.stem))
    return tuple(_stream(path, [e for e in events if e.stream == path.stem]) for path in paths)


def _rank(name: str) -> int:
    return {"xen": 0, "dom0": 1}.get(name, 2)


def _stream(path: Path, events: Sequence[ConsoleEvent]) -> Stream:
    lines = [_line(text) for text in _texts(path)]
    deadly = []
    for event in events:
        index = _find(lines, event)
        if index is not None:
            lines[index] = Line(lines[index].time, lines[index].text, event.event)
            deadly += [index] if event.dies else []
    marked = [index for index, line in enumerate(lines) if line.event]
    shown = _around(deadly)[:MAX_EXCERPTS]
    others = [at for at in marked if not any(begin <= at < end for begin, end in shown)]
    shown = _merge(sorted([*shown, *_around(others)[: MAX_EXCERPTS - len(shown)]]))
    return Stream(
        name=path.stem,
        path=path,
        total=len(lines),
        begin=next((line.time for line in lines if line.time), None),
        excerpts=tuple(_cut(lines, begin, end) for begin, end in shown),
        left_off=len(events) - sum(1 for i in marked for begin, end in shown if begin <= i < end),
        tail=_cut(lines, len(lines) - TAIL, len(lines)),
    )


def _find(lines: Sequence[Line], event: ConsoleEvent) -> int | None:
    """Return the index of the line of ``event``: of those with its text, the nearest in time."""
    text = _clean(event.text).strip()
    same = [i for i, line in enumerate(lines) if text and text in line.text and not line.event]

    def distance(index: int) -> float:
        time = lines[index].time
        return abs((time - event.t).total_seconds()) if time else float("inf")

    timed = [i for i, line in enumerate(lines) if line.time and not line.event]
    return min(same or timed, key=distance, default=None)


def _around(marked: Iterable[int]) -> list[tuple[int, int]]:
    """Return the ranges of the excerpts around the lines ``marked``, in order."""
    return _merge((index - BEFORE, index + AFTER + 1) for index in sorted(marked))


def _merge(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for begin, end in ranges:
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((begin, end))
    return merged


def _cut(lines: Sequence[Line], begin: int, end: int) -> Excerpt:
    begin = max(begin, 0)
    return Excerpt(begin + 1, tuple(lines[begin:end]))


def _line(text: str) -> Line:
    stamp, _, rest = text.partition(" ")
    try:
        time = datetime.fromisoformat(stamp)
    except ValueError:
        return Line(None, _shorten(_clean(text)))
    zoned = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    return Line(zoned, _shorten(_clean(rest)))


def _texts(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode(errors="replace")
    except OSError:
        return []
    return text.removesuffix("\n").split("\n") if text else []  # a console has \r, \f... inside


def _clean(text: str) -> str:
    return _CONTROL.sub("", text)


def _shorten(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…"
