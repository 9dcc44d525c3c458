# SPDX-License-Identifier: GPL-2.0-or-later
"""The host of an ``interleave`` command: booted, with a journal that is closed in any case."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from harness import __version__
from harness.progress import Progress
from harness.results import directory, records
from harness.results.report import write_reports
from harness.run.plan import Plan
from harness.run.recorder import Recorder
from harness.run.session import Session
from harness.run.up import session
from harness.verdict import HarnessError


@contextmanager
def booted(plan: Plan) -> Iterator[Session]:
    """Open a run directory and boot the plan's host; when the block ends, write the reports."""
    with open_recorder(plan) as recorder, session(plan, plan.hosts[0], recorder) as live:
        yield live


@contextmanager
def open_recorder(plan: Plan) -> Iterator[Recorder]:
    """Open a run directory with its journal.

    When the block ends, also by an exception, close the journal and write the reports.
    """
    place = directory.create(plan.out)
    recorder = Recorder(plan, place, Progress())
    host = plan.hosts[0]
    recorder.add(records.RunStart(plan.seed, tuple(sys.argv), __version__, (host.name,)))
    interrupted = True
    try:
        yield recorder
        interrupted = False
    except HarnessError as error:
        interrupted = False
        recorder.add(records.Test(host.name, "interleave", error.verdict, 0.0, str(error)))
        raise
    finally:
        recorder.end_host(host.name)
        recorder.end_run("interrupted" if interrupted else "")
        recorder.close()
        write_reports(place.path)
