# SPDX-License-Identifier: GPL-2.0-or-later
"""junit.xml of a night: one test suite per cell, written by the code that writes a run's."""

from __future__ import annotations

from pathlib import Path

from harness.nightly.night_report import NightReport
from harness.nightly.schema import CellRow
from harness.results import junit, records
from harness.results.directory import RunDirectory
from harness.results.store import HostRun, Run
from harness.verdict import Verdict


def render_junit(report: NightReport, home: Path) -> str:
    """Return the XML.  A cell that was not run is a skipped test, with the reason.

    Paths of files are relative to ``home``, the directory of the store.
    """
    run = Run(
        directory=RunDirectory(home),
        state="finished",
        verdict=report.verdict,
        message=report.night.message,
        seed=None,
        argv=(),
        version="",
        started=report.started,
        seconds=report.seconds,
        hosts=tuple(_suite(report, cell) for cell in report.cells),
        problems=(),
    )
    return junit.render_junit(run)


def _suite(report: NightReport, cell: CellRow) -> HostRun:
    name = " ".join(cell.key)
    is_done = cell.state == "done"
    return HostRun(
        name=name,
        verdict=Verdict(cell.verdict) if is_done else Verdict.SKIP,
        message=cell.message or ("" if is_done else cell.state),
        arch=cell.arch,
        accel="",
        accel_reason="",
        flavour=cell.flavour,
        build_id=cell.build,
        xen_version=cell.version,
        source=cell.source,
        toolstack="",
        toolstack_reason="",
        restored="",
        series=(),
        model=None,
        rules=(),
        operations=cell.operations,
        starved=0.0,
        seconds={},
        domains=(),
        lock_code=None,
        tests=tuple(
            records.Test(
                name,
                test.name,
                test.verdict,
                test.seconds,
                test.message,
                test.story,
                tuple(f"{cell.run}/{file}" for file in test.artifacts),
            )
            for test in report.tests.get(cell.id, [])
        ),
        samples=(),
        latencies=(),
        console_events=(),
        leaks=(),
    )
