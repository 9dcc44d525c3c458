# SPDX-License-Identifier: GPL-2.0-or-later
"""Get evidence from runs that an older harness made, by checking their histories again."""

from __future__ import annotations

from pathlib import Path

from harness.evidence import Evidence
from harness.history.checker import check
from harness.results.directory import RunDirectory
from harness.results.records import Test

HISTORY = ".parquet"


def evidence_of(test: Test, folder: Path) -> Evidence | None:
    """Return why ``test`` of the run in ``folder`` failed.

    If the run is older than the recording of evidence, its histories are checked again; None if
    they show no violation.
    """
    if test.evidence is not None:
        return test.evidence
    for artifact in test.artifacts:
        path = RunDirectory(folder).file(artifact)
        if path and path.suffix == HISTORY and (seen := first_violation(path)):
            return seen
    return None


def first_violation(history: Path) -> Evidence | None:
    """Return the first thing in ``history`` that the model forbids; None if it forbids none."""
    violations = check(history).violations
    return violations[0].evidence if violations else None
