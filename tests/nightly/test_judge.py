# SPDX-License-Identifier: GPL-2.0-or-later
"""From a series to its judgement: a table, and laws that hold for every series."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.evidence.identity import Identity
from harness.nightly.judge import (
    Judgement,
    MetricPoint,
    SymptomCount,
    TestOutcome,
    judge_metric,
    judge_symptom,
    judge_test,
)
from harness.nightly.outcome import THROUGHPUT


def _tries(outcomes: str, builds: str | None = None) -> list[TestOutcome]:
    """Return one try a night; P passes, F fails; builds are letters, by default all the same."""
    names = builds or "a" * len(outcomes)
    assert len(names) == len(outcomes)
    return [
        TestOutcome(f"{night:03}", build, outcome == "F", "lost" if outcome == "F" else "")
        for night, (outcome, build) in enumerate(zip(outcomes, names, strict=True))
    ]


@pytest.mark.parametrize(
    ("outcomes", "builds", "kind", "since"),
    [
        ("PPPPPPPP", None, None, None),
        ("", None, None, None),
        ("PPPPPF", "aaaaab", "failing", 5),
        ("PPPPFFF", "aaaabbb", "failing", 4),
        ("F", "a", "failing", 0),
        ("FFFF", "abcd", "failing", 0),
        ("PPPFP", "aaabc", "fixed", 4),  # a bug that came and was mended
        ("PPPFFFFP", "aaabbbbc", "fixed", 7),
        ("PPPFFPP", "aaabbcc", None, None),  # fixed, and told so the night before
        ("PPPFP", "aaaaa", "flaky", 3),  # one build did both
        ("PPPFPPPF", "abcdefgh", "flaky", 3),  # failed again
        ("PFPFPFPF", None, "flaky", 1),
        ("PPPPPPPPPPFPPPPPPPPPPPPPPPPPPPPPPPPPPPPPP", None, None, None),  # long gone
        ("PFPFPPFPFFFFFFFFFFFFFFF", None, "failing", 8),  # a flake became a failure
        ("PPPPPPPPPPF", None, "failing", 10),
    ],
)
def test_a_series_and_its_judgement(
    outcomes: str, builds: str | None, kind: str | None, since: int | None
) -> None:
    tries = _tries(outcomes, builds)
    found = judge_test(tries, f"{len(outcomes) - 1:03}")
    assert (found.kind if found else None) == kind
    if found is not None:
        assert found.since == f"{since:03}"


def test_a_flake_has_a_rate_with_its_interval() -> None:
    found = judge_test(_tries("PPPPPPPPPFPPPPPPPPPF"), "019")
    assert found is not None and found.value == 0.1
    assert found.low is not None and found.high is not None
    assert 0.02 < found.low < 0.1 < found.high < 0.35
    assert found.text == "failed 2 of 20 times: 10 % [3, 30]; last: lost"


def test_a_failure_says_what_changed() -> None:
    found = judge_test(_tries("PPPF", "aaab"), "003")
    assert found is not None
    assert (found.build_before, found.build_after) == ("a", "b")
    assert found.text == "lost (passed before, last on 002)"
    same = judge_test(_tries("PPPF"), "003")
    assert same is not None and same.text.endswith("with the same build)")


def test_another_failure_of_a_failing_test_is_another() -> None:
    hang, crash = Identity("hang", "evtchn_write_lock"), Identity("crash", "sched.c", "bug")

    def last(*failures: Identity | None) -> Judgement:
        tries = [TestOutcome("000", "a", failed=False)]
        for night, failure in enumerate(failures, 1):
            tries.append(TestOutcome(f"{night:03}", "b", True, str(night), failure))
        found = judge_test(tries, f"{len(failures):03}")
        assert found is not None and found.kind == "failing" and found.since == "001"
        return found

    assert not last(hang).another
    assert not last(hang, hang).another
    assert last(hang, crash).another
    assert last(hang, crash).text.startswith(
        "2 (passed before, last on 000; it failed in another way"
    )
    assert not last(hang, crash, hang).another  # seen before
    assert not last(None, crash).another  # of a night whose evidence nobody kept
    assert not last(hang, None).another


def test_repeats_of_one_night_that_disagree_are_a_flake() -> None:
    tries = [TestOutcome("000", "a", failed) for failed in (False, True, False, False)]
    found = judge_test(tries, "000")
    assert found is not None and found.kind == "flaky" and found.value == 0.25


@given(st.text(alphabet="PF", max_size=40), st.data())
def test_laws(outcomes: str, data: st.DataObject) -> None:
    builds = data.draw(st.text(alphabet="abc", min_size=len(outcomes), max_size=len(outcomes)))
    tries = _tries(outcomes, builds)
    found = judge_test(tries, f"{len(outcomes) - 1:03}")
    if "F" not in outcomes:
        assert found is None
    elif outcomes.endswith("F"):
        assert found is not None and found.kind in ("failing", "flaky")
    elif found is not None:
        assert found.kind in ("fixed", "flaky")
    if found is not None and found.kind == "flaky":
        assert "FP" in outcomes
        assert found.low is not None and found.value is not None and found.high is not None
        assert found.low <= found.value <= found.high


def _points(values: list[float], builds: str) -> list[MetricPoint]:
    return [
        MetricPoint(f"{night:03}", build, value)
        for night, (build, value) in enumerate(zip(builds, values, strict=True))
    ]


_QUIET = [1.0, 1.02, 0.99, 1.01, 0.98, 1.0, 1.01, 0.99, 1.02, 1.0, 0.99, 1.01]


@pytest.mark.parametrize(
    ("name", "factor", "builds", "kind"),
    [
        (THROUGHPUT, 0.8, "a" * 12 + "b" * 5, "slower"),
        (THROUGHPUT, 1.25, "a" * 12 + "b" * 5, None),
        ("send.domu.p50_us", 1.2, "a" * 12 + "b" * 5, "slower"),
        ("send.domu.p50_us", 0.8, "a" * 12 + "b" * 5, None),
        (THROUGHPUT, 0.8, "a" * 17, "drift"),
        (THROUGHPUT, 1.0, "a" * 12 + "b" * 5, None),
    ],
)
def test_slower_is_less_of_the_one_and_more_of_the_other(
    name: str, factor: float, builds: str, kind: str | None
) -> None:
    values = [*_QUIET, *(factor * value for value in _QUIET[:5])]
    found = judge_metric(name, _points(values, builds))
    assert (found.kind if found else None) == kind
    if found is not None:
        assert found.since == "012"
        assert found.value is not None and abs(found.value - factor) < 0.03
        assert f"{100 * (factor - 1):+.0f} %" in found.text


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        ((0, 0, 0), None),
        ((0, 3, 0), None),
        ((0, 0, 1), ("2", "it said x", "b1", "b2")),
        ((0, 1, 4), ("1", "it said x (4 times)", "b0", "b1")),
        ((2, 2, 2), ("0", "it said x (2 times)", "", "b0")),
    ],
)
def test_a_symptom_is_told_since_when_it_is_there(
    counts: tuple[int, ...], found: tuple[str, str, str, str] | None
) -> None:
    nights = [SymptomCount(str(at), f"b{at}", n, "it said x") for at, n in enumerate(counts)]
    told = judge_symptom(nights)
    seen = told and (told.since, told.text, told.build_before, told.build_after)
    assert seen == found and (told is None or told.kind == "symptom")
