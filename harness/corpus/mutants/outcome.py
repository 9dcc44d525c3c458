# SPDX-License-Identifier: GPL-2.0-or-later
"""What became of a mutant in a suite, and what that says of the suite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.stats import share
from harness.verdict import Verdict

Fate = Literal["killed", "survived", "unclear", "not-reached", "same-code"]
FATES: tuple[Fate, ...] = ("killed", "survived", "unclear", "not-reached", "same-code")

_Tests = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one mutant in one suite.

    killed: a test failed.  survived: every test that comes by the mutant passed.  unclear: none
    failed, and the machine or a guest did not answer, twice.  not-reached: no test comes by it.
    same-code: it survived or was not reached, and the compiler makes the original's code of it.
    """

    number: int  # of the mutant
    suite: str
    fate: Fate
    test: str = ""  # that killed it, or that did not end
    reason: str = ""  # what this test says
    kind: str = ""  # of its evidence: "hang", "crash", "assertion"...
    seconds: float = 0.0  # wall time, with restoring the machine
    tests: int = 0  # that come by it


def judged(number: int, suite: str, tests: _Tests, seconds: float, asked: int) -> Outcome:
    """Return the outcome of mutant ``number`` after ``tests`` (as in the document of a run)."""
    seconds = round(seconds, 3)
    for verdict, fate in ((Verdict.FAIL, "killed"), (Verdict.ERROR, "unclear"),
                          (Verdict.MISS, "unclear")):  # fmt: skip
        for test in tests:
            if test["verdict"] == verdict:
                evidence = test.get("evidence") or {}
                return Outcome(
                    number, suite, _fate(fate), test["name"], test["message"],
                    str(evidence.get("kind", "")), seconds, asked,
                )  # fmt: skip
    ran = [test for test in tests if test["verdict"] == Verdict.PASS]
    fate = "survived" if ran else "unclear"
    reason = "" if ran else "no test ran"
    return Outcome(number, suite, _fate(fate), reason=reason, seconds=seconds, tests=asked)


def _fate(name: str) -> Fate:
    return next(fate for fate in FATES if fate == name)


@dataclass(frozen=True)
class Score:
    """How many mutants had which fate; ``rate`` is killed of those that could be (95 %, Wilson)."""

    counts: Mapping[str, int]

    @property
    def judged(self) -> int:
        """The mutants that count: not those with the original's code, nor the unclear ones."""
        return sum(self.counts.get(fate, 0) for fate in ("killed", "survived", "not-reached"))

    @property
    def rate(self) -> float | None:
        """The mutation score: killed of ``judged``; None if there are none."""
        return self.counts.get("killed", 0) / self.judged if self.judged else None

    @property
    def interval(self) -> tuple[float, float]:
        """The score's 95 % interval."""
        return share(self.counts.get("killed", 0), self.judged)


def score(outcomes: Iterable[Outcome]) -> Score:
    """Return the score of ``outcomes``, of one suite or of together()."""
    counts: dict[str, int] = dict.fromkeys(FATES, 0)
    for outcome in outcomes:
        counts[outcome.fate] += 1
    return Score(counts)


def together(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return one outcome for each mutant, of all suites together: the first of FATES counts."""
    best: dict[int, Outcome] = {}
    for outcome in outcomes:
        known = best.setdefault(outcome.number, outcome)
        if FATES.index(outcome.fate) < FATES.index(known.fate):
            best[outcome.number] = outcome
    return [best[number] for number in sorted(best)]
