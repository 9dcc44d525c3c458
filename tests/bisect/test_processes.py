# SPDX-License-Identifier: GPL-2.0-or-later
"""The document of a run becomes the tries of a revision; the target is read from a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.bisect.processes import of_document
from harness.bisect.signature import Signature
from harness.bisect.target import node_of, target_of
from harness.data import TESTCASES
from harness.evidence import Assertion, BringUp, Evidence, codec
from harness.history.format.parquet import write
from harness.history.simulate.bugs import inject
from harness.history.simulate.run import Recipe, generate
from harness.verdict import ConfigError
from tests.results.runs import failing, good

DROPPED = Assertion(file="test_duel.py", function="test_race", line=3, expression="seen.lost == 0")


def said(name: str, verdict: str, evidence: Evidence | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "verdict": verdict,
        "message": "",
        "story": "",
        "seconds": 1.5,
        "evidence": None if evidence is None else codec.to_json(evidence),
    }


def test_tries_are_what_the_tests_said_and_nothing_around_them() -> None:
    seconds = {"build": 60.0, "boot": 20.0, "domains": 9.0, "agents": 1.0, "load": 7.0}
    tests = [
        said("boot", "PASS"),
        said("race", "PASS"),
        said("race", "FAIL", DROPPED),
        said("race", "MISS"),
        said("race", "SKIP"),
        said("nothing-leaked", "FAIL"),
    ]
    got = of_document("c1", {"hosts": [{"tests": tests, "seconds": seconds}]}, "/place")
    assert [(one.test, one.outcome) for one in got.tries] == [
        ("boot", "pass"), ("race", "pass"), ("race", "fail"), ("race", "fault"),
    ]  # fmt: skip
    assert got.tries[2].signature == Signature(
        "race", "assertion", "test_duel.py::test_race", "seen.lost == 0"
    )
    assert (got.boot_seconds, got.seconds, got.place) == (30.0, 9.0, "/place")


def test_the_tests_after_a_boot_that_failed_are_no_faults_of_the_lab() -> None:
    not_up = BringUp(stage="boot", domain="dom0", step="xenstore", reason="FATAL: no")
    tests = [said("boot", "FAIL", not_up), said("race", "MISS")]
    (one,) = of_document("c1", {"hosts": [{"tests": tests, "seconds": {}}]}, "").tries
    assert (one.test, one.outcome) == ("boot", "fail")
    assert one.signature == Signature("boot", "bring-up", "xenstore", "FATAL: no")


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({}, "the run said nothing"),
        ({"verdict": "MISS", "error": "no space left"}, "no space left"),
        ({"hosts": [], "message": "interrupted"}, "interrupted"),
    ],
)
def test_a_run_that_says_nothing_is_a_lab_fault(document: dict[str, Any], why: str) -> None:
    (one,) = of_document("c1", document, "").tries
    assert (one.outcome, one.message) == ("fault", why)


def test_a_failed_run_says_what_to_look_for(tmp_path: Path) -> None:
    run = failing(tmp_path / "run")
    seen = target_of(run.path)
    assert target_of(run.journal) == seen
    assert (seen.test, seen.kind, seen.shape) == ("poll-of-free-port", "hang", "leaked-reader")
    with pytest.raises(ConfigError, match="no test failed in that run"):
        target_of(good(tmp_path / "good").path)


def test_a_recorded_history_says_what_to_look_for(tmp_path: Path) -> None:
    injected = inject(Recipe(seed=5, kernel=0), "send refused")
    assert injected is not None
    write(injected[0], tmp_path / "bad.parquet")
    assert target_of(tmp_path / "bad.parquet") == Signature("load", "disallowed", "answer", "send")
    write(generate(Recipe(seed=5)), tmp_path / "good.parquet")
    with pytest.raises(ConfigError, match="the model allows that history"):
        target_of(tmp_path / "good.parquet")


def test_the_test_that_showed_it_is_found() -> None:
    seen = Signature("unmask-under-a-close", "answer", "", "")
    assert node_of(seen, TESTCASES).endswith("test_race.py::test_unmask_under_a_close")
    with pytest.raises(ConfigError, match="no test test_nothing in testcases/; give --test"):
        node_of(Signature("nothing", "answer", "", ""), TESTCASES)
