# SPDX-License-Identifier: GPL-2.0-or-later
"""``run --suite``: which test cases pytest is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from harness.cli import run
from harness.data import BOOT_TEST, TESTCASES


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words that pytest would be called with."""
    words: list[str] = []

    def instead(_plan: object, suite: str, tests: Sequence[Path], *_: object) -> SimpleNamespace:
        words.extend(run.tests_of(suite, tests))
        return SimpleNamespace(exit_code=0)

    monkeypatch.setattr(run, "plan_of", lambda options: options)
    monkeypatch.setattr(run, "_run", instead)
    return words


def test_the_lock_suite_leaves_the_conformance_tests_out(given: list[str]) -> None:
    assert CliRunner().invoke(run.command, []).exit_code == 0
    assert given[0] == str(TESTCASES)
    assert f"--ignore={TESTCASES / 'conformance'}" in given
    assert f"--ignore={BOOT_TEST.parent}" in given and BOOT_TEST.is_file()


def test_the_conformance_suite(given: list[str]) -> None:
    CliRunner().invoke(run.command, ["--suite", "conformance"])
    assert given[0] == str(TESTCASES / "conformance")
    assert Path(given[0]).is_dir()
    assert not any(word.startswith("--ignore") for word in given)


def test_named_tests_go_before_a_suite(given: list[str]) -> None:
    named = str(TESTCASES / "conformance" / "test_use.py")
    CliRunner().invoke(run.command, ["--suite", "lock", named])
    assert given[0] == named
    assert not any(word.startswith("--ignore") for word in given)


def test_no_such_suite() -> None:
    said = CliRunner().invoke(run.command, ["--suite", "weather"])
    assert said.exit_code == 2 and "conformance" in said.output
