"""The coverage page: operation x outcome x guest x ABI x release: tested, or why not.

It is made from journals alone, so a cell counts only if a test met it on a real Xen and passed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from harness.conformance.cells import BY_CHANCE, Cell, Scope, catalogue
from harness.model.evtchn.releases import Release
from harness.results import records
from harness.results.directory import RunDirectory, write_whole
from harness.results.journal import read

PAGE, DOCUMENT = "coverage.html", "coverage.json"
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Line:
    """One cell and the tests that met it; none: ``why_not``, or it is still to be tested."""

    cell: Cell
    tests: tuple[str, ...]
    why_not: str  # of the catalogue, or of the host that ran

    @property
    def state(self) -> str:
        """``tested``, ``missing`` or ``unreachable``."""
        if self.tests:
            return "tested"
        return "unreachable" if self.why_not else "missing"


@dataclass(frozen=True)
class Coverage:
    """The catalogue with what is known of every cell."""

    lines: tuple[Line, ...]
    contradictions: tuple[str, ...]  # cells that were met though nothing should reach them

    def count(self, state: str) -> int:
        """Return how many cells are in ``state``."""
        return sum(line.state == state for line in self.lines)

    @property
    def share(self) -> float:
        """Tested cells of all that can be reached, 0 to 1."""
        reachable = self.count("tested") + self.count("missing")
        return self.count("tested") / reachable if reachable else 0.0


def coverage(runs: Iterable[Path]) -> Coverage:
    """Read the journals of ``runs`` (run directories); ConfigError where there is none."""
    met: dict[tuple[str, Scope], set[str]] = {}
    kept: dict[Scope, str] = {}
    for path in runs:
        for entry in read(RunDirectory(path.absolute()).journal).entries:
            if isinstance(entry.record, records.Cells):
                scope = _scope(entry.record)
                for row in entry.record.rows:
                    met.setdefault((row, scope), set()).add(entry.record.test)
                if entry.record.why_not:
                    kept[scope] = entry.record.why_not
    lines = tuple(
        Line(
            cell,
            tuple(sorted(met.get((cell.row, cell.scope), ()))),
            cell.why_not or kept.get(cell.scope, ""),
        )
        for cell in catalogue()
    )
    return Coverage(lines, tuple(_contradictions(lines)))


def _scope(found: records.Cells) -> Scope:
    major, _, minor = found.release.partition(".")
    return Scope(found.guest, found.abi, Release(int(major), int(minor)))


def _contradictions(lines: Sequence[Line]) -> Iterable[str]:
    for line in lines:
        if line.tests and line.cell.why_not and line.cell.row not in BY_CHANCE:
            scope = line.cell.scope
            yield (
                f"{line.cell.row} ({scope.guest}, {scope.abi}, {scope.release}) was met, "
                f"though it is said: {line.cell.why_not}"
            )


def document(found: Coverage) -> dict[str, Any]:
    """Return ``found`` as plain JSON values; docs/conformance.md has the keys."""
    return {
        "tested": found.count("tested"),
        "missing": found.count("missing"),
        "unreachable": found.count("unreachable"),
        "share": round(found.share, 4),
        "contradictions": list(found.contradictions),
        "cells": [
            {
                "row": line.cell.row,
                "guest": line.cell.scope.guest,
                "abi": line.cell.scope.abi,
                "release": str(line.cell.scope.release),
                "state": line.state,
                "tests": list(line.tests),
                "why_not": "" if line.tests else line.why_not,
            }
            for line in found.lines
        ],
    }


def write(found: Coverage, out: Path) -> Path:
    """Write page and document into the directory ``out``; return the page's path."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("coverage.html.j2").render(found=found, table=_table(found))
    write_whole(out / DOCUMENT, json.dumps(document(found), indent=1) + "\n")
    write_whole(out / PAGE, page)
    return out / PAGE


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
    for line in found.lines:
        scope = line.cell.scope
        column = (scope.guest, scope.abi, str(scope.release))
        columns[column] = None
        told = ", ".join(line.tests) or line.why_not or "not tested yet"
        title = f"{line.cell.row}: {' '.join(column)}: {told}"
        rows.setdefault(line.cell.row, []).append(_Square(line.state, title))
    return _Table(
        tuple(dict.fromkeys(guest for guest, _, _ in columns)),
        tuple(columns),
        tuple((*row.split(": ", 1), tuple(squares)) for row, squares in rows.items()),  # type: ignore[misc]
    )
