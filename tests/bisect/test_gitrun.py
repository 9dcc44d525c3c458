# SPDX-License-Identifier: GPL-2.0-or-later
"""The exit codes of `run --bisect-run`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness import cache
from harness.arch import Arch
from harness.bisect import gitrun
from harness.hypervisor import source
from harness.hypervisor.recipe import How
from harness.results.directory import create
from harness.results.journal import Journal
from harness.results.records import HostEnd, RunEnd, RunStart, Test
from harness.results.store import load
from harness.verdict import Verdict, combine
from tests.hypervisor.tree import make_tree

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("tests", "code"),
    [
        ([("boot", "PASS"), ("race", "PASS")], 0),
        ([("boot", "PASS"), ("race", "FAIL")], 1),
        ([("boot", "PASS"), ("race", "PASS"), ("load", "FAIL"), ("teardown", "MISS")], 1),
        ([("boot", "FAIL"), ("race", "MISS")], 125),
        ([("boot", "MISS"), ("race", "MISS")], 255),
        ([("boot", "PASS"), ("race", "ERROR")], 255),
        ([], 255),
        # What is wrong in the machine code is no answer to what is searched for.
        ([("lock-code", "FAIL"), ("boot", "PASS"), ("closes", "PASS")], 0),
        ([("lock-code", "FAIL"), ("boot", "PASS"), ("closes", "FAIL")], 1),
        ([("lock-code", "FAIL"), ("boot", "FAIL")], 125),
        ([("lock-code", "FAIL"), ("boot", "PASS"), ("closes", "MISS")], 255),
        ([("lock-code", "FAIL")], 255),
    ],
)
def test_exit_codes_of_runs(tmp_path: Path, tests: list[tuple[str, str]], code: int) -> None:
    directory = create(tmp_path / "run")
    verdict = combine(Verdict(said) for _, said in tests)
    with Journal(directory.journal) as journal:
        journal.append(RunStart(1, ("x",), "0", ("h",)))
        for name, said in tests:
            journal.append(Test("h", name, Verdict(said), 1.0))
        journal.append(HostEnd("h", verdict, 0))
        journal.append(RunEnd(verdict, 1.0))
    assert gitrun.exit_code(load(directory.path)) == code


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    return make_tree(tmp_path / "xen-tree")


def test_a_revision_that_does_not_build_is_skipped(tree: Path) -> None:
    native = next(arch for arch in Arch if arch.value == "x86_64")
    assert gitrun.unbuildable(source.from_dir(tree), None, [native], How()) == ""
    (tree / "xen/main.c").write_text("int broken(void) { return oops; }\n")
    why = gitrun.unbuildable(source.from_dir(tree), None, [native], How())
    assert why.startswith("xen/main.c:1: ")


def harness(*words: str) -> int:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", "run", "--bisect-run", *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    ).returncode


def test_only_a_bad_revision_has_the_exit_code_of_a_bad_one(tree: Path) -> None:
    """For git, exit codes 2 (usage) and 3 (lab) mean bad: the command must not return them."""
    assert harness("--xen-src", str(tree), "--host", "no-such-host") == 255
    assert harness("--xen-src", str(tree / "nowhere")) == 255
    (tree / "xen/main.c").write_text("int broken(void) { return oops; }\n")
    assert harness("--xen-src", str(tree)) == 125
