"""The loop: every entry on every host, written down after each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import jinja2

from harness.arch import Arch
from harness.corpus.entry import Entry
from harness.corpus.judge import Cell, cannot_show_cell, judge
from harness.results.directory import write_whole

DOCUMENT = "corpus.json"
PAGE = "corpus.html"
_TEMPLATES = Path(__file__).parent / "templates"


_Tests = Sequence[dict[str, Any]]


class RunEntry(Protocol):
    """One run of the harness: what is to catch ``entry`` (all tests for a good one) on
    ``host``, each ``repeat`` times, on a pristine machine; returns the tests as ``run --json``
    has them."""

    def __call__(self, entry: Entry, host: str, repeat: int, out: Path, /) -> _Tests: ...


def run_corpus(
    entries: Sequence[Entry],
    hosts: Mapping[str, Arch],
    *,
    repeat: int,
    out: Path,
    run: RunEntry,
    notice: Callable[[Cell], None],
) -> list[Cell]:
    """Run ``entries`` on ``hosts``; keep the matrix so far in ``out`` after every cell.

    A lab fault is tried once more: it says nothing about the tests.
    """
    cells: list[Cell] = []
    for host, arch in hosts.items():
        for entry in entries:
            shown = entry.can_show_on(arch)
            cell = _cell(entry, host, repeat, out, run) if shown else cannot_show_cell(entry, host)
            cells.append(cell)
            write(cells, out)
            notice(cells[-1])
    return cells


def _cell(entry: Entry, host: str, repeat: int, out: Path, run: RunEntry) -> Cell:
    for attempt in ("", "-again"):
        folder = out / "runs" / f"{host}-{entry.name}{attempt}"
        cell = judge(entry, host, run(entry, host, repeat, folder))
        if cell.outcome != "lab-fault":
            break
    return cell


def write(cells: Iterable[Cell], out: Path) -> None:
    """Write the matrix as JSON and as a page, whole or not at all."""
    rows = [asdict(cell) for cell in cells]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("corpus.html.j2").render(cells=rows)
    write_whole(out / DOCUMENT, json.dumps(rows, indent=2) + "\n")
    write_whole(out / PAGE, page)
