"""``evtchn-harness report DIR``: the reports of a run, made again from its journal."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import print_json
from harness.cli.options import json_option
from harness.results.document import run_document
from harness.results.report import write_reports


@click.command("report")
@click.argument("directory", type=click.Path(path_type=Path))
@json_option
def command(directory: Path, as_json: bool) -> None:
    """Rebuild junit.xml and report.html of the run in DIRECTORY from its results.jsonl.

    Also works after the run was killed, and while it is going.  Prints the report's
    path; what could not be read of the journal goes to stderr.  Exits 0 whatever the
    run's verdict.
    """
    run = write_reports(directory)
    for problem in run.problems:
        click.echo(f"warning: {problem}", err=True)
    if as_json:
        print_json(run_document(run))
    else:
        click.echo(str(run.directory.report))
