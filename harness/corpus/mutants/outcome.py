# SPDX-License-Identifier: GPL-2.0-or-later
"""What became of a mutant in a suite, and what that says of the suite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from harness.corpus.judge import FRAME_TESTS
from harness.stats import share
from harness.verdict import Verdict

Fate = Literal["killed", "survived", "unclear", "not-reached", "same-code"]
ERROR = "error"  # the kind of what a test shows that does not fail, but cannot go on
FATES: tuple[Fate, ...] = ("killed", "survived", "unclear", "not-reached", "same-code")

_Tests = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one mutant in one suite.

    killed: a test failed, or ended twice with an error that it does not have without the mutant:
    an operation is refused that it needs.  survived: every test that comes by the mutant passed.
    unclear: the machine or a guest did not answer, twice.  not-reached: no test comes by it.
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
    for verdict in (Verdict.FAIL, Verdict.ERROR, Verdict.MISS):
        for test in tests:
            if test["verdict"] == verdict:
                fate: Fate = "killed" if verdict is Verdict.FAIL else "unclear"
                kind = str((test.get("evidence") or {}).get("kind", ""))
                kind = kind or (ERROR if verdict is Verdict.ERROR else "")
                name, reason = test["name"], test["message"]
                return Outcome(number, suite, fate, name, reason, kind, seconds, asked)
    passed = {test["name"] for test in tests if test["verdict"] == Verdict.PASS}
    if not passed.difference(FRAME_TESTS):
        return Outcome(number, suite, "unclear", "", "no test ran", "", seconds, asked)
    return Outcome(number, suite, "survived", seconds=seconds, tests=asked)


def tried_again(first: Outcome, second: Outcome) -> Outcome:
    """Return the outcome of a mutant that was unclear at first: the same error twice kills it."""
    same = first.kind == second.kind == ERROR and first.test == second.test
    return replace(second, fate="killed") if same and second.fate == "unclear" else second


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
