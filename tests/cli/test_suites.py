"""``run --suite``: which test cases pytest is given."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import run
from harness.data import TESTCASES
from harness.run.plan import Plan


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words that pytest would be called with."""
    words: list[str] = []

    def pytest_main(found: list[str], *_: object, **__: object) -> tuple[int, None]:
        words.extend(found)
        return 0, None

    monkeypatch.setattr(run, "_pytest", pytest_main)
    monkeypatch.setattr(Plan, "check", lambda _: None)
    return words


def test_the_lock_suite_leaves_the_conformance_tests_out(given: list[str]) -> None:
    assert CliRunner().invoke(run.command, []).exit_code == 0
    assert given[0] == str(TESTCASES)
    assert f"--ignore={TESTCASES / 'conformance'}" in given


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
