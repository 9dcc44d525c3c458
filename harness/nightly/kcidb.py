# SPDX-License-Identifier: GPL-2.0-or-later
"""kcidb.json of a night: checkouts, builds and tests, in the format of KCIDB's schema package.

Our verdicts are words of KCIDB.  A cell that was not run is left out.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urljoin

import jsonschema
from kcidb_io import schema

from harness.config.nightly import Kcidb
from harness.nightly.night_report import NightReport
from harness.nightly.schema import CellRow, TestRow
from harness.verdict import HarnessError, Verdict

_EXCERPT = 16384  # the schema's limit for a log excerpt
_ROOT = "xen_evtchn"  # first part of the path of every test


def kcidb_document(report: NightReport, labels: Kcidb) -> dict[str, Any]:
    """Return the night as KCIDB I/O data; HarnessError if KCIDB's schema refuses it."""
    origin = labels.origin
    checkouts: dict[str, dict[str, Any]] = {}
    builds: dict[str, dict[str, Any]] = {}
    tests = []
    for cell in report.done:
        checkout = _checkout(cell, origin)
        build = _build(cell, origin, checkout["id"])
        checkouts.setdefault(checkout["id"], checkout)
        builds.setdefault(build["id"], build)
        rows = report.tests.get(cell.id) or [_itself(cell)]
        numbers: dict[str, int] = {}
        for row in rows:
            numbers[row.name] = numbers.get(row.name, 0) + 1
            tests.append(_test(cell, row, numbers[row.name], build["id"], labels))
    document = {
        "version": {"major": schema.LATEST.major, "minor": schema.LATEST.minor},
        "checkouts": list(checkouts.values()),
        "builds": list(builds.values()),
        "tests": tests,
    }
    try:
        schema.LATEST.validate(document)
    except jsonschema.ValidationError as error:
        place = "/".join(map(str, error.absolute_path))
        raise HarnessError(
            f"KCIDB's schema refuses the night: {error.message[:200]}", where=place
        ) from error
    return document


def _checkout(cell: CellRow, origin: str) -> dict[str, Any]:
    kind, _, version = cell.source.partition(" ")
    name = cell.source or cell.xen
    return {
        "id": f"{origin}:{_word(name)}",
        "origin": origin,
        "tree_name": f"xen-{kind}" if kind else "xen",
        "git_commit_name": _text(version or cell.version or cell.xen),
        "comment": f"Xen, {_text(name)}",
        "valid": bool(cell.source),
    }


def _build(cell: CellRow, origin: str, checkout: str) -> dict[str, Any]:
    known = cell.build or f"{cell.night}-{'-'.join(cell.key)}"
    failed = Verdict.ERROR if cell.verdict == Verdict.ERROR else Verdict.MISS
    return {
        "id": f"{origin}:{_word(known)}",
        "checkout_id": checkout,
        "origin": origin,
        "architecture": cell.arch,
        "config_name": _text(cell.flavour or cell.xen),
        "status": (Verdict.PASS if cell.build else failed).value,
        "comment": f"Xen {_text(cell.version)}, lock flavour {_text(cell.flavour or cell.xen)}",
        "misc": {"build_id": cell.build, "xen": cell.xen},
    }


def _test(cell: CellRow, row: TestRow, number: int, build: str, labels: Kcidb) -> dict[str, Any]:
    name = f"{cell.night}-{'-'.join(cell.key)}-{row.name}-{number}"
    begun = datetime.fromtimestamp(cell.started or 0, UTC)
    document: dict[str, Any] = {
        "id": f"{labels.origin}:{_word(name)}",
        "build_id": build,
        "origin": labels.origin,
        "path": f"{_ROOT}.{_part(cell.suite)}.{_part(row.name)}",
        "status": row.verdict.value,
        "start_time": begun.isoformat(),
        "duration": row.seconds,
        "environment": {"comment": _text(cell.host), "misc": {"host": cell.host}},
        "comment": _text(row.message),
        "misc": {"seed": cell.seed},
    }
    if row.story:
        document["log_excerpt"] = _text(row.story)[:_EXCERPT]
    if labels.url:
        base = labels.url.rstrip("/") + "/"
        place = urljoin(base, quote(f"{cell.run}/"))
        document["log_url"] = urljoin(place, "report.html")
        document["output_files"] = [
            {"name": file.replace("/", "-"), "url": urljoin(place, quote(file))}
            for file in row.artifacts
        ]
    return document


def _itself(cell: CellRow) -> TestRow:
    """Return a row for the run itself, for a run without tests."""
    return TestRow("run", Verdict(cell.verdict), cell.seconds or 0.0, cell.message, "", ())


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._:+~-]+", "-", text)


def _part(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text) or "_"


def _text(text: str) -> str:
    return text.replace("\0", "\ufffd")
