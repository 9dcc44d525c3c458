# SPDX-License-Identifier: GPL-2.0-or-later
"""Has a figure changed permanently?  Change points in a series with one value a night.

A change must pass three tests, because each of them alone would report things that happen in
every lab:

- *rank*: the values before and after hardly overlap.  This is Mann and Whitney's U test with
  its exact distribution, at every possible place of the change.  The distribution of the noise
  does not matter: a night that is ten times slower only has the last rank.
- *noise*: the shift is many times its own standard error.  Ranks alone find levels in noise
  that drifts slowly.
- *size*: the shift is large enough to matter.

A search at many places finds something even in pure noise, so the significance level is
corrected.  Where only few nights had a new hypervisor, only these places are tested, and the
level is divided by their number; otherwise the best place is compared with the best places of
shuffled series.  A change at a place where the hypervisor was the same is due to the machine.

Several changes are found by a search in the parts before and after the first one (binary
segmentation).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[np.float64]

WINDOW = 60  # only the last nights count, this many
FEWEST = 3  # nights that make a level: two slow ones can be one bad weekend
SMALLEST = 0.05  # shift that is reported, as a share of the level before
LEVEL = 0.01  # significance level of the rank test
NOISE = 4.5  # shift over its own standard error; docs/nightly.md shows the error rates
_NEAR = 1  # nights between the best place and the new hypervisor that caused the change
_HIDING = 18  # values in which a change and its end can hide each other: three levels of six
_SHUFFLES = 20_000
_SEED = 20201012  # fixed, so that the null distribution is the same everywhere


@dataclass(frozen=True)
class Change:
    """One change of level."""

    at: int  # index of the first value on the new level
    ratio: float  # new level over the old one
    low: float  # 95 % interval of the ratio
    high: float
    same_build: bool  # the hypervisor is the same before and after: the machine changed


def changes(values: Sequence[float], builds: Sequence[str]) -> list[Change]:
    """Return the changes of level in ``values`` (positive; oldest first), oldest first.

    ``builds`` has, for each value, the build of the hypervisor.  Only the last WINDOW values
    count.  A ratio is of the medians of two levels; a level ends at the next change.
    """
    skipped = max(0, len(values) - WINDOW)
    logs = np.log(np.asarray(values[skipped:], dtype=np.float64))
    names = list(builds[skipped:])
    is_new = np.array([True, *(a != b for a, b in itertools.pairwise(names))])
    cuts = _segment(logs, is_new, 0)
    edges = [0, *cuts, len(logs)]
    found = []
    for before, at, after in zip(edges, edges[1:], edges[2:], strict=False):
        shift, error = _shift(logs[before:at], logs[at:after])
        low, high = math.exp(shift - 1.96 * error), math.exp(shift + 1.96 * error)
        found.append(Change(at + skipped, math.exp(shift), low, high, not is_new[at]))
    return found


def _segment(logs: _Array, is_new: npt.NDArray[np.bool_], offset: int) -> list[int]:
    """Return where ``logs``, whose first index is ``offset``, changes its level."""
    count = len(logs)
    at = _best(logs, is_new)
    if at is None and count >= _HIDING:  # down and up again: no single place separates the levels
        third = count // 3
        at = _best(logs[: count - third], is_new[: count - third])
        if at is None and (later := _best(logs[third:], is_new[third:])) is not None:
            at = third + later
    if at is None:
        return []
    left = _segment(logs[:at], is_new[:at], offset)
    right = _segment(logs[at:], is_new[at:], offset + at)
    return [*left, offset + at, *right]


def _best(logs: _Array, is_new: npt.NDArray[np.bool_]) -> int | None:
    """Return the index of the most significant change in ``logs``; None if there is none."""
    count = len(logs)
    if count < 2 * FEWEST:
        return None
    last = count - FEWEST
    scores = np.full(count, -1.0)  # no change can be near an end
    scores[FEWEST : last + 1] = _scores(_ranks(logs)[np.newaxis])[0]
    anywhere = _critical(count)
    there = min(math.log(max(1, int(is_new[FEWEST : last + 1].sum())) / LEVEL), anywhere)
    if scores.max() <= there:
        return None
    costs = _costs(logs)
    best = FEWEST + int(costs[FEWEST : last + 1].argmin())
    if best == last and costs[last + 1 :].min() < costs[last]:
        return None  # the new level has too few nights yet: an old night would be counted to it
    near = slice(max(FEWEST, best - _NEAR), best + _NEAR + 1)
    due = np.where(is_new[near], scores[near], -1.0)
    if due.max() > there:
        at = near.start + int(due.argmax())
    elif scores.max() > anywhere:  # where two levels fit best, if outliers do not decide that
        at = best if scores[best] > anywhere else int(scores.argmax())
    else:
        return None
    shift, error = _shift(logs[:at], logs[at:])
    is_clear = abs(shift) >= math.log1p(SMALLEST) and abs(shift) >= NOISE * error
    return at if is_clear else None


def _costs(logs: _Array) -> _Array:
    """Return, for each place, the sum of the distances of all values from the medians of the two
    levels that a change at this place makes.

    Ranks show well whether there is a change, but badly where: a night that is a little slow by
    chance counts as much as one that is a fifth slower.
    """
    costs = np.full(len(logs), np.inf)
    for place in range(1, len(logs)):
        parts = logs[:place], logs[place:]
        costs[place] = sum(float(np.abs(part - np.median(part)).sum()) for part in parts)
    return costs


def _shift(old: _Array, new: _Array) -> tuple[float, float]:
    """Return the shift of the median from ``old`` to ``new``, and its standard error.

    The noise is the larger of two estimates: from the distances of the values from the median of
    their level, and from the distances between neighbours.  With few values one of them is
    easily too small by chance.  Both are median absolute deviations, scaled as for a normal
    distribution; the standard error of a median is 1.25 times that of a mean.
    """
    levels = float(np.median(old)), float(np.median(new))
    apart = np.abs(np.concatenate([old - levels[0], new - levels[1]]))
    steps = np.abs(np.concatenate([np.diff(old), np.diff(new)])) / math.sqrt(2)
    spare = len(apart) / (len(apart) - 2)  # two levels were fitted
    noise = 1.4826 * max(float(np.median(apart)) * spare, float(np.median(steps)))
    error = 1.2533 * noise * math.sqrt(1 / len(old) + 1 / len(new))
    return levels[1] - levels[0], error


def _ranks(values: _Array) -> npt.NDArray[np.int64]:
    """Return twice the ranks, from 0 (twice, because the ranks of equal values are halves)."""
    ordered = np.sort(values)
    below = np.searchsorted(ordered, values, side="left")
    up_to = np.searchsorted(ordered, values, side="right")
    return np.asarray(below + up_to - 1, dtype=np.int64)


def _scores(ranks: npt.NDArray[np.int64]) -> _Array:
    """Return, for each row of (doubled) ranks and each possible place of a change, minus the
    logarithm of the exact two-sided p value of U."""
    count = ranks.shape[1]
    places = np.arange(FEWEST, count - FEWEST + 1)
    sums = np.cumsum(ranks, axis=1)[:, places - 1]
    doubled = sums - places * (places - 1)  # twice U of the values before the place
    most = 2 * places * (count - places)
    extreme = np.minimum(doubled, most - doubled)
    tails = _tails(count)
    # A half is rounded to the less extreme side, so that ties never make a finding.
    return np.asarray(tails[places - FEWEST, (extreme + 1) // 2], dtype=np.float64)


@cache
def _tails(count: int) -> _Array:
    """Return minus the logarithm of 2 P(U <= u), by place and u."""
    places = range(FEWEST, count - FEWEST + 1)
    widest = max(place * (count - place) for place in places)
    table = np.zeros((len(places), widest + 1))
    for place in places:
        ways = _ways(place, count - place)
        tail = np.cumsum(ways) / ways.sum()
        table[place - FEWEST, : len(tail)] = -np.log(np.minimum(1.0, 2 * tail))
    return table


@cache
def _ways(first: int, second: int) -> _Array:
    """Return, for each U, how many choices of ``first`` of ``first + second`` ranks give it: the
    coefficients of the Gaussian binomial, computed factor by factor."""
    length = first * second + 1
    ways = np.zeros(length)
    ways[0] = 1.0
    for factor in range(1, first + 1):
        up, down = second + factor, factor
        ways[up:] = ways[up:] - ways[: length - up] if up < length else ways[up:]
        for index in range(down, length):
            ways[index] += ways[index - down]
    return ways


@cache
def _critical(count: int) -> float:
    """Return the score that the best place of shuffled values exceeds with probability LEVEL."""
    shuffle = np.random.default_rng([_SEED, count])
    ranks = 2 * np.argsort(shuffle.random((_SHUFFLES, count)), axis=1)
    return float(np.quantile(_scores(ranks).max(axis=1), 1 - LEVEL))
