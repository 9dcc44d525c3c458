# SPDX-License-Identifier: GPL-2.0-or-later
"""The coverage page: which cells of the catalogue have been tested, and why the others have not.

It is made from journals alone: a cell counts only if a test met it on a real Xen and passed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import page
from harness.conformance.cells import BY_CHANCE, Cell, Scope, catalogue
from harness.model.evtchn.releases import Release
from harness.model.evtchn.rules import by_names
from harness.results import records
from harness.results.directory import RunDirectory, write_whole
from harness.results.journal import read
from harness.verdict import ConfigError

PAGE, DOCUMENT = "coverage.html", "coverage.json"
_RELEASE = re.compile(r"(\d{1,3})\.(\d{1,3})", re.ASCII)
_ANOTHER = "give the directory of another run"


@dataclass(frozen=True)
class CellCoverage:
    """One cell and the tests that met it.  If there are none, ``why_not`` may say why."""

    cell: Cell
    tests: tuple[str, ...]
    why_not: str  # from the catalogue, or from the host that ran; "": it is to be tested

    @property
    def state(self) -> str:
        """``tested``, ``missing`` or ``unreachable``."""
        if self.tests:
            return "tested"
        return "unreachable" if self.why_not else "missing"


@dataclass(frozen=True)
class Coverage:
    """The catalogue, with the coverage of every cell."""

    cells: tuple[CellCoverage, ...]
    contradictions: tuple[str, ...]  # cells that were met although no test can reach them
    problems: tuple[str, ...] = ()  # lines of the runs' journals that could not be read

    def count(self, state: str) -> int:
        """Return how many cells are ``tested``, ``missing`` or ``unreachable``."""
        return sum(each.state == state for each in self.cells)

    @property
    def share(self) -> float:
        """The share of tested cells among those that can be reached, 0 to 1."""
        reachable = self.count("tested") + self.count("missing")
        return self.count("tested") / reachable if reachable else 0.0


def coverage(runs: Iterable[Path]) -> Coverage:
    """Return the coverage of ``runs`` (run directories).

    ConfigError for one without a journal, or with one of which no line can be read.
    """
    met: dict[tuple[str, Scope], set[str]] = {}
    reasons: dict[Scope, str] = {}
    problems: list[str] = []
    for path in runs:
        reading = read(RunDirectory(path.absolute()).journal)
        problems += (f"{path}: {problem}" for problem in reading.problems)
        if not reading.entries:
            raise ConfigError("no line of the journal can be read", where=str(path), hint=_ANOTHER)
        for entry in reading.entries:
            if not isinstance(entry.record, records.Cells):
                continue
            try:
                scope = _scope(entry.record)
            except ValueError as error:
                problems.append(f"{path}: cells of {entry.record.test}: {error}, dropped")
                continue
            for row in entry.record.rows:
                met.setdefault((row, scope), set()).add(entry.record.test)
            if entry.record.why_not:
                reasons[scope] = entry.record.why_not
    cells = tuple(
        CellCoverage(
            cell,
            tuple(sorted(met.get((cell.row, cell.scope), ()))),
            cell.why_not or reasons.get(cell.scope, ""),
        )
        for cell in catalogue()
    )
    return Coverage(cells, tuple(_contradictions(cells)), tuple(problems))


def _scope(found: records.Cells) -> Scope:
    numbers = _RELEASE.fullmatch(found.release)
    if numbers is None:
        raise ValueError(f"{found.release[:40]!r} is no release of Xen")
    release = Release(int(numbers[1]), int(numbers[2]))
    own = None if found.rules is None else by_names(release, found.rules)
    return Scope(found.guest, found.abi, release, own)


def _contradictions(cells: Sequence[CellCoverage]) -> Iterable[str]:
    for each in cells:
        if each.tests and each.cell.why_not and each.cell.row not in BY_CHANCE:
            scope = each.cell.scope
            yield (
                f"{each.cell.row} ({scope.guest}, {scope.abi}, {scope.release}) was met, "
                f"although the catalogue says: {each.cell.why_not}"
            )


def document(found: Coverage) -> dict[str, Any]:
    """Return ``found`` as JSON values; docs/conformance.md explains the keys."""
    return {
        "tested": found.count("tested"),
        "missing": found.count("missing"),
        "unreachable": found.count("unreachable"),
        "share": round(found.share, 4),
        "contradictions": list(found.contradictions),
        "problems": list(found.problems),
        "cells": [
            {
                "row": each.cell.row,
                "guest": each.cell.scope.guest,
                "abi": each.cell.scope.abi,
                "release": str(each.cell.scope.release),
                "state": each.state,
                "tests": list(each.tests),
                "why_not": "" if each.tests else each.why_not,
            }
            for each in found.cells
        ],
    }


def write(found: Coverage, out: Path) -> Path:
    """Write coverage.html and coverage.json into the directory ``out``; return the first's path."""
    write_whole(out / DOCUMENT, json.dumps(document(found), indent=1) + "\n")
    write_whole(out / PAGE, render(found))
    return out / PAGE


def render(found: Coverage) -> str:
    """Return coverage.html."""
    return page.render(
        "coverage.html.j2",
        {"found": found, "table": _table(found)},
        packages=("harness.conformance",),
        styles=("coverage.css",),
    )


@dataclass(frozen=True)
class _Square:
    state: str
    title: str


@dataclass(frozen=True)
class _Table:
    guests: tuple[str, ...]
    columns: tuple[tuple[str, str, str], ...]  # guest, ABI, release
    rows: tuple[tuple[str, str, tuple[_Square, ...]], ...]  # operation, outcome


def _table(found: Coverage) -> _Table:
    columns: dict[tuple[str, str, str], None] = {}
    rows: dict[str, list[_Square]] = {}
    for each in found.cells:
        scope = each.cell.scope
        column = (scope.guest, scope.abi, str(scope.release))
        columns[column] = None
        told = ", ".join(each.tests) or each.why_not or "not tested yet"
        title = f"{each.cell.row}: {' '.join(column)}: {told}"
        rows.setdefault(each.cell.row, []).append(_Square(each.state, title))
    return _Table(
        tuple(dict.fromkeys(guest for guest, _, _ in columns)),
        tuple(columns),
        tuple((*row.split(": ", 1), tuple(squares)) for row, squares in rows.items()),  # type: ignore[misc]
    )
