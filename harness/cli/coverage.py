"""``evtchn-harness coverage DIR...``: which cells of the conformance catalogue runs have met."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import print_json
from harness.conformance.report import coverage, document, write


@click.command("coverage")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Where the page goes.  [the last of RUNS]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the catalogue as one JSON document.")
def command(runs: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Make the coverage page of one or several RUNS (directories) of the conformance suite.

    A cell is tested if a test met it on a real Xen and passed.  Prints the page's path.
    """
    found = coverage(runs)
    folder = out or runs[-1]
    folder.mkdir(parents=True, exist_ok=True)
    page = write(found, folder)
    if as_json:
        print_json(document(found))
    else:
        click.echo(str(page))
