# SPDX-License-Identifier: GPL-2.0-or-later
"""Excerpts of console logs: the lines around each event, and the last lines."""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness import bounded
from harness.results.records import ConsoleEvent

BEFORE = 12  # lines shown before an event,
AFTER = 20  # and after it: a panic's registers and stack follow it
TAIL = 25
MAX_EXCERPTS = 6  # per stream: crashes matter more than symptoms, and the first ones most
_WIDTH = 240
_LONG_AGO, _NEVER = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
_LONGEST = 8 * _WIDTH  # characters of a line that are looked at: escape sequences fall out
_LARGEST = 64 << 20  # bytes of a log that are read: twice what this harness writes
_MOST_EVENTS = 200  # per stream, that are looked for in its log

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


def logs(folder: Path) -> list[Path]:
    """Return the logs in ``folder`` (none if it does not exist): no link, and no pipe."""
    try:
        found = sorted(folder.glob("*.log"))
    except OSError:  # the name is none that a folder can have
        return []
    return [log for log in found if log.is_file() and not log.is_symlink()]


def read_streams(folder: Path, events: Sequence[ConsoleEvent]) -> tuple[Stream, ...]:
    """Return the streams recorded in ``folder`` (none if it does not exist), xen and dom0 first."""
    paths = sorted(logs(folder), key=lambda path: (_rank(path.stem), path.stem))
    return tuple(_stream(path, [e for e in events if e.stream == path.stem]) for path in paths)


def _rank(name: str) -> int:
    return {"xen": 0, "dom0": 1}.get(name, 2)


def _stream(path: Path, events: Sequence[ConsoleEvent]) -> Stream:
    lines = [_line(text) for text in _texts(path)]
    find, deadly = _Finder(lines), []
    for event in events[:_MOST_EVENTS]:
        index = find(event)
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


class _Finder:
    """Finds the lines of events: of those with an event's text, the nearest in time.

    Looks through the log once for each text, as thousands of events often have the same.
    """

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = lines
        self._all = self._by_time(lambda line: True)
        self._with: dict[str, list[tuple[datetime, int]]] = {}

    def __call__(self, event: ConsoleEvent) -> int | None:
        text = _clean(event.text).strip()
        if text not in self._with:
            self._with[text] = self._by_time(lambda line: bool(text) and text in line.text)
        try:
            moment = bounded.utc(event.t)
        except ValueError:  # a time that no run can be at
            moment = _LONG_AGO
        found = self._nearest(self._with[text], moment)
        return self._nearest(self._all, moment, only_timed=True) if found is None else found

    def _by_time(self, wanted: Callable[[Line], bool]) -> list[tuple[datetime, int]]:
        found = ((n.time or _NEVER, i) for i, n in enumerate(self._lines) if wanted(n))
        return sorted(found)

    def _nearest(
        self, among: Sequence[tuple[datetime, int]], moment: datetime, only_timed: bool = False
    ) -> int | None:
        """Return the line of ``among`` nearest to ``moment`` that no event has yet."""
        above = bisect_left(among, (moment, 0))
        below = above - 1
        while below >= 0 or above < len(among):
            near = above >= len(among) or (
                below >= 0 and moment - among[below][0] <= among[above][0] - moment
            )
            time, index = among[below if near else above]
            below, above = (below - 1, above) if near else (below, above + 1)
            if not self._lines[index].event and not (only_timed and time == _NEVER):
                return index
        return None


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
    stamp, _, rest = text[:_LONGEST].partition(" ")
    try:
        time = bounded.time(stamp)
    except ValueError:
        return Line(None, _shorten(_clean(text[:_LONGEST])))
    return Line(time, _shorten(_clean(rest)))


def _texts(path: Path) -> list[str]:
    try:
        with bounded.opened(path, follow=False) as file:
            text = file.read(_LARGEST).decode(errors="replace")
            rest = os.fstat(file.fileno()).st_size - file.tell()
    except OSError:
        return []
    lines = text.removesuffix("\n").split("\n") if text else []  # a console has \r, \f... inside
    return [*lines, f"harness: {rest:,} bytes more are not shown"] if rest > 0 else lines


def _clean(text: str) -> str:
    return _CONTROL.sub("", text)


def _shorten(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…"
