# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs that were recorded before evidence was kept: they load, report and check as they did.

``old/`` was written by the harness of then: three run directories, and beside each what its
``report --json`` and junit.xml were.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest

from harness.bisect.target import target_of
from harness.cli.interleave import command as interleave
from harness.history.checker import check
from harness.nightly.outcome import read_outcome
from harness.results.document import run_document
from harness.results.html import render_html
from harness.results.junit import render_junit
from harness.results.report import write_reports
from harness.results.store import load
from harness.verdict import ConfigError, Verdict

OLD = Path(__file__).parent / "old"
RUNS = ("hang", "load", "killed")
_HISTORY = Path("history/qemu-arm64/load.parquet")


@pytest.mark.parametrize("name", RUNS)
def test_an_old_run_says_what_it_said(name: str) -> None:
    run = load(OLD / name)
    document = run_document(run) | {"path": "", "report": ""}
    for host in document["hosts"]:
        assert (host.pop("toolstack"), host.pop("toolstack_reason")) == ("", "")
        assert (host.pop("series"), host.pop("model")) == ([], None)
        assert host.pop("starved") == 0.0
        assert host.pop("restored") == ""
        assert host.pop("rules") == []
        assert host.pop("symptoms") == []
        assert host.pop("lock_code") is None
        for test in host["tests"]:
            assert test.pop("evidence") is None
    assert document == json.loads((OLD / f"{name}.json").read_text())
    was = (OLD / f"{name}.xml").read_text()  # with an attribute that Jenkins' schema has not
    assert render_junit(run) == re.sub(r'(<testsuites [^>]*) skipped="\d+"', r"\1", was)


@pytest.mark.parametrize("name", RUNS)
def test_an_old_run_is_reported_again(name: str, tmp_path: Path) -> None:
    shutil.copytree(OLD / name, tmp_path / name)
    run = write_reports(tmp_path / name)
    page = run.directory.report.read_text()
    assert page == render_html(run)
    first = next(t for host in run.hosts for t in host.tests if t.verdict is Verdict.FAIL)
    assert first.name in page and "seed 7" in page


def test_an_old_history_is_judged_as_it_was() -> None:
    """Only the explanation below a witness's operations may have other words by now."""
    result = dataclasses.asdict(check(OLD / "load" / _HISTORY))
    result.pop("seconds")
    for violation in result["violations"]:
        assert violation.pop("evidence")["kind"] == "disallowed"
    then = json.loads((OLD / "check.json").read_text())
    for violation in (*result["violations"], *then["violations"]):
        lines = violation["story"].splitlines()
        violation["story"] = [
            line for line in lines if not line.startswith("   ") or "] us" in line
        ]
        assert len(violation["story"]) == 1 + len(violation["operations"])
    assert json.loads(json.dumps(result)) == then


def test_an_old_run_with_a_history_says_what_to_look_for() -> None:
    seen = target_of(OLD / "load")
    assert (seen.test, seen.kind, seen.site, seen.shape) == ("load", "disallowed", "answer", "send")
    assert target_of(OLD / "load" / _HISTORY) == seen


@pytest.mark.parametrize("name", ["hang", "killed"])
def test_an_old_run_without_one_is_one_clear_line(name: str) -> None:
    with pytest.raises(ConfigError, match="keeps no evidence of why") as caught:
        target_of(OLD / name)
    assert "run the test again" in caught.value.hint
    assert "\n" not in str(caught.value)


def test_suggest_judges_an_old_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert interleave.main(["suggest", str(OLD / "load"), "--json"], standalone_mode=False) == 0
    assert "meetings" in json.loads(capsys.readouterr().out)
    assert interleave.main(["suggest", str(OLD / "hang")], standalone_mode=False) == 0
    said = capsys.readouterr()
    assert "leaves-it-usable: no evidence of the failure" in said.err


@pytest.mark.parametrize("name", RUNS)
def test_the_nightly_takes_an_old_run(name: str) -> None:
    outcome = read_outcome(OLD / name)
    assert outcome.verdict is Verdict.FAIL
    assert outcome.tests and all(test.evidence is None for test in outcome.tests)
