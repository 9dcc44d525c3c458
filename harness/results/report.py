# SPDX-License-Identifier: GPL-2.0-or-later
"""Make all reports of a run from its journal."""

from __future__ import annotations

from pathlib import Path

from harness.results.html import write_html
from harness.results.junit import write_junit
from harness.results.store import Run, load


def write_reports(path: Path) -> Run:
    """Write junit.xml and report.html of the run in directory ``path``; return the run.

    Works also if the run still goes on, or was killed.  ConfigError if there is no run
    at ``path``, LabError if the files cannot be written.
    """
    run = load(path)
    write_junit(run)
    write_html(run)
    return run
