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
from harness.model.evtchn.abi import Errno
from harness.model.evtchn.releases import Release
from harness.stats import Interval
from harness.verdict import Verdict

Judgement = Literal["equivalent", "differs", "worse", "undecided"]

# That two shares of failures as unlike as these come from the same probability: below this
# they are told to differ.  Strict, for a compare looks at some 25 tests at once.
_SIGNIFICANCE = 0.002
# An answer that one side gave in every round, so many times in all, and the other never.
_MIN_ANSWERS = 20


@dataclass(frozen=True)
class Difference:
    """One thing in which the two are unlike."""

    what: str  # test, answers, throughput, latency, model, companion
    subject: str
    base: str
    candidate: str
    worse: bool
    explained: str = ""  # by the model, or what the failing test said


@dataclass(frozen=True)
class Ratio:
    """Candidate over base."""

    name: str
    ratio: Interval
    better: Literal["higher", "lower"]
    pairs: int
    decided: bool  # the interval is inside the margin, or outside
    pairs_needed: int | None = None  # for that, where it is not


@dataclass(frozen=True)
class Comparison:
    """What a comparison came to."""

    verdict: Judgement
    summary: str
    differences: tuple[Difference, ...]
    ratios: tuple[Ratio, ...]
    rounds: int
    rounds_needed: int | None  # to decide what is not; None: nothing is open, or nobody knows
    seconds_needed: float | None  # how much longer that is

    @property
    def settled(self) -> bool:
        """Whether more rounds like these would change nothing: it is worse, or nothing is open."""
        return self.verdict == "worse" or all(ratio.decided for ratio in self.ratios)


Pair = tuple[Measurement, Measurement]  # base, candidate: the same seed
Rounds = Sequence[Pair]


def judge(
    rounds: Rounds,
    *,
    margin: float,
    releases: tuple[Release, Release] | None = None,
    missing: tuple[Sequence[MissingCompanion], Sequence[MissingCompanion]] = ((), ()),
) -> Comparison:
    """Judge ``rounds``.  ``margin``: ratios closer to 1 than this are called the same.

    ``releases`` of the two, so that what the model says of them is told and explains what
    was seen; ``missing`` companions of the two.
    """
    ratios = _ratios(rounds, margin)
    predicted = _predicted(*releases) if releases else []
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
    """Return how often each test ended how, and how often each answer was given: two of each."""
    tests = {
        name: [
            dict(
                Counter(
                    t.verdict.value for pair in rounds for t in pair[side].tests if t.name == name
                )
            )
            for side in (0, 1)
        ]
        for name in dict.fromkeys(t.name for pair in rounds for run in pair for t in run.tests)
    }
    given = [sum((Counter(pair[side].answers) for pair in rounds), Counter()) for side in (0, 1)]
    answers = {name: [one[name] for one in given] for name in sorted({*given[0], *given[1]})}
    return {"tests": tests, "answers": answers}


def _seconds(rounds: Rounds) -> float:
    """Return what a round takes."""
    return statistics.fmean(pair[0].seconds + pair[1].seconds for pair in rounds)


def _tests(rounds: Rounds) -> list[Difference]:
    """Tests that fail more often on one side.

    The model allows no failure at all, so the first one of a test that the other side passes
    is enough; where both fail, chance must be ruled out.
    """
    found = []
    names = dict.fromkeys(test.name for pair in rounds for side in pair for test in side.tests)
    for name in names:
        counts = [_count([pair[side] for pair in rounds], name) for side in (0, 1)]
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
    """Return how often test ``name`` failed, how often it said anything, its first message."""
    told = [test for run in runs for test in run.tests if test.name == name]
    told = [test for test in told if test.verdict in (Verdict.PASS, Verdict.FAIL)]
    failed = [test for test in told if test.verdict is Verdict.FAIL]
    return len(failed), len(told), failed[0].message if failed else ""


def _answers(rounds: Rounds, explained: bool) -> list[Difference]:
    """Answers that only one side gives, in every round and often: no chance of a schedule."""
    whole = [pair for pair in rounds if pair[0].answers and pair[1].answers]
    found = []
    if any(side.failed for pair in whole for side in pair):
        told = "see the tests that failed"
    else:  # the checker has judged every one of them
        told = "see the model's differences" if explained else "the model allows both"
    totals = [sum((Counter(pair[side].answers) for pair in whole), Counter()) for side in (0, 1)]
    for answer in sorted(totals[0].keys() | totals[1].keys()):
        base, other = totals[0][answer], totals[1][answer]
        if base and other:
            continue
        giver = 0 if base else 1
        if base + other < _MIN_ANSWERS or not all(
            pair[giver].answers.get(answer) for pair in whole
        ):
            continue
        found.append(Difference("answers", answer, f"{base} times", f"{other} times", False, told))
    return found


def _predicted(base: Release, candidate: Release) -> list[Difference]:
    """What the model says to be different between two releases."""
    found = []
    for name, rule in vars(Release).items():
        if not isinstance(rule, property) or rule.fget is None:
            continue
        before, after = rule.fget(base), rule.fget(candidate)
        if before != after:
            words = (rule.__doc__ or name).strip().splitlines()[0]
            found.append(
                Difference("model", name, _value_text(before), _value_text(after), False, words)
            )
    return found


def _value_text(value: bool | Errno) -> str:
    if isinstance(value, Errno):
        return value.name
    return "yes" if value else "no"


def _missing(
    base: Sequence[MissingCompanion], candidate: Sequence[MissingCompanion]
) -> list[Difference]:
    """Companions that one side lacks; those that both lack are no difference of the two."""
    found = []
    for one in dict.fromkeys([*base, *candidate]):
        if one in base and one in candidate:
            continue
        lacks = f"{one.fix.commit} without {one.companion.commit}"
        was, now = (lacks if one in side else "whole" for side in (base, candidate))
        subject = f"{one.companion.commit} ({one.companion.what})"
        found.append(Difference("companion", subject, was, now, one in candidate, one.why))
    return found


def _ratios(rounds: Rounds, margin: float) -> list[Ratio]:
    """Speed, the middle of all latencies, their tails, and each operation's by itself."""
    whole = [pair for pair in rounds if pair[0].throughput and pair[1].throughput]
    if not whole:
        return []
    common = set.intersection(*(set(side.latency) for pair in whole for side in pair))
    found = [_ratio("throughput", whole, lambda run: run.throughput, "higher", margin)]
    if common:
        found.append(
            _ratio(
                "latency", whole, lambda run: _geometric_mean(run.latency, common), "lower", margin
            )
        )
    return found


def details(rounds: Rounds, margin: float) -> list[Ratio]:
    """Return the ratios that decide nothing: so many would show differences by chance alone."""
    whole = [pair for pair in rounds if pair[0].throughput and pair[1].throughput]
    if not whole:
        return []
    common = set.intersection(*(set(side.latency) for pair in whole for side in pair))
    found = []
    if common:
        found.append(
            _ratio(
                "tail latency",
                whole,
                lambda run: _geometric_mean(run.tail, common),
                "lower",
                margin,
            )
        )
    for op in sorted(common):
        found.append(
            _ratio(f"latency of {op}", whole, lambda run, op=op: run.latency[op], "lower", margin)  # type: ignore[misc]
        )
    return found


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
    seen = stats.ratio(base, candidate)
    low, high = 1 / (1 + margin), 1 + margin
    decided = seen.within(low, high) or seen.high < low or seen.low > high
    needed = None if decided else stats.pairs_needed(base, candidate, margin)
    return Ratio(name, seen, better, len(rounds), decided, needed)


def _slower(ratio: Ratio, margin: float) -> Difference | None:
    seen = ratio.ratio
    if not ratio.decided or seen.within(1 / (1 + margin), 1 + margin):
        return None
    worse = (seen.estimate < 1) is (ratio.better == "higher")
    return Difference(ratio.name, ratio.name, "1", _times(seen), worse)


def _times(seen: Interval) -> str:
    return f"{seen.estimate:.3f} ({seen.low:.3f} to {seen.high:.3f})"


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
