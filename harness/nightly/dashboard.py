# SPDX-License-Identifier: GPL-2.0-or-later
"""dashboard.html: one page about all nights.

It loads no other file; its links lead to the reports, witnesses and consoles of the runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from harness import page
from harness.nightly.changepoint import WINDOW
from harness.nightly.detect import TEST_WINDOW, Finding, group_findings
from harness.nightly.night_report import NightReport, count_verdicts, duration, read_night
from harness.nightly.outcome import THROUGHPUT
from harness.nightly.schema import CellKey, CellRow, Night, TestRow
from harness.nightly.sparkline import strip, trend
from harness.nightly.store import Store
from harness.results.console import logs
from harness.results.directory import RunDirectory, write_whole
from harness.verdict import ConfigError, Verdict

FILE = "dashboard.html"
_SHOWN = (THROUGHPUT, "send.domu.p50_us")  # of every cell; other figures only if they changed
_BAD = (Verdict.FAIL, Verdict.ERROR, Verdict.MISS)
_FILTERED = 12  # hosts; with more, the page has a field that filters them
_MOST = 200  # entries of a list: after a power failure a lab has a thousand of the same kind


@dataclass(frozen=True)
class Link:
    """A file of a run; ``href`` is relative to the dashboard."""

    href: str
    text: str


@dataclass(frozen=True)
class FailedCell:
    """A cell whose verdict tonight is FAIL, ERROR or MISS."""

    cell: CellRow
    tests: tuple[TestRow, ...]  # the bad ones
    links: tuple[Link, ...]


@dataclass(frozen=True)
class Tile:
    """A cell as the matrix shows it."""

    verdict: str
    title: str
    href: str  # "" without a run
    strip: Markup


@dataclass(frozen=True)
class Trend:
    """One figure of one cell over the nights."""

    name: str
    last: float
    median: float  # median of the nights shown
    picture: Markup
    finding: Finding | None


def write_dashboard(store: Store) -> Path:
    """Write the page about the last night of ``store``; return its path.

    ConfigError if there is no night yet, LabError if the page cannot be written.
    """
    path = store.home / FILE
    write_whole(path, render_dashboard(store))
    return path


def render_dashboard(store: Store) -> str:
    """Return the page as one HTML document."""
    nights = store.nights(WINDOW)
    if not nights:
        raise ConfigError("the store has no night yet", where=str(store.home))
    report = read_night(store, nights[-1])
    xens = list(dict.fromkeys(cell.xen for cell in report.cells))
    pairs = dict.fromkeys((cell.xen, cell.suite) for cell in report.cells)
    columns = sorted(pairs, key=lambda pair: xens.index(pair[0]))
    tiles = _tiles(store, report, nights[-TEST_WINDOW:])
    trends = _trends(store, report, nights)
    groups = _finding_groups(store.home, report)
    failed = _failed_cells(store.home, report)
    grouped = itertools.groupby(columns, lambda column: column[0])
    values: dict[str, Any] = {
        "report": report,
        "verdicts": count_verdicts(report.cells),
        "finding_groups": groups[:_MOST],
        "more_findings": max(0, len(groups) - _MOST),
        "new_counts": _new_counts(report),
        "failed_cells": failed[:_MOST],
        "more_failed_cells": max(0, len(failed) - _MOST),
        "columns": columns,
        "xens": [(xen, len(list(group))) for xen, group in grouped],
        "hosts": list(dict.fromkeys(cell.host for cell in report.cells)),
        "tiles": tiles,
        "trends": trends,
        "nights": _nights(store, nights[-TEST_WINDOW:]),
        "strip_nights": TEST_WINDOW,
        "trend_nights": len(nights),
        "filtered": _FILTERED,
    }
    return page.render(
        "dashboard.html.j2",
        values,
        packages=("harness.nightly", "harness.results"),
        styles=("report.css", "dashboard.css"),
        script="dashboard.js" if len(values["hosts"]) > _FILTERED else "",
        filters={"duration": duration, "figure": _figure},
    )


def _finding_groups(home: Path, report: NightReport) -> list[tuple[list[Finding], str]]:
    """Return the findings in groups, each with the link to tonight's run of its cell."""
    runs = {cell.key: cell.run for cell in report.cells}
    groups = group_findings(report.findings)
    return [(group, _report(home, runs.get(group[0].key, ""))) for group in groups]


def _new_counts(report: NightReport) -> list[tuple[str, int]]:
    """Return the number of new findings of each kind, in the order of the report."""
    fresh = [finding.judgement.kind for finding in report.findings if finding.is_new]
    return [(kind, fresh.count(kind)) for kind in dict.fromkeys(fresh)]


def _failed_cells(home: Path, report: NightReport) -> list[FailedCell]:
    order = {verdict.value: place for place, verdict in enumerate(_BAD)}
    cells = [cell for cell in report.done if cell.verdict in order]
    found = []
    for cell in sorted(cells, key=lambda cell: order[cell.verdict]):
        tests = tuple(t for t in report.tests.get(cell.id, ()) if t.verdict in _BAD)
        found.append(FailedCell(cell, tests, tuple(_links(home, cell, tests))))
    return found


def _links(home: Path, cell: CellRow, tests: Iterable[TestRow]) -> Iterable[Link]:
    """Yield links to the files that exist: report, witnesses, consoles, terminal."""
    if href := _report(home, cell.run):
        yield Link(href, "report")
    run = RunDirectory(home / cell.run)
    for artifact in dict.fromkeys(file for test in tests for file in test.artifacts):
        if run.file(artifact):
            yield Link(quote(f"{cell.run}/{artifact}"), Path(artifact).name)
    for folder in sorted((run.path / "console").glob("*")):
        for console in logs(folder) if run.holds(folder) else ():
            yield Link(quote(str(console.relative_to(home))), f"console {console.stem}")
    if _is_there(home / f"{cell.run}.log"):
        yield Link(quote(f"{cell.run}.log"), "terminal")


def _report(home: Path, run: str) -> str:
    """Return the link to the report of ``run``; "" if there is none, or not any more."""
    there = bool(run) and _is_there(home / run / "report.html")
    return quote(f"{run}/report.html") if there else ""


def _is_there(path: Path) -> bool:
    """Return whether ``path`` is a file of the store; a link may lead out of it."""
    return path.is_file() and not path.is_symlink()


def _tiles(
    store: Store, report: NightReport, nights: Sequence[Night]
) -> dict[tuple[str, tuple[str, str]], Tile]:
    """Return the tile of every host and column."""
    numbers = {night.id: number for number, night in enumerate(nights)}
    strips: dict[CellKey, list[tuple[str, str]]] = {}
    for night, verdict, run, *key in store.verdicts(nights[0].id):
        row = strips.setdefault((key[0], key[1], key[2]), [("", "")] * len(nights))
        row[numbers[night]] = verdict, _report(store.home, run) if verdict in _BAD else ""
    tiles = {}
    for cell in report.cells:
        shown = cell.verdict if cell.state == "done" else cell.state
        took = f" ({duration(cell.seconds)})" if cell.seconds else ""
        tiles[cell.host, (cell.xen, cell.suite)] = Tile(
            verdict=shown,
            title=f"{' '.join(cell.key)}: {shown}{took} {cell.message}".rstrip(),
            href=_report(store.home, cell.run),
            strip=Markup(strip(strips.get(cell.key, []))),
        )
    return tiles


def _trends(
    store: Store, report: NightReport, nights: Sequence[Night]
) -> list[tuple[CellRow, list[Trend]]]:
    """Return the trends of every cell that has figures; first the cells with a change."""
    numbers = {night.id: number for number, night in enumerate(nights)}
    changed = {
        (f.key, f.name): f for f in report.findings if f.judgement.kind in ("slower", "drift")
    }
    names = sorted({*_SHOWN, *(name for _, name in changed)})
    values: dict[tuple[CellKey, str], dict[int, float]] = {}
    for night, host, xen, suite, name, value in store.metrics(nights[0].id, names):
        values.setdefault(((host, xen, suite), name), {})[numbers[night]] = value
    found = []
    for cell in report.cells:
        of_cell = []
        for name in names:
            finding = changed.get((cell.key, name))
            series = values.get((cell.key, name))
            if series and (finding or name in _SHOWN):
                of_cell.append(_trend(name, series, numbers, finding))
        if of_cell:
            found.append((cell, of_cell))
    return sorted(found, key=lambda pair: all(trend.finding is None for trend in pair[1]))


def _trend(
    name: str, series: dict[int, float], numbers: dict[str, int], finding: Finding | None
) -> Trend:
    since = numbers.get(finding.judgement.since) if finding else None
    ordered = sorted(series.values())
    return Trend(
        name=name,
        last=series[max(series)],
        median=ordered[len(ordered) // 2],
        picture=Markup(trend(series, len(numbers), since)),
        finding=finding,
    )


def _nights(store: Store, nights: Sequence[Night]) -> list[dict[str, Any]]:
    counts: dict[str, dict[str, int]] = {}
    for night, verdict, count in store.verdict_counts(nights[0].id):
        counts.setdefault(night, {})[verdict] = count
    return [
        {
            "id": night.id,
            "verdict": night.verdict or ("MISS" if night.ended else "unfinished"),
            "started": datetime.fromtimestamp(night.started, UTC),
            "seconds": (night.ended - night.started) if night.ended else None,
            "counts": counts.get(night.id, {}),
            "summary": _summary(store.home, night),
        }
        for night in reversed(nights)
    ]


def _summary(home: Path, night: Night) -> str:
    path = Path("nights", night.id, "summary.txt")
    return quote(str(path)) if (home / path).is_file() else ""


def _figure(value: float) -> str:
    """Return ``value`` with three significant digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
