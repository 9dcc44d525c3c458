# SPDX-License-Identifier: GPL-2.0-or-later
"""The loop over mutants, its journal and its report, with a bench that boots nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.corpus.mutants import report
from harness.corpus.mutants.choose import choose
from harness.corpus.mutants.journal import MutantJournal, Reach
from harness.corpus.mutants.loop import run_mutants
from harness.corpus.mutants.outcome import Outcome, score, together
from harness.verdict import ConfigError, LabError
from tests.corpus.mutants import toy

ABOUT = {"host": "h", "seed": 1}
MUTANTS = choose(toy.texts(), 5, 1)


def ended(verdict: str, name: str = "send") -> dict[str, Any]:
    said = {"name": name, "verdict": verdict, "message": f"it is {verdict}", "seconds": 1.0}
    return said | {"evidence": None}


class Bench:
    """Answers from tables: what each test comes by, and the verdicts with a mutant, one a try."""

    def __init__(self, reaches: Sequence[Reach], tests: Mapping[int, Sequence[str]]) -> None:
        self.reaches, self.tests = reaches, {key: list(value) for key, value in tests.items()}
        self.asked: list[tuple[int, tuple[str, ...]]] = []

    def watch(self, suite: str, count: int, out: Path) -> list[Reach]:
        assert count == len(MUTANTS)
        return [replace(each, suite=suite) for each in self.reaches]

    def run(
        self, suite: str, number: int, nodes: Sequence[str], out: Path
    ) -> Sequence[Mapping[str, Any]]:
        self.asked.append((number, tuple(nodes)))
        verdict = self.tests[number].pop(0)
        if verdict == "stop":
            raise KeyboardInterrupt
        seen = {"kind": "hang"} if verdict == "FAIL" else None
        return [ended("PASS", "boot"), ended(verdict) | {"evidence": seen}]


REACHES = [
    Reach("", "slow", 9.0, "PASS", frozenset({1, 2, 3})),
    Reach("", "quick", 1.0, "PASS", frozenset({1, 3, 4})),
    Reach("", "broken", 0.1, "FAIL", frozenset({1, 2, 3, 4, 5})),
]


def run(bench: Bench, journal: MutantJournal, place: Path) -> list[Outcome]:
    told: list[Outcome] = []
    run_mutants(MUTANTS, ["lock"], bench=bench, journal=journal, out=place, notice=told.append)
    return told


def test_a_mutant_gets_the_tests_that_come_by_it_the_quickest_first(tmp_path: Path) -> None:
    bench = Bench(REACHES, {1: ["FAIL"], 2: ["PASS"], 3: ["MISS", "PASS"], 4: ["MISS", "ERROR"]})
    told = run(bench, MutantJournal(tmp_path, ABOUT), tmp_path)
    assert [(one.number, one.fate) for one in told] == [
        (1, "killed"),
        (2, "survived"),
        (3, "survived"),  # the second time
        (4, "unclear"),
        (5, "not-reached"),  # but for a test that does not pass with no mutant on
    ]
    assert bench.asked == [
        (1, ("quick", "slow")),
        (2, ("slow",)),
        (3, ("quick", "slow")),
        (3, ("quick", "slow")),
        (4, ("quick",)),
        (4, ("quick",)),
    ]
    assert (told[0].test, told[0].kind, told[0].tests) == ("send", "hang", 2)
    assert told[3].reason == "it is ERROR"


def test_an_error_that_comes_again_kills_and_a_machine_that_is_silent_does_not(
    tmp_path: Path,
) -> None:
    tables = {1: ["ERROR", "ERROR"], 2: ["ERROR", "PASS"], 3: ["MISS", "MISS"], 4: ["SKIP", "FAIL"]}
    told = run(Bench(REACHES, tables), MutantJournal(tmp_path, ABOUT), tmp_path)
    assert [one.fate for one in told[:4]] == ["killed", "survived", "unclear", "killed"]
    assert told[0].kind == "error"


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    tables = {1: ["FAIL"], 2: ["stop"], 3: ["PASS"], 4: ["FAIL"]}
    with pytest.raises(KeyboardInterrupt):
        run(Bench(REACHES, tables), MutantJournal(tmp_path, ABOUT), tmp_path)
    with (tmp_path / "mutants.jsonl").open("ab") as file:
        file.write(b'{"outcome": {"number": 2, "su')  # killed while it wrote
    bench = Bench([], tables | {2: ["PASS"]})
    again = MutantJournal(tmp_path, ABOUT)
    assert [one.number for one in run(bench, again, tmp_path)] == [2, 3, 4, 5]
    assert again.outcomes == MutantJournal(tmp_path, ABOUT).outcomes
    assert again.is_killed(1) and not again.is_killed(2)


def test_a_journal_of_other_mutants_is_refused(tmp_path: Path) -> None:
    MutantJournal(tmp_path, ABOUT)
    with pytest.raises(ConfigError, match="of other mutants"):
        MutantJournal(tmp_path, ABOUT | {"seed": 2})


def test_a_suite_that_does_not_pass_without_a_mutant_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no test passes with no mutant on"):
        run(Bench([REACHES[2]], {}), MutantJournal(tmp_path, ABOUT), tmp_path)


def outcome(number: int, suite: str, fate: Any) -> Outcome:
    return Outcome(number, suite, fate)


def test_the_score_leaves_out_what_nobody_can_see_and_what_is_unclear() -> None:
    outcomes = [
        outcome(1, "lock", "killed"),
        outcome(2, "lock", "survived"),
        outcome(2, "conformance", "killed"),
        outcome(3, "lock", "not-reached"),
        outcome(4, "lock", "same-code"),
        outcome(5, "lock", "unclear"),
    ]
    lock = score(each for each in outcomes if each.suite == "lock")
    assert lock.judged == 3 and lock.rate == pytest.approx(1 / 3)
    fates = [each.fate for each in together(outcomes)]
    assert fates == ["killed", "killed", "not-reached", "same-code", "unclear"]
    assert score([]).rate is None


def test_the_page_has_the_survivors_with_their_diffs(tmp_path: Path) -> None:
    journal = MutantJournal(tmp_path, ABOUT)
    run(Bench(REACHES, {1: ["FAIL"], 2: ["PASS"], 3: ["PASS"], 4: ["FAIL"]}), journal, tmp_path)
    journal.add_same_code(frozenset({1, 3}))
    told = report.Told("h", "4.17", "counter", 1)
    found = report.write(told, MUTANTS, {}, journal, tmp_path)
    assert [one["number"] for one in found["survivors"]] == [2, 5]
    assert found["suites"]["lock"]["killed"] == 2  # 1 is killed whatever its code is
    assert found["suites"]["lock"]["same-code"] == 1
    assert found["suites"][report.ALL]["score"] == 0.5
    assert sum(sum(row["by"].values()) for row in found["kills"]) == 2
    assert json.loads((tmp_path / "mutants.json").read_text()) == found
    page = (tmp_path / "mutants.html").read_text()
    assert "Not killed: 2" in page and "<rect" in page and "hang" in page
    for line in MUTANTS[1].diff.splitlines():
        assert line.replace("&", "&amp;").replace(">", "&gt;").replace("<", "&lt;") in page
