# SPDX-License-Identifier: GPL-2.0-or-later
"""Judge the series of one test, metric or symptom: failing, flaky, fixed, slower.

Pure functions, so that they can be repeated at any time with the same result.  Only outcomes
PASS and FAIL are in a series; nights on which the lab failed are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.evidence.identity import Identity
from harness.nightly.changepoint import Change, changes
from harness.nightly.outcome import THROUGHPUT
from harness.stats import share

Kind = Literal["failing", "flaky", "fixed", "slower", "drift", "symptom"]

# A flake is over once so many equal outcomes in a row have less than this probability.
_OVER = 0.05


@dataclass(frozen=True)
class TestOutcome:
    """One outcome, PASS or FAIL, of one test."""

    __test__ = False  # pytest: this is a value, not a test class
    night: str
    build: str
    failed: bool
    message: str = ""
    failure: Identity | None = None  # of a FAIL; None: an older harness kept no evidence


@dataclass(frozen=True)
class MetricPoint:
    """One value of a metric."""

    night: str
    build: str
    value: float


@dataclass(frozen=True)
class Judgement:
    """The judgement on the series of one test or metric.

    ``value`` is the failure rate of a flaky test, or the new level over the old one; ``low`` and
    ``high`` are its 95 % interval.  ``drift`` is a slow-down although the hypervisor is the same.
    """

    kind: Kind
    since: str  # night
    text: str
    build_before: str = ""
    build_after: str = ""
    low: float | None = None
    value: float | None = None
    high: float | None = None
    another: bool = False  # the failure is none of those of the nights before


def judge_test(tries: Sequence[TestOutcome], tonight: str) -> Judgement | None:
    """Return the judgement on the outcomes of one test, oldest first, as of night ``tonight``.

    The test is *flaky* if it failed and then passed, and either one build did both, or it failed
    again.  It is no longer flaky once the last outcomes are equal so often that the old flake is
    an unlikely explanation.  If not flaky, it is *failing* if the last outcome is FAIL, and
    *fixed* on the first night of passes after that.
    """
    fails = [index for index, one in enumerate(tries) if one.failed]
    if not fails:
        return None
    last = tries[-1]
    tail = _tail(tries)
    earlier = tries[: len(tries) - tail]
    another = last.failed and _is_another(tries, tonight)
    if _is_mixed(tries) and not _is_over(earlier, tail, last.failed):
        return replace(_flaky(tries, fails), another=another)
    if last.failed:
        return replace(_failing(tries, tail, another), another=another)
    is_tonights = tail == sum(1 for one in tries if one.night == tonight)
    if is_tonights and not _is_mixed(tries):
        return _fixed(tries, tail)
    return None


@dataclass(frozen=True)
class SymptomCount:
    """How often the consoles of one night's run reported a symptom; ``text``: how at first."""

    night: str
    build: str
    count: int  # 0: not at all
    text: str = ""


def judge_symptom(nights: Sequence[SymptomCount]) -> Judgement | None:
    """Return the judgement on one symptom, oldest night first; None if the last has none of it."""
    if not nights or not nights[-1].count:
        return None
    clean = max((at for at, one in enumerate(nights) if not one.count), default=-1)
    first, last = nights[clean + 1], nights[-1]
    times = f" ({last.count} times)" if last.count > 1 else ""
    before = nights[clean].build if clean >= 0 else ""
    return Judgement("symptom", first.night, f"{last.text}{times}", before, first.build)


def _is_another(tries: Sequence[TestOutcome], tonight: str) -> bool:
    """Return whether the last failure differs from all failures of the nights before ``tonight``.

    False if there were none, or if one of them is not known: it may be the same.
    """
    before = {one.failure for one in tries if one.failed and one.night != tonight}
    return bool(before) and None not in before and tries[-1].failure not in {None, *before}


def _tail(tries: Sequence[TestOutcome]) -> int:
    """Return how many outcomes at the end are equal."""
    count = 0
    for one in reversed(tries):
        if one.failed is not tries[-1].failed:
            break
        count += 1
    return count


def _is_mixed(tries: Sequence[TestOutcome]) -> bool:
    """Return whether the test failed and then passed, and a bug that was fixed does not explain
    that."""
    first = next((index for index, one in enumerate(tries) if one.failed), len(tries))
    after = tries[first:]
    passes = [one for one in after if not one.failed]
    if not passes:
        return False
    broken = {one.build for one in tries if one.failed}
    failed_again = any(one.failed for one in after[after.index(passes[0]) :])
    return failed_again or any(one.build in broken for one in passes)


def _is_over(earlier: Sequence[TestOutcome], tail: int, failed: bool) -> bool:
    """Return whether a flake with the failure rate of ``earlier`` is unlikely to give ``tail``
    equal outcomes."""
    fails = sum(one.failed for one in earlier)
    rate = (fails + 1) / (len(earlier) + 2)  # Laplace's rule: never 0 and never 1
    return (rate if failed else 1 - rate) ** tail < _OVER


def _flaky(tries: Sequence[TestOutcome], fails: Sequence[int]) -> Judgement:
    low, high = share(len(fails), len(tries))
    value = len(fails) / len(tries)
    text = (
        f"failed {len(fails)} of {len(tries)} times: {100 * value:.0f} % "
        f"[{100 * low:.0f}, {100 * high:.0f}]; last: {tries[fails[-1]].message}"
    )
    first = tries[fails[0]]
    return Judgement("flaky", first.night, text, "", first.build, low, value, high)


def _failing(tries: Sequence[TestOutcome], tail: int, another: bool) -> Judgement:
    first = tries[-tail]
    said = tries[-1] if another else first
    before = tries[:-tail]
    history = f"passed before, last on {before[-1].night}" if before else "never seen to pass"
    if before and before[-1].build == first.build:
        history += " with the same build"
    if another:
        history += "; it failed in another way until now"
    text = f"{said.message} ({history})"
    return Judgement("failing", first.night, text, before[-1].build if before else "", first.build)


def _fixed(tries: Sequence[TestOutcome], tail: int) -> Judgement:
    bad, first = tries[-tail - 1], tries[-tail]
    text = f"passes again; it had failed: {bad.message}"
    return Judgement("fixed", first.night, text, bad.build, first.build)


def judge_metric(name: str, points: Sequence[MetricPoint]) -> Judgement | None:
    """Return the judgement on metric ``name``, oldest value first; None unless its last change of
    level was for the worse."""
    found = changes([point.value for point in points], [point.build for point in points])
    if not found:
        return None
    last = found[-1]
    if (last.ratio < 1) is not (name == THROUGHPUT):
        return None
    before, after = points[last.at - 1], points[last.at]
    kind: Kind = "drift" if last.same_build else "slower"
    text = _change(last)
    return Judgement(
        kind, after.night, text, before.build, after.build, last.low, last.ratio, last.high
    )


def _change(change: Change) -> str:
    low, value, high = (100 * (ratio - 1) for ratio in (change.low, change.ratio, change.high))
    return f"{value:+.0f} % [{low:+.0f}, {high:+.0f}]"
