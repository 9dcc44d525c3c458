# SPDX-License-Identifier: GPL-2.0-or-later
"""The target of a bisection: a failure that an earlier run or history shows."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.bisect.signature import Signature, of_evidence
from harness.results import store
from harness.results.directory import RunDirectory
from harness.run.old_runs import HISTORY, evidence_of, first_violation
from harness.verdict import ConfigError, Verdict

_LOAD = "load"  # the test case whose histories are recorded


def target_of(
    path: Path, warn: Callable[[Sequence[str]], None] = lambda problems: None
) -> Signature:
    """Return the failure of a run (its directory, or results.jsonl) or of a recorded history
    (*.parquet); ConfigError if it shows no failure.

    ``warn`` is told what of the run could not be read.

    A run of an older harness kept no evidence: then the history that it recorded is checked
    again.
    """
    if path.suffix == HISTORY:
        evidence = first_violation(path)
        if evidence is None:
            raise ConfigError("the model allows that history", where=str(path))
        return of_evidence(_LOAD, evidence)
    folder = path.parent if path.name == RunDirectory(path.parent).journal.name else path
    run = store.load(folder)
    warn(run.problems)
    tests = [test for host in run.hosts for test in host.tests]
    failed = next((test for test in tests if test.verdict is Verdict.FAIL), None)
    if failed is None:
        raise ConfigError("no test failed in that run", where=str(path))
    evidence = evidence_of(failed, folder)
    if evidence is None:
        raise ConfigError(
            f"the run keeps no evidence of why {failed.name} failed, and no history that shows it",
            where=str(folder),
            hint="an older harness made it: run the test again, and give that run",
        )
    return of_evidence(failed.name, evidence)


def node_of(target: Signature, testcases: Path) -> str:
    """Return the test in ``testcases`` that showed ``target``; ConfigError if it is not there."""
    name = f"test_{target.test.replace('-', '_')}"
    for file in sorted(testcases.glob("test_*.py")):
        for part in ast.parse(file.read_text()).body:
            if isinstance(part, ast.FunctionDef) and part.name == name:
                return f"{file}::{name}"
    raise ConfigError(
        f"no test {name} in {testcases.name}/", where="--history-signature", hint="give --test"
    )
