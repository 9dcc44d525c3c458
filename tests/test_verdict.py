# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts: KCIDB's order, the exit codes, who an exception blames."""

from __future__ import annotations

import itertools

import pytest

from harness import verdict
from harness.verdict import (
    BuildError,
    ConfigError,
    HarnessError,
    HypervisorError,
    LabError,
    Verdict,
    combine,
    exit_code,
)

# The priority list in KCIDB's schema (since I/O version 4.3), typed from there: highest first.
KCIDB_PRIORITY = ["FAIL", "ERROR", "MISS", "PASS", "DONE", "SKIP"]


def test_severity_is_kcidbs_priority() -> None:
    assert list(verdict.SEVERITY) == KCIDB_PRIORITY
    assert set(verdict.SEVERITY) == set(Verdict)


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(KCIDB_PRIORITY, 2)))
def test_the_more_severe_wins_in_either_order(one: str, other: str) -> None:
    assert combine([Verdict(one), Verdict(other)]) is Verdict(one)
    assert combine([Verdict(other), Verdict(one)]) is Verdict(one)


def test_nothing_seen_is_nothing_learnt() -> None:
    assert combine([]) is Verdict.MISS


def test_combining_in_parts_gives_the_same() -> None:
    for triple in itertools.product(Verdict, repeat=3):
        assert combine([combine(triple[:2]), triple[2]]) is combine(triple)


def test_exit_codes_are_the_documented_ones() -> None:
    codes = {outcome.value: exit_code(outcome) for outcome in Verdict}
    assert codes == {"PASS": 0, "DONE": 0, "SKIP": 0, "FAIL": 1, "ERROR": 3, "MISS": 3}
    assert (verdict.EXIT_USAGE, verdict.EXIT_INTERRUPTED) == (2, 130)


@pytest.mark.parametrize(
    ("kind", "blames", "code"),
    [
        (HarnessError, Verdict.ERROR, 3),
        (ConfigError, Verdict.ERROR, 2),
        (LabError, Verdict.MISS, 3),
        (BuildError, Verdict.MISS, 3),
        (HypervisorError, Verdict.FAIL, 1),
    ],
)
def test_an_exceptions_class_fixes_verdict_and_exit_code(
    kind: type[HarnessError], blames: Verdict, code: int
) -> None:
    error = kind("what")
    assert (error.verdict, error.exit_code) == (blames, code)


def test_only_the_hypervisor_can_fail() -> None:
    """A fault of the lab, the build or the harness is never a FAIL."""
    blamed = [kind for kind in _subclasses(HarnessError) if kind.verdict is Verdict.FAIL]
    assert all(issubclass(kind, HypervisorError) for kind in blamed)


def test_text_says_where_what_and_what_to_do() -> None:
    assert str(LabError("no space left", where="/x", hint="free some")) == (
        "/x: no space left; free some"
    )
    assert str(LabError("no space left")) == "no space left"


def _subclasses(kind: type[HarnessError]) -> list[type[HarnessError]]:
    return [kind, *(deep for sub in kind.__subclasses__() for deep in _subclasses(sub))]
