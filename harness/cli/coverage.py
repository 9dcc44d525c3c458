# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness coverage DIR...``: which cells of the conformance catalogue runs have met."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import echo, print_json, warn
from harness.cli.options import json_option
from harness.conformance.report import coverage, document, write
from harness.results.directory import cannot_write


@click.command("coverage")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the page goes.  [default: the last of RUNS]",
)
@json_option
def command(runs: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Make a page of what one or several RUNS (directories) of the conformance suite covered.

    A cell is tested if a test met it on a real Xen and passed.  Prints the page's path.
    """
    found = coverage(runs)
    warn(found.problems)
    folder = out or runs[-1]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    page = write(found, folder)
    if as_json:
        print_json(document(found))
    else:
        echo(str(page))
