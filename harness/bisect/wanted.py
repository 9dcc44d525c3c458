"""A failure that was seen before: the one that a bisection shall look for."""

from __future__ import annotations

import ast
from pathlib import Path

from harness.bisect.signature import Signature, signature
from harness.history.checker import check
from harness.results import store
from harness.results.directory import RunDirectory
from harness.verdict import ConfigError, Verdict

_LOAD = "load"  # the test case whose histories are recorded


def wanted(path: Path) -> Signature:
    """Return the failure of a run (its directory, or results.jsonl) or of a recorded history
    (*.parquet); ConfigError when there is none in it."""
    if path.suffix == ".parquet":
        return _of_history(path)
    folder = path.parent if path.name == RunDirectory(path.parent).journal.name else path
    tests = [test for host in store.load(folder).hosts for test in host.tests]
    for test in tests:
        if test.verdict is Verdict.FAIL:
            seen = {"name": test.name, "message": test.message, "story": test.story}
            return signature(seen)
    raise ConfigError("no test failed in that run", where=str(path))


def _of_history(path: Path) -> Signature:
    violations = check(path).violations
    if not violations:
        raise ConfigError("the model allows that history", where=str(path))
    first = violations[0]
    message = f"{first.property} (1 in all)"
    return signature({"name": _LOAD, "message": message, "story": first.story})


def node(wanted: Signature, testcases: Path) -> str:
    """Return the test in ``testcases`` that showed ``wanted``; ConfigError when it is not there."""
    name = f"test_{wanted.test.replace('-', '_')}"
    for file in sorted(testcases.glob("test_*.py")):
        for part in ast.parse(file.read_text()).body:
            if isinstance(part, ast.FunctionDef) and part.name == name:
                return f"{file}::{name}"
    raise ConfigError(
        f"no test {name} in {testcases.name}/", where="--history-signature", hint="give --test"
    )
