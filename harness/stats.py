# SPDX-License-Identifier: GPL-2.0-or-later
"""Statistics: intervals of shares and of ratios, and how many measurements are still needed."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval (CONFIDENCE)."""

    estimate: float
    low: float
    high: float

    def within(self, low: float, high: float) -> bool:
        """Return whether the whole interval lies between ``low`` and ``high``."""
        return low <= self.low and self.high <= high


def share(hits: int, tries: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a probability from ``hits`` in ``tries``.

    E. B. Wilson, Probable inference, J. Am. Stat. Assoc. 22 (1927): it stays
    inside 0..1.  For 10 of 10 the normal approximation would give the interval 1..1.
    """
    if tries == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    part, weight = hits / tries, z * z / tries
    middle = (part + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(part * (1 - part) / tries + weight / (4 * tries))
    return round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)


def ratio(base: Sequence[float], candidate: Sequence[float]) -> Interval:
    """Return the ratio candidate/base of measured pairs: geometric mean and t interval.

    Pairs, because a computer that others also use is slower at times: this slows both values of a
    pair, so their ratio stays.  Logarithms, because then twice as slow and twice as fast have the
    same distance from 1.  One pair does not show the spread: its interval is 0..infinity.
    ValueError unless both sequences have the same length, at least 1, and all values are above 0.
    """
    if len(base) != len(candidate) or not base:
        raise ValueError("a ratio needs pairs of values")
    if min(*base, *candidate) <= 0:
        raise ValueError("a ratio needs values above zero")
    logs = np.log(np.asarray(candidate, np.float64) / np.asarray(base, np.float64))
    middle = float(logs.mean())
    half = _half_width(float(logs.std(ddof=1)), len(logs)) if len(logs) > 1 else math.inf
    high = math.exp(middle + half) if half < 700 else math.inf
    return Interval(math.exp(middle), math.exp(middle - half), high)


def pairs_needed(base: Sequence[float], candidate: Sequence[float], margin: float) -> int | None:
    """Return how many pairs are needed until the interval of ``ratio`` gives a decision.

    It does if it lies completely inside or completely outside 1/(1+margin) .. 1+margin.  The
    calculation assumes that the spread stays as it is so far.  None with fewer than two pairs, or
    if the ratio is so close to the margin that a thousand pairs would not be enough.
    """
    if len(base) < 2:
        return None
    seen = ratio(base, candidate)
    logs = np.log(np.asarray(candidate, np.float64) / np.asarray(base, np.float64))
    spread = float(logs.std(ddof=1))
    room = abs(math.log(1 + margin) - abs(math.log(seen.estimate)))
    wanted = (n for n in range(len(base), 1000) if _half_width(spread, n) <= room)
    return next(wanted, None)


def differs(hits: int, tries: int, other_hits: int, other_tries: int) -> float:
    """Return Fisher's exact two-sided p value: the probability that two shares differ at least
    so much although the probability behind both is the same."""
    from scipy.stats import fisher_exact  # slow to import, seldom needed

    table = [[hits, tries - hits], [other_hits, other_tries - other_hits]]
    return float(fisher_exact(table).pvalue)


def _half_width(spread: float, count: int) -> float:
    return _quantile(count - 1) * spread / math.sqrt(count)


@functools.cache
def _quantile(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, freedom))
