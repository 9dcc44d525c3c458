# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict on the tests after the runs of one entry: caught, missed, or a false alarm."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.corpus.entry import Entry
from harness.evidence import codec
from harness.stats import share
from harness.verdict import EXIT_FAIL, EXIT_LAB, EXIT_PASS, Verdict

FRAME_TESTS = ("boot", "teardown", "nothing-leaked", "lock-code")  # around the tests
_CONCLUSIVE = (Verdict.PASS, Verdict.FAIL)  # only these two say something about Xen


@dataclass(frozen=True)
class Cell:
    """The result of one entry on one host.

    Seconds of a test are from its begin until its verdict is explained.
    """

    entry: str
    host: str
    good: bool
    kind: str
    outcome: str  # caught | missed | cannot-show | pass | false-alarm | lab-fault
    seconds: float = 0.0  # median of the tests that hit; for a good entry, of all tests together
    explanation: str = ""
    hits: int = 0  # tests that failed with the evidence that the entry names
    tries: int = 0  # tests that passed or failed
    probability: tuple[float, float] = (0.0, 1.0)  # of a hit per try: 95 % interval (Wilson)
    seconds_for_95: float | None = None  # to catch it with 95 % probability; None: no hit yet


def cannot_show_cell(entry: Entry, host: str) -> Cell:
    """Return the cell of ``entry``, whose fault ``host`` cannot show, or which cannot be built."""
    why = entry.misfit or entry.cannot_show.strip()
    return Cell(entry.name, host, entry.good, entry.kind, "cannot-show", explanation=why)


def judge(entry: Entry, host: str, tests: Sequence[dict[str, Any]]) -> Cell:
    """Return the result of ``entry`` on ``host``, after ``tests`` (of the document of
    ``run --json``)."""
    own_tests = [test for test in tests if test["name"] not in FRAME_TESTS and _is_conclusive(test)]
    tries = [test for test in tests if _is_conclusive(test)] if entry.good else own_tests
    failed = [test for test in tries if test["verdict"] == Verdict.FAIL]
    hits = [test for test in failed if entry.good or _shows(entry, test)]
    if entry.good:
        outcome, explanation = _outcome_of_good(own_tests, failed, tests)
        seconds = sum(test["seconds"] for test in tries)
    else:
        outcome, explanation = _outcome_of_bad(own_tests, failed, hits, tests)
        seconds = statistics.median(test["seconds"] for test in hits) if hits else 0.0
    spent = [test["seconds"] for test in tries]
    return Cell(
        entry=entry.name,
        host=host,
        good=entry.good,
        kind=entry.kind,
        outcome=outcome,
        seconds=round(seconds, 3),
        explanation=explanation,
        hits=len(hits),
        tries=len(tries),
        probability=share(len(hits), len(tries)),
        seconds_for_95=None if entry.good else _seconds_for_95(len(hits), len(tries), spent),
    )


_Tests = Sequence[dict[str, Any]]


def _outcome_of_good(own_tests: _Tests, failed: _Tests, tests: _Tests) -> tuple[str, str]:
    if failed:
        return "false-alarm", f"{failed[0]['name']}: {failed[0]['message']}"
    if not own_tests or any(_is_fault(test) for test in tests):
        return "lab-fault", _first_fault(tests)
    return "pass", ""


def _outcome_of_bad(
    own_tests: _Tests, failed: _Tests, hits: _Tests, tests: _Tests
) -> tuple[str, str]:
    if hits:
        return "caught", hits[0]["message"]
    if failed:
        return "missed", f"failed in another way: {failed[0]['message']}"
    if own_tests:
        return "missed", "every test passed"
    return "lab-fault", _first_fault(tests)


def exit_code(cells: Iterable[Cell]) -> int:
    """Return the exit code: 1 if a good flavour failed or a bad one was missed; else 3 if there was
    a lab fault; else 0."""
    outcomes = {cell.outcome for cell in cells}
    if outcomes & {"false-alarm", "missed"}:
        return EXIT_FAIL
    return EXIT_LAB if "lab-fault" in outcomes else EXIT_PASS


def _seconds_for_95(hits: int, tries: int, spent: Sequence[float]) -> float | None:
    """Return the seconds of repeated tests after which one has hit with a probability of 95 %."""
    if not hits:
        return None
    each = statistics.fmean(spent)
    if hits == tries:
        return round(each, 1)
    return round(each * math.log(0.05) / math.log(1 - hits / tries), 1)


def _is_conclusive(test: dict[str, Any]) -> bool:
    return test["verdict"] in _CONCLUSIVE


def _shows(entry: Entry, test: dict[str, Any]) -> bool:
    if entry.in_binary:
        return bool(test["name"] == f"binary-{entry.in_binary}")
    evidence = codec.from_json(test.get("evidence"))
    return any(pattern.matches(evidence) for pattern in entry.shows)


def _is_fault(test: dict[str, Any]) -> bool:
    return test["verdict"] in (Verdict.MISS, Verdict.ERROR)


def _first_fault(tests: Sequence[dict[str, Any]]) -> str:
    faults = (f"{test['name']}: {test['message']}" for test in tests if _is_fault(test))
    return next(faults, "no test ran")
