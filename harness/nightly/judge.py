"""What is new since the nights before: newly failing, flaky, fixed, slower.

Pure functions over the store's history; ``find`` may be called again at any time and says
the same.  Only PASS and FAIL teach something: nights on which the lab failed are not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.evidence.identity import Identity
from harness.nightly.changepoint import Change, changes
from harness.nightly.outcome import THROUGHPUT
from harness.stats import share

Kind = Literal["failing", "flaky", "fixed", "slower", "drift"]

# What goes on although nothing should be left of it: chance below which it is over.
_OVER = 0.05


@dataclass(frozen=True)
class TestOutcome:
    """One taught outcome of one test."""

    night: str
    build: str
    failed: bool
    message: str = ""
    failure: Identity | None = None  # which one; None: an older harness kept no evidence


@dataclass(frozen=True)
class MetricPoint:
    """One value of a metric."""

    night: str
    build: str
    value: float


@dataclass(frozen=True)
class Judgement:
    """One finding about one test or metric.

    ``low``, ``value``, ``high`` are a flake's rate, or new level over old, with a 95 %
    interval; ``drift`` is a slow-down with the same hypervisor before and after.
    """

    kind: Kind
    since: str  # night
    text: str
    build_before: str = ""
    build_after: str = ""
    low: float | None = None
    value: float | None = None
    high: float | None = None
    another: bool = False  # it fails in a way that no night before had seen


def judge_test(tries: Sequence[TestOutcome], tonight: str) -> Judgement | None:
    """Return what the outcomes of one test, oldest first, say as of night ``tonight``.

    It is *flaky* when it failed, passed, and one build did both or it failed once more; until
    so many in a row agree that chance cannot explain them.  Else *failing* while the last
    one failed, and *fixed* on the night when that ended.
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


def _is_another(tries: Sequence[TestOutcome], tonight: str) -> bool:
    """Return whether the last failure is one that no night before ``tonight`` had seen, though
    they had seen others; of those that are not known any may be the same."""
    before = {one.failure for one in tries if one.failed and one.night != tonight}
    return bool(before) and None not in before and tries[-1].failure not in {None, *before}


def _tail(tries: Sequence[TestOutcome]) -> int:
    """Return how many at the end have the same outcome."""
    count = 0
    for one in reversed(tries):
        if one.failed is not tries[-1].failed:
            break
        count += 1
    return count


def _is_mixed(tries: Sequence[TestOutcome]) -> bool:
    """Return whether it failed, then passed, and that was no bug that came and was mended."""
    first = next((index for index, one in enumerate(tries) if one.failed), len(tries))
    after = tries[first:]
    passes = [one for one in after if not one.failed]
    if not passes:
        return False
    broken = {one.build for one in tries if one.failed}
    failed_again = any(one.failed for one in after[after.index(passes[0]) :])
    return failed_again or any(one.build in broken for one in passes)


def _is_over(earlier: Sequence[TestOutcome], tail: int, failed: bool) -> bool:
    """Return whether ``tail`` equal outcomes are too many for the flake that was before them."""
    fails = sum(one.failed for one in earlier)
    rate = (fails + 1) / (len(earlier) + 2)  # Laplace: neither never nor always
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
        history += "; it failed otherwise until now"
    text = f"{said.message} ({history})"
    return Judgement("failing", first.night, text, before[-1].build if before else "", first.build)


def _fixed(tries: Sequence[TestOutcome], tail: int) -> Judgement:
    bad, first = tries[-tail - 1], tries[-tail]
    text = f"passes again; it had failed: {bad.message}"
    return Judgement("fixed", first.night, text, bad.build, first.build)


def judge_metric(name: str, points: Sequence[MetricPoint]) -> Judgement | None:
    """Return whether metric ``name``, oldest value first, is on a worse level than before."""
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
