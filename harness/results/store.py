# SPDX-License-Identifier: GPL-2.0-or-later
"""Read a run directory back into values, also if the run has not come to its end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeVar

from harness.results import manifest, records
from harness.results.directory import RunDirectory
from harness.results.journal import Entry, read
from harness.results.records import PHASES, Record
from harness.verdict import Verdict, combine

State = Literal["finished", "running", "interrupted"]

_R = TypeVar("_R", bound=Record)


@dataclass(frozen=True)
class HostRun:
    """Everything in the journal about one host.  A text that is not known (yet) is ""."""

    name: str
    verdict: Verdict
    message: str  # one line: why not PASS
    arch: str
    accel: str
    accel_reason: str
    flavour: str
    build_id: str
    xen_version: str
    source: str
    toolstack: str
    toolstack_reason: str
    restored: str
    series: tuple[records.Patch, ...]
    model: records.Model | None
    rules: tuple[records.FoundRule, ...]
    operations: int
    starved: float  # the share of the time, 0 to 1, for which the machine waited for a CPU
    seconds: dict[str, float]  # by phase, in the order of PHASES
    domains: tuple[records.Domain, ...]
    tests: tuple[records.Test, ...]
    samples: tuple[records.Sample, ...]
    latencies: tuple[records.Latency, ...]
    console_events: tuple[records.ConsoleEvent, ...]
    leaks: tuple[records.Leak, ...]
    lock_code: records.LockCode | None

    @property
    def symptoms(self) -> tuple[Symptom, ...]:
        """What its consoles said is wrong, where that killed nobody; the first of a kind first."""
        return symptoms(self.console_events)


@dataclass(frozen=True)
class Symptom:
    """What a console said is wrong, ``count`` times; ``text`` is how it said it first."""

    stream: str
    kind: str
    text: str
    count: int


@dataclass(frozen=True)
class Run:
    """Everything in the journal about one run."""

    directory: RunDirectory
    state: State
    verdict: Verdict
    message: str  # one line: why not PASS
    seed: int | None  # None: the first record of the journal is lost
    argv: tuple[str, ...]
    version: str
    started: datetime | None  # UTC
    seconds: float  # of an interrupted run: until its last record
    hosts: tuple[HostRun, ...]
    problems: tuple[str, ...]  # lines of the journal, or the manifest, that could not be read


def load(path: Path) -> Run:
    """Read the run in directory ``path``; ConfigError if there is none.

    A run without an end is MISS, "interrupted", unless it recorded a more severe verdict before.
    """
    directory = RunDirectory(path.absolute())
    reading = read(directory.journal)
    entries = reading.entries
    found = [entry.record for entry in entries]
    start = _last(found, records.RunStart)
    end = _last(found, records.RunEnd)
    state: State = "finished" if end else "running" if reading.growing else "interrupted"
    hosts = tuple(_host(name, found, state) for name in _host_names(found))
    return Run(
        directory=directory,
        state=state,
        verdict=end.verdict if end else combine([Verdict.MISS, *(h.verdict for h in hosts)]),
        message=end.message if end else _unfinished(state),
        seed=start.seed if start else None,
        argv=start.argv if start else (),
        version=start.version if start else "",
        started=entries[0].time if entries else None,
        seconds=end.seconds if end else _elapsed(entries),
        hosts=hosts,
        problems=(*reading.problems, *filter(None, [manifest.problem(directory)])),
    )


def symptoms(events: Iterable[records.ConsoleEvent]) -> tuple[Symptom, ...]:
    """Return the symptoms among ``events``, those of one stream and kind as one."""
    groups: dict[tuple[str, str], list[records.ConsoleEvent]] = {}
    for event in events:
        if not event.dies:
            groups.setdefault((event.stream, event.event), []).append(event)
    return tuple(Symptom(*key, group[0].text, len(group)) for key, group in groups.items())


def _host(name: str, found: Sequence[Record], state: State) -> HostRun:
    mine = [record for record in found if getattr(record, "host", None) == name]
    start = _last(mine, records.HostStart)
    end = _last(mine, records.HostEnd)
    tests = _all(mine, records.Test)
    domains = _all(mine, records.Domain)
    seconds = _seconds(_all(mine, records.Phase))
    broken = _last(mine, records.Broken)
    seen = [test.verdict for test in tests] + ([broken.verdict] if broken else [])
    return HostRun(
        name=name,
        verdict=end.verdict if end else combine([Verdict.MISS, *seen]),
        message=end.message if end else broken.message if broken else _unfinished(state, seconds),
        arch=start.arch if start else "",
        accel=start.accel if start else "",
        accel_reason=start.accel_reason if start else "",
        flavour=start.flavour if start else "",
        build_id=start.build_id if start else "",
        xen_version=start.xen_version if start else "",
        source=start.source if start else "",
        toolstack=start.toolstack if start else "",
        toolstack_reason=start.toolstack_reason if start else "",
        restored=start.restored if start else "",
        series=start.series if start else (),
        model=start.model if start else None,
        rules=start.rules if start else (),
        operations=end.operations if end else sum(d.operations for d in domains),
        starved=end.starved if end else 0.0,
        seconds=seconds,
        domains=domains,
        tests=tests,
        samples=_all(mine, records.Sample),
        latencies=_all(mine, records.Latency),
        console_events=_all(mine, records.ConsoleEvent),
        leaks=_all(mine, records.Leak),
        lock_code=_last(mine, records.LockCode),
    )


def _unfinished(state: State, seconds: dict[str, float] | None = None) -> str:
    if state == "running":
        return "still running"
    if seconds is None:
        return "interrupted"
    if state == "finished":
        return "not reached" if not seconds else "did not end"
    return f"interrupted after {list(seconds)[-1]}" if seconds else "interrupted before it began"


def _seconds(phases: Iterable[records.Phase]) -> dict[str, float]:
    total: dict[str, float] = {}
    for phase in phases:
        total[phase.name] = total.get(phase.name, 0.0) + phase.seconds
    order = [name for name in PHASES if name in total]
    return {name: total[name] for name in [*order, *(set(total) - set(order))]}


def _host_names(found: Sequence[Record]) -> list[str]:
    start = _last(found, records.RunStart)
    names = dict.fromkeys(start.hosts if start else ())
    seen = (getattr(record, "host", None) for record in found)
    return list(names | dict.fromkeys(name for name in seen if name is not None))


def _elapsed(entries: Sequence[Entry]) -> float:
    return (entries[-1].time - entries[0].time).total_seconds() if entries else 0.0


def _all(found: Iterable[Record], cls: type[_R]) -> tuple[_R, ...]:
    return tuple(record for record in found if isinstance(record, cls))


def _last(found: Iterable[Record], cls: type[_R]) -> _R | None:
    return next(reversed(_all(found, cls)), None)
