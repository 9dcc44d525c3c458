# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness coverage``: which cells of the conformance catalogue runs have met; and, of a
patch, what runs each of its hunks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from harness.cli import echo, print_json, warn
from harness.cli.options import json_option
from harness.cli.tables import print_table
from harness.conformance.report import coverage, document, write
from harness.results.directory import cannot_write
from harness.verdict import ConfigError

_SHELF = "4.17"  # of images/xen: the folder whose known-bad flavours are all there are


@click.command("coverage")
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the page goes.  [default: the last of RUNS]",
)
@click.option(
    "--series",
    "patches",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Instead of RUNS: say what runs each hunk of the patches in FILE (repeatable).",
)
@click.option(
    "--lines", is_flag=True, help="Instead of cells: which lines of Xen ran in RUNS with --lines."
)
@json_option
def command(
    runs: tuple[Path, ...], out: Path | None, patches: tuple[Path, ...], lines: bool, as_json: bool
) -> None:
    """Make a page of what one or several RUNS (directories) of the conformance suite covered.

    A cell is tested if a test met it on a real Xen and passed.  Prints the page's path.

    With --lines, make a page of Xen's source beside the lines that ran in any of RUNS, of one
    build of Xen for each architecture.

    With --series, print a table of the patches' hunks: which tests, forced interleavings and
    known-bad flavours are about the function that each changes.
    """
    if patches:
        if runs or out or lines:
            raise ConfigError(
                "--series takes neither RUNS nor --out nor --lines",
                hint="ask for runs and for hunks apart",
            )
        _print_hunks(patches, as_json)
        return
    if not runs:
        raise ConfigError("no RUNS", hint="give directories of runs, or --series FILE")
    folder = out or runs[-1]
    if lines:
        _lines(runs, folder, as_json)
        return
    found = coverage(runs)
    warn(found.problems)
    _make(folder)
    page = write(found, folder)
    if as_json:
        print_json(document(found))
    else:
        echo(str(page))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error


def _lines(runs: Sequence[Path], folder: Path, as_json: bool) -> None:
    from harness.results import lines

    found = lines.load(runs)
    told = lines.document(found)  # what does not go together is told before anything is written
    _make(folder)
    page = lines.write(found, folder)
    if as_json:
        print_json(told)
        return
    for each in told["together"]:
        echo(f"{each['arch']}: {each['ran']} of {each['code']} lines ran")
    echo(str(page))


def _print_hunks(patches: Sequence[Path], as_json: bool) -> None:
    from harness import hunks

    found = hunks.rows(patches, _SHELF)
    if as_json:
        print_json(hunks.document(found))
        return
    print_table(
        ("hunk", "function", "tests", "forced", "known-bad", "judged"),
        (
            (
                f"{row.file}:{', '.join(map(str, row.lines))}",
                row.function or "-",
                "\n".join(row.runs.tests),
                ", ".join(row.scenarios),
                ", ".join(row.mutants),
                row.runs.judged or f"not run: {row.runs.why_not}",
            )
            for row in found
        ),
        width=200,
    )
    told = hunks.document(found)
    echo(f"{told['run']} of {told['hunks']} hunks are run")
