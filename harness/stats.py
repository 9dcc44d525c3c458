"""Numbers with their uncertainty: shares, ratios, and how much longer to measure."""

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
    """An estimate and the interval that holds the truth with CONFIDENCE."""

    estimate: float
    low: float
    high: float

    def within(self, low: float, high: float) -> bool:
        """Say whether the whole interval lies between ``low`` and ``high``."""
        return low <= self.low and self.high <= high


def share(hits: int, tries: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a probability from ``hits`` in ``tries``.

    E. B. Wilson, Probable inference, J. Am. Stat. Assoc. 22 (1927): it stays inside 0..1 and
    says something sensible for 10 of 10, where the normal approximation says "certain".
    """
    if tries == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    part, weight = hits / tries, z * z / tries
    middle = (part + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(part * (1 - part) / tries + weight / (4 * tries))
    return round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)


def ratio(base: Sequence[float], candidate: Sequence[float]) -> Interval:
    """Return candidate over base from pairs measured side by side: geometric mean and t interval.

    Pairs, because a machine that others share is slower at times: that hits both of a pair and
    cancels.  Logarithms, because twice as slow and twice as fast are equally far from "the
    same".  One pair says nothing of the spread: its interval is 0..infinity.  ValueError
    unless both have as many numbers, at least one, all above zero.
    """
    if len(base) != len(candidate) or not base:
        raise ValueError("a ratio wants pairs")
    if min(*base, *candidate) <= 0:
        raise ValueError("a ratio wants numbers above zero")
    logs = np.log(np.asarray(candidate, np.float64) / np.asarray(base, np.float64))
    middle = float(logs.mean())
    half = _half_width(float(logs.std(ddof=1)), len(logs)) if len(logs) > 1 else math.inf
    high = math.exp(middle + half) if half < 700 else math.inf
    return Interval(math.exp(middle), math.exp(middle - half), high)


def pairs_needed(base: Sequence[float], candidate: Sequence[float], margin: float) -> int | None:
    """Return how many pairs would make the interval of ``ratio`` narrow enough to be decided.

    Decided means that it lies inside 1/(1+margin) .. 1+margin, or outside.  The spread seen
    so far is taken for the truth.  None with fewer than two pairs, or if the ratio lies so
    close to the margin that no number of pairs below a thousand would do.
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
    """Return Fisher's exact two-sided p value: how surprising it is that two shares so unlike
    each other have the same probability behind them."""
    from scipy.stats import fisher_exact  # slow to import, seldom needed

    table = [[hits, tries - hits], [other_hits, other_tries - other_hits]]
    return float(fisher_exact(table).pvalue)


def _half_width(spread: float, count: int) -> float:
    return _quantile(count - 1) * spread / math.sqrt(count)


@functools.cache
def _quantile(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, freedom))
