# SPDX-License-Identifier: GPL-2.0-or-later
"""``bench changes``: how often the search for changes of level finds a change, and how often it
reports one that is not there, in several kinds of noise.  As in a nightly, the search is repeated
on every night of a series."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from harness.nightly.changepoint import Change, changes

_Array = npt.NDArray[np.float64]
Noise = Callable[[np.random.Generator, int], _Array]

NIGHTS, CHANGE = 20, 10  # length of a series; index of the first slow night
SLOWER = 0.8  # throughput of a slow night, as a share of that before
_NEAR = 2  # a change counts as found if it is at most so many nights from the right place
_UNCHANGED, _SLOW = 1500, 300  # number of series without and with a change


def _normal(width: float) -> Noise:
    return lambda random, count: random.normal(0, width, count)


def _outliers(random: np.random.Generator, count: int) -> _Array:
    """Return noise in which a tenth of the nights is slow: something else ran on the machine."""
    slow = random.random(count) < 0.1
    return np.asarray(random.normal(0, 0.03, count) - slow * random.uniform(0.2, 1.0, count))


def _heavy_tails(random: np.random.Generator, count: int) -> _Array:
    return np.asarray(0.05 * random.standard_t(3, count))


def _random_walk(random: np.random.Generator, count: int) -> _Array:
    walk = np.cumsum(random.normal(0, 0.005, count))
    return np.asarray(walk + random.normal(0, 0.03, count))


def _autocorrelated(random: np.random.Generator, count: int) -> _Array:
    """Return noise in which each night is half like the one before."""
    noise = random.normal(0, 0.05, count)
    for night in range(1, count):
        noise[night] = 0.5 * noise[night - 1] + math.sqrt(0.75) * noise[night]
    return noise


# Each returns logarithms of a figure, relative to its level.
KINDS: dict[str, Noise] = {
    "normal_2_percent": _normal(0.02),
    "normal_5_percent": _normal(0.05),
    "normal_10_percent": _normal(0.10),
    "outliers": _outliers,
    "heavy_tails": _heavy_tails,
    "wandering": _random_walk,
    "remembering": _autocorrelated,
}
EVERY_NIGHT = [str(night) for night in range(NIGHTS)]  # builds: a new one each night


def changes_each_night(logs: _Array, builds: Sequence[str]) -> list[tuple[int, Change]]:
    """Return (night, last change) for every night on which the search reports a change."""
    found = []
    for count in range(1, len(logs) + 1):
        if so_far := changes(list(1000 * np.exp(logs[:count])), builds[:count]):
            found.append((count - 1, so_far[-1]))
    return found


def false_positive_rate(kind: str, series: int, seed: int = 1) -> float:
    """Return the share of ``series`` unchanged series with a change reported on some night."""
    random = np.random.default_rng(seed)
    return (
        sum(
            bool(changes_each_night(KINDS[kind](random, NIGHTS), EVERY_NIGHT))
            for _ in range(series)
        )
        / series
    )


def detection(
    kind: str, series: int, builds: Sequence[str] = EVERY_NIGHT, seed: int = 2
) -> tuple[float, float]:
    """Return in what share of ``series`` series the slow-down is found and attributed to the
    hypervisor, and after how many slow nights (the median; infinite if in none)."""
    random = np.random.default_rng(seed)
    delays = []
    for _ in range(series):
        logs = KINDS[kind](random, NIGHTS)
        logs[CHANGE:] += math.log(SLOWER)
        for night, change in changes_each_night(logs, builds):
            is_it = change.ratio < 1 and abs(change.at - CHANGE) <= _NEAR
            if is_it and not change.same_build:
                delays.append(night - CHANGE + 1)
                break
    return len(delays) / series, statistics.median(delays) if delays else math.inf


def run() -> dict[str, float]:
    """Return, by kind of noise, in how many of 100 series of 20 nights a change is reported that is
    not there, in how many a slow-down by a fifth is found, and after how many nights."""
    metrics: dict[str, float] = {}
    for kind in KINDS:
        metrics[f"invented_percent_{kind}"] = 100 * false_positive_rate(kind, _UNCHANGED)
        share, nights = detection(kind, _SLOW)
        metrics[f"found_percent_{kind}"] = 100 * share
        metrics[f"found_after_nights_{kind}"] = nights
    return metrics
