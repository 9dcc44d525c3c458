# SPDX-License-Identifier: GPL-2.0-or-later
"""Write all reports of a night, and make the document of ``nightly --json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.config.nightly import Kcidb
from harness.nightly import dashboard
from harness.nightly.junit import render_junit
from harness.nightly.kcidb import kcidb_document
from harness.nightly.night_report import NightReport, read_night
from harness.nightly.schema import Night
from harness.nightly.store import Store
from harness.nightly.summary import render_summary
from harness.results.directory import write_whole
from harness.verdict import LabError


def write_night(store: Store, night: Night, labels: Kcidb) -> NightReport:
    """Write junit.xml, kcidb.json and summary.txt of ``night``, and the dashboard.

    The night need not have ended.  LabError if a file cannot be written.
    """
    report = read_night(store, store.night(night.id))
    folder = store.home / "nights" / night.id
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"cannot write the reports: {error.strerror}", where=str(folder)) from error
    write_whole(folder / "junit.xml", render_junit(report, store.home))
    write_whole(folder / "kcidb.json", json.dumps(kcidb_document(report, labels), indent=1) + "\n")
    page = store.home / dashboard.FILE
    place = f"{labels.url.rstrip('/')}/{dashboard.FILE}" if labels.url else str(page)
    summary = render_summary(report, place)
    write_whole(folder / "summary.txt", summary)
    write_whole(store.home / "summary.txt", summary)
    dashboard.write_dashboard(store)
    return report


def document(report: NightReport, home: Path) -> dict[str, Any]:
    """Return what ``nightly --json`` prints; the keys are documented in docs/nightly.md."""
    return {
        "verdict": report.verdict.value,
        "message": report.night.message,
        "state": "unfinished" if report.night.ended is None else "finished",
        "night": report.night.id,
        "started": report.started.isoformat(),
        "seconds": round(report.seconds, 3),
        "path": str(home / "nights" / report.night.id),
        "dashboard": str(home / dashboard.FILE),
        "cells": [
            {
                "host": cell.host,
                "xen": cell.xen,
                "suite": cell.suite,
                "state": cell.state,
                "verdict": cell.verdict,
                "message": cell.message,
                "seconds": cell.seconds,
                "build_id": cell.build,
                "run": str(home / cell.run) if cell.run else "",
                "attempts": sum(attempt.cell == cell.id for attempt in report.attempts),
            }
            for cell in report.cells
        ],
        "findings": [
            {
                "kind": finding.judgement.kind,
                "new": finding.is_new,
                "host": finding.host,
                "xen": finding.xen,
                "suite": finding.suite,
                "name": finding.name,
                "since": finding.judgement.since,
                "text": finding.judgement.text,
                "build_before": finding.judgement.build_before,
                "build_after": finding.judgement.build_after,
                "low": finding.judgement.low,
                "value": finding.judgement.value,
                "high": finding.judgement.high,
            }
            for finding in report.findings
        ],
    }
