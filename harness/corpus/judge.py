"""What the runs of one entry say about the tests: caught, missed, or a false alarm."""

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

_FRAME_TESTS = ("boot", "teardown", "nothing-leaked")  # around the tests: no try of the entry's own
_CONCLUSIVE = (Verdict.PASS, Verdict.FAIL)  # of these two something is learnt about Xen


@dataclass(frozen=True)
class Cell:
    """One entry on one host.  Seconds are from a test's begin to its explained verdict."""

    entry: str
    host: str
    good: bool
    kind: str
    outcome: str  # caught | missed | cannot-show | pass | false-alarm | lab-fault
    seconds: float = 0.0  # median time to expose; of a good one, of all tests together
    explanation: str = ""
    hits: int = 0  # tests that failed as they must
    tries: int = 0  # tests that passed or failed
    probability: tuple[float, float] = (0.0, 1.0)  # of a hit per try: 95 % interval (Wilson)
    seconds_for_95: float | None = None  # of testing, to catch it with 95 %; None: never seen


def cannot_show_cell(entry: Entry, host: str) -> Cell:
    """Return the cell of an entry that no real machine shows."""
    return Cell(
        entry.name, host, False, entry.kind, "cannot-show", explanation=entry.cannot_show.strip()
    )


def judge(entry: Entry, host: str, tests: Sequence[dict[str, Any]]) -> Cell:
    """Judge ``entry`` by ``tests``, as ``run --json`` has them (name, verdict, evidence...)."""
    own = [test for test in tests if test["name"] not in _FRAME_TESTS and _is_conclusive(test)]
    tries = [test for test in tests if _is_conclusive(test)] if entry.good else own
    failed = [test for test in tries if test["verdict"] == Verdict.FAIL]
    hits = [test for test in failed if entry.good or _shows(entry, test)]
    if entry.good:
        outcome, told = _outcome_of_good(own, failed, tests)
        seconds = sum(test["seconds"] for test in tries)
    else:
        outcome, told = _outcome_of_bad(own, failed, hits, tests)
        seconds = statistics.median(test["seconds"] for test in hits) if hits else 0.0
    spent = [test["seconds"] for test in tries]
    return Cell(
        entry=entry.name,
        host=host,
        good=entry.good,
        kind=entry.kind,
        outcome=outcome,
        seconds=round(seconds, 3),
        explanation=told,
        hits=len(hits),
        tries=len(tries),
        probability=share(len(hits), len(tries)),
        seconds_for_95=None if entry.good else _seconds_for_95(len(hits), len(tries), spent),
    )


_Tests = Sequence[dict[str, Any]]


def _outcome_of_good(own: _Tests, failed: _Tests, tests: _Tests) -> tuple[str, str]:
    if failed:
        return "false-alarm", f"{failed[0]['name']}: {failed[0]['message']}"
    if not own or any(_is_fault(test) for test in tests):
        return "lab-fault", _first_fault(tests)
    return "pass", ""


def _outcome_of_bad(own: _Tests, failed: _Tests, hits: _Tests, tests: _Tests) -> tuple[str, str]:
    if hits:
        return "caught", hits[0]["message"]
    if failed:
        return "missed", f"failed otherwise: {failed[0]['message']}"
    if own:
        return "missed", "every test passed"
    return "lab-fault", _first_fault(tests)


def exit_code(cells: Iterable[Cell]) -> int:
    """1: a good flavour failed or a bad one was missed; 3: the lab kept us from knowing."""
    outcomes = {cell.outcome for cell in cells}
    if outcomes & {"false-alarm", "missed"}:
        return EXIT_FAIL
    return EXIT_LAB if "lab-fault" in outcomes else EXIT_PASS


def _seconds_for_95(hits: int, tries: int, spent: Sequence[float]) -> float | None:
    """Return how long such tests have to go on for one of them to hit with 95 %."""
    if not hits:
        return None
    each = statistics.fmean(spent)
    if hits == tries:
        return round(each, 1)
    return round(each * math.log(0.05) / math.log(1 - hits / tries), 1)


def _is_conclusive(test: dict[str, Any]) -> bool:
    return test["verdict"] in _CONCLUSIVE


def _shows(entry: Entry, test: dict[str, Any]) -> bool:
    evidence = codec.from_json(test.get("evidence"))
    return any(pattern.matches(evidence) for pattern in entry.shows)


def _is_fault(test: dict[str, Any]) -> bool:
    return test["verdict"] in (Verdict.MISS, Verdict.ERROR)


def _first_fault(tests: Sequence[dict[str, Any]]) -> str:
    faults = (f"{test['name']}: {test['message']}" for test in tests if _is_fault(test))
    return next(faults, "no test ran")
