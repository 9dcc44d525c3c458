# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal of a command that is no pytest run: closed, and its reports written, in any case."""

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
from harness.verdict import HarnessError


@contextmanager
def open_recorder(plan: Plan, test: str) -> Iterator[Recorder]:
    """Open a run directory with its journal.

    When the block ends, also by an exception, close the journal and write the reports.  A
    HarnessError is recorded as what came of ``test``.
    """
    place = directory.create(plan.out)
    recorder = Recorder(plan, place, Progress())
    name = plan.hosts[0].name
    recorder.add(records.RunStart(plan.seed, tuple(sys.argv), __version__, (name,)))
    interrupted = True
    try:
        yield recorder
        interrupted = False
    except HarnessError as error:
        interrupted = False
        told, evidence = str(error), error.evidence
        recorder.add(
            records.Test(name, test, error.verdict, 0.0, told, error.story, evidence=evidence)
        )
        raise
    finally:
        recorder.end_host(name)
        recorder.end_run("interrupted" if interrupted else "")
        recorder.close()
        write_reports(place.path)
