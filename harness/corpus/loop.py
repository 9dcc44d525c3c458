# SPDX-License-Identifier: GPL-2.0-or-later
"""The loop over every host and every entry; the results are written after each run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from harness import page
from harness.arch import Arch
from harness.corpus.entry import Entry
from harness.corpus.judge import Cell, cannot_show_cell, judge
from harness.results.directory import write_whole

DOCUMENT = "corpus.json"
PAGE = "corpus.html"


_Tests = Sequence[dict[str, Any]]


class RunEntry(Protocol):
    """Runs the test that must catch ``entry`` on ``host``; for a good entry, all tests.

    Each test runs ``repeat`` times, on a machine that is restored before it.  Returns the tests
    as in the document of ``run --json``.
    """

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
    """Run ``entries`` on ``hosts``; after each one, write all cells so far to ``out``.

    After a lab fault an entry is run once more, because the fault says nothing about the tests.
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
    """Write ``cells`` to ``out`` as JSON and as an HTML page, each completely or not at all."""
    rows = [asdict(cell) for cell in cells]
    made = page.render(
        "corpus.html.j2", {"cells": rows}, packages=("harness.corpus",), styles=("corpus.css",)
    )
    write_whole(out / DOCUMENT, json.dumps(rows, indent=2) + "\n")
    write_whole(out / PAGE, made)
