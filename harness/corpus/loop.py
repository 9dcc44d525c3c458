"""The loop: every entry on every host, written down after each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import jinja2

from harness.corpus.entry import Entry
from harness.corpus.judge import Cell, cannot_show, judge
from harness.results.directory import write_whole

MATRIX = "corpus.json"
PAGE = "corpus.html"
_TEMPLATES = Path(__file__).parent / "templates"


class Run(Protocol):
    """One run of the harness: ``tests`` (pytest node ids; none: all) on ``host``, each
    ``repeat`` times, on a pristine machine; returns the document of ``run --json``."""

    def __call__(
        self, entry: Entry, host: str, tests: Sequence[str], repeat: int, out: Path, /
    ) -> dict[str, Any]: ...


def run_corpus(
    entries: Sequence[Entry],
    hosts: Sequence[str],
    *,
    repeat: int,
    out: Path,
    run: Run,
    notice: Callable[[Cell], None],
) -> list[Cell]:
    """Run ``entries`` on ``hosts``; keep the matrix so far in ``out`` after every cell.

    A lab fault is tried once more: it says nothing about the tests.
    """
    cells: list[Cell] = []
    for host in hosts:
        for entry in entries:
            cells.append(_cell(entry, host, repeat, out, run))
            write(cells, out)
            notice(cells[-1])
    return cells


def _cell(entry: Entry, host: str, repeat: int, out: Path, run: Run) -> Cell:
    if entry.cannot_show:
        return cannot_show(entry, host)
    tests = [entry.caught_by] if entry.caught_by else []
    for attempt in ("", "-again"):
        folder = out / "runs" / f"{host}-{entry.name}{attempt}"
        document = run(entry, host, tests, repeat, folder)
        hosts = document.get("hosts") or []
        cell = judge(entry, host, hosts[0]["tests"] if hosts else [])
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
    write_whole(out / MATRIX, json.dumps(rows, indent=2) + "\n")
    write_whole(out / PAGE, page)
