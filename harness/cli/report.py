# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness report DIR``: make the reports of a run again from its journal."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import echo, print_json, warn
from harness.cli.options import json_option
from harness.results.document import run_document
from harness.results.report import write_reports


@click.command("report")
@click.argument("directory", type=click.Path(path_type=Path))
@json_option
def command(directory: Path, as_json: bool) -> None:
    """Make junit.xml and report.html of the run in DIRECTORY again, from its results.jsonl.

    Works also if the run was killed, or still goes on.  Prints the path of report.html; warns on
    stderr about each line of results.jsonl that cannot be read.  The exit code is 0 even if the
    verdict of the run is FAIL.
    """
    run = write_reports(directory)
    warn(run.problems)
    if as_json:
        print_json(run_document(run))
    else:
        echo(str(run.directory.report))
