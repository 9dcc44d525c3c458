# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict on two hypervisors: equivalent, differs, worse, or undecided."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness import stats
from harness.compare.companions import MissingCompanion
from harness.compare.measure import Measurement
from harness.model.evtchn.changed_rules import TABLE
from harness.model.evtchn.rules import Rules
from harness.stats import Interval
from harness.verdict import Verdict

Judgement = Literal["equivalent", "differs", "worse", "undecided"]

# Two shares of failures differ if the p value is below this.  Strict, because a comparison looks
# at some 25 tests at once.
_SIGNIFICANCE = 0.002
# An answer that only one of the two gives counts if it was given this many times in all.
_MIN_ANSWERS = 20


@dataclass(frozen=True)
class Difference:
    """One difference between the two variants."""

    what: str  # test, answers, throughput, latency, model, companion
    subject: str
    base: str
    candidate: str
    worse: bool
    explained: str = ""  # why: the rule of the model, or the message of the failed test


@dataclass(frozen=True)
class Ratio:
    """A figure of the candidate, divided by that of the base."""

    name: str
    ratio: Interval
    better: Literal["higher", "lower"]
    pairs: int
    decided: bool  # the complete interval is inside the margin, or outside
    pairs_needed: int | None = None  # to decide it; None: decided, or nobody can say


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison."""

    verdict: Judgement
    summary: str
    differences: tuple[Difference, ...]
    ratios: tuple[Ratio, ...]
    rounds: int
    rounds_needed: int | None  # to decide all ratios; None: they are, or nobody can say
    seconds_needed: float | None  # that these take in addition

    @property
    def settled(self) -> bool:
        """Whether more rounds like these would not change the verdict."""
        return self.verdict == "worse" or all(ratio.decided for ratio in self.ratios)


Pair = tuple[Measurement, Measurement]  # base and candidate, run with the same seed
Rounds = Sequence[Pair]


def judge(
    rounds: Rounds,
    *,
    margin: float,
    rules: tuple[Rules, Rules] | None = None,
    missing: tuple[Sequence[MissingCompanion], Sequence[MissingCompanion]] = ((), ()),
) -> Comparison:
    """Return the verdict on ``rounds``.

    A ratio that differs from 1 by less than ``margin`` counts as the same.  With the
    ``rules`` of the two variants, the differences that the model knows between them are
    listed, too, and explain other answers.  ``missing`` are the companions that each lacks.
    """
    ratios = _ratios(rounds, margin)
    predicted = _predicted(*rules) if rules else []
    differences = [
        *_tests(rounds),
        *_answers(rounds, bool(predicted)),
        *predicted,
        *_missing(*missing),
        *(found for found in (_slower(ratio, margin) for ratio in ratios) if found),
    ]
    worse = [one for one in differences if one.worse]
    undecided = [ratio for ratio in ratios if not ratio.decided]
    if worse:
        verdict: Judgement = "worse"
    elif differences:
        verdict = "differs"
    elif undecided or not ratios:
        verdict = "undecided"
    else:
        verdict = "equivalent"
    needed = [ratio.pairs_needed for ratio in undecided]
    known = [count for count in needed if count is not None]
    more = max(known) if known and len(known) == len(needed) else None
    longer = None if more is None else (more - len(rounds)) * _seconds(rounds)
    summary = _summary(verdict, worse or differences, undecided, longer, len(rounds), margin)
    return Comparison(
        verdict, summary, tuple(differences), tuple(ratios), len(rounds), more, longer
    )


def outcomes(rounds: Rounds) -> dict[str, dict[str, Any]]:
    """Return, for base and candidate, how often each test had each verdict, and how often Xen
    gave each answer."""
    tests = {
        name: [
            dict(
                Counter(
                    t.verdict.value for pair in rounds for t in pair[number].tests if t.name == name
                )
            )
            for number in (0, 1)
        ]
        for name in dict.fromkeys(t.name for pair in rounds for run in pair for t in run.tests)
    }
    given = [
        sum((Counter(pair[number].answers) for pair in rounds), Counter()) for number in (0, 1)
    ]
    answers = {name: [one[name] for one in given] for name in sorted({*given[0], *given[1]})}
    return {"tests": tests, "answers": answers}


def _seconds(rounds: Rounds) -> float:
    """Return how long a round takes, on average."""
    return statistics.fmean(pair[0].seconds + pair[1].seconds for pair in rounds)


def _tests(rounds: Rounds) -> list[Difference]:
    """Return the tests that fail more often with one variant.

    No test may fail at all, so one failure is enough if the other variant always passes.  If
    both fail, the difference must be significant.
    """
    found = []
    names = dict.fromkeys(test.name for pair in rounds for run in pair for test in run.tests)
    for name in names:
        counts = [_count([pair[number] for pair in rounds], name) for number in (0, 1)]
        (base, base_of, _), (other, other_of, message) = counts
        if not base_of or not other_of or not (base or other):
            continue
        if base and other and stats.differs(base, base_of, other, other_of) > _SIGNIFICANCE:
            continue
        worse = other / other_of > base / base_of
        why = message if worse else counts[0][2]
        found.append(
            Difference(
                "test",
                name,
                f"fails {base} of {base_of}",
                f"fails {other} of {other_of}",
                worse,
                why,
            )
        )
    return found


def _count(runs: Sequence[Measurement], name: str) -> tuple[int, int, str]:
    """Return how often test ``name`` failed, how often it passed or failed, and the message of
    its first failure."""
    tests = [test for run in runs for test in run.tests if test.name == name]
    passed = sum(test.verdict is Verdict.PASS for test in tests)
    failed = [test for test in tests if test.verdict is Verdict.FAIL]
    return len(failed), passed + len(failed), failed[0].message if failed else ""


def _answers(rounds: Rounds, explained: bool) -> list[Difference]:
    """Return the answers that only one variant gives, in every round and often: then it is not
    chance, as with an answer that depends on a schedule."""
    complete = [pair for pair in rounds if pair[0].answers and pair[1].answers]
    found = []
    if any(run.failed for pair in complete for run in pair):
        why = "see the tests that failed"
    else:  # the checker has found each of these answers allowed
        why = "see the model's differences" if explained else "the model allows both"
    totals = [
        sum((Counter(pair[number].answers) for pair in complete), Counter()) for number in (0, 1)
    ]
    for answer in sorted(totals[0].keys() | totals[1].keys()):
        base, other = totals[0][answer], totals[1][answer]
        if base and other:
            continue
        giver = 0 if base else 1
        if base + other < _MIN_ANSWERS or not all(
            pair[giver].answers.get(answer) for pair in complete
        ):
            continue
        found.append(Difference("answers", answer, f"{base} times", f"{other} times", False, why))
    return found


def _predicted(base: Rules, candidate: Rules) -> list[Difference]:
    """Return the differences that the model knows between two trees."""
    found = []
    for each in TABLE:
        before, after = base.holds(each.rule), candidate.holds(each.rule)
        if each.rows and before != after:
            was, now = each.words[before], each.words[after]
            found.append(Difference("model", each.rule, was, now, False, each.says))
    return found


def _missing(
    base: Sequence[MissingCompanion], candidate: Sequence[MissingCompanion]
) -> list[Difference]:
    """Return the companions that only one of the two lacks."""
    found = []
    for one in dict.fromkeys([*base, *candidate]):
        if one in base and one in candidate:
            continue
        lacks = f"{one.fix.commit} without {one.companion.commit}"
        was, now = (lacks if one in those else "whole" for those in (base, candidate))
        subject = f"{one.companion.commit} ({one.companion.what})"
        found.append(Difference("companion", subject, was, now, one in candidate, one.why))
    return found


def _ratios(rounds: Rounds, margin: float) -> list[Ratio]:
    """Return the ratios that decide: throughput, and the mean latency of all operations."""
    complete = [pair for pair in rounds if pair[0].throughput and pair[1].throughput]
    if not complete:
        return []
    common = set.intersection(*(set(run.latency) for pair in complete for run in pair))
    found = [_ratio("throughput", complete, lambda run: run.throughput, "higher", margin)]
    if common:
        found.append(
            _ratio(
                "latency",
                complete,
                lambda run: _geometric_mean(run.latency, common),
                "lower",
                margin,
            )
        )
    return found


def details(rounds: Rounds, margin: float) -> list[Ratio]:
    """Return the ratios that do not decide: tail latency, and the latency of each operation.

    They are so many that some would differ by chance alone.
    """
    complete = [pair for pair in rounds if pair[0].throughput and pair[1].throughput]
    if not complete:
        return []
    common = set.intersection(*(set(run.latency) for pair in complete for run in pair))
    found = []
    if common:
        found.append(
            _ratio(
                "tail latency",
                complete,
                lambda run: _geometric_mean(run.tail, common),
                "lower",
                margin,
            )
        )
    for op in sorted(common):
        latency = _of_operation(op)
        found.append(_ratio(f"latency of {op}", complete, latency, "lower", margin))
    return found


def _of_operation(op: str) -> Callable[[Measurement], float]:
    return lambda run: run.latency[op]


def _geometric_mean(values: Mapping[str, float], names: set[str]) -> float:
    return math.exp(statistics.fmean(math.log(values[name]) for name in names))


def _ratio(
    name: str,
    rounds: Rounds,
    of: Callable[[Measurement], float],
    better: Literal["higher", "lower"],
    margin: float,
) -> Ratio:
    base, candidate = [of(pair[0]) for pair in rounds], [of(pair[1]) for pair in rounds]
    interval = stats.ratio(base, candidate)
    low, high = 1 / (1 + margin), 1 + margin
    decided = interval.within(low, high) or interval.high < low or interval.low > high
    needed = None if decided else stats.pairs_needed(base, candidate, margin)
    return Ratio(name, interval, better, len(rounds), decided, needed)


def _slower(ratio: Ratio, margin: float) -> Difference | None:
    interval = ratio.ratio
    if not ratio.decided or interval.within(1 / (1 + margin), 1 + margin):
        return None
    worse = (interval.estimate < 1) is (ratio.better == "higher")
    return Difference(ratio.name, ratio.name, "1", _times(interval), worse)


def _times(interval: Interval) -> str:
    return f"{interval.estimate:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _summary(
    verdict: Judgement,
    differences: Sequence[Difference],
    undecided: Sequence[Ratio],
    longer: float | None,
    rounds: int,
    margin: float,
) -> str:
    if verdict == "equivalent":
        return (
            f"no difference in {rounds} rounds; speed and latency are the same within {margin:.0%}"
        )
    if verdict == "undecided":
        if not undecided:
            return "undecided: nothing was measured"
        names = " and ".join(ratio.name for ratio in undecided)
        if longer is None and rounds > 1:
            return f"undecided: {names}; too close to a difference of {margin:.0%} to tell"
        if longer is None:
            return f"undecided: {names}; more rounds are needed to say how many"
        return f"undecided: {names}; about {longer / 60:.0f} min more would tell"
    first = differences[0]
    rest = f", and {len(differences) - 1} more" if len(differences) > 1 else ""
    why = f": {first.explained}" if first.explained else ""
    return (
        f"{verdict}: {first.what} {first.subject}: {first.candidate}, was {first.base}{why}{rest}"
    )
