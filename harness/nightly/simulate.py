"""``bench changes``: what the search for changes of level finds, and what it invents, in noise
of several kinds.  Each series is looked at on every night, as nightly does."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from harness.nightly.changepoint import Change, changes

_Array = npt.NDArray[np.float64]
Noise = Callable[[np.random.Generator, int], _Array]

NIGHTS, CHANGE = 20, 10  # length of a series; the first night of the slow ones
SLOWER = 0.8  # of the throughput before
_NEAR = 2  # nights by which a change may be misplaced to count as found
_QUIET, _SLOW = 1500, 300  # series


def _normal(width: float) -> Noise:
    return lambda random, count: random.normal(0, width, count)


def _outliers(random: np.random.Generator, count: int) -> _Array:
    """Every tenth night something else ran on the machine."""
    slow = random.random(count) < 0.1
    return np.asarray(random.normal(0, 0.03, count) - slow * random.uniform(0.2, 1.0, count))


def _heavy(random: np.random.Generator, count: int) -> _Array:
    return np.asarray(0.05 * random.standard_t(3, count))


def _wandering(random: np.random.Generator, count: int) -> _Array:
    walk = np.cumsum(random.normal(0, 0.005, count))
    return np.asarray(walk + random.normal(0, 0.03, count))


def _remembering(random: np.random.Generator, count: int) -> _Array:
    """Each night is half like the one before."""
    noise = random.normal(0, 0.05, count)
    for night in range(1, count):
        noise[night] = 0.5 * noise[night - 1] + math.sqrt(0.75) * noise[night]
    return noise


# Logarithms of a figure over its level; widths are of one night.
KINDS: dict[str, Noise] = {
    "normal_2_percent": _normal(0.02),
    "normal_5_percent": _normal(0.05),
    "normal_10_percent": _normal(0.10),
    "outliers": _outliers,
    "heavy_tails": _heavy,
    "wandering": _wandering,
    "remembering": _remembering,
}
EVERY_NIGHT = [str(night) for night in range(NIGHTS)]  # builds: a new one each night


def changes_each_night(logs: _Array, builds: Sequence[str]) -> list[tuple[int, Change]]:
    """Return (night, last change) of every night on which a change is seen."""
    found = []
    for count in range(1, len(logs) + 1):
        if seen := changes(list(1000 * np.exp(logs[:count])), builds[:count]):
            found.append((count - 1, seen[-1]))
    return found


def false_positive_rate(kind: str, series: int, seed: int = 1) -> float:
    """Return the share of ``series`` without a change in which one is seen on some night."""
    random = np.random.default_rng(seed)
    return (
        sum(
            bool(changes_each_night(KINDS[kind](random, NIGHTS), EVERY_NIGHT))
            for _ in range(series)
        )
        / series
    )


def found(
    kind: str, series: int, builds: Sequence[str] = EVERY_NIGHT, seed: int = 2
) -> tuple[float, float]:
    """Return the share of ``series`` whose planted slow-down is found and put on the hypervisor,
    and after how many slow nights (the median; infinite if none is)."""
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
    """Return, by kind of noise, how many of 100 series of 20 nights have an invented change,
    in how many a slow-down by a fifth is found, and after how many nights."""
    metrics: dict[str, float] = {}
    for kind in KINDS:
        metrics[f"invented_percent_{kind}"] = 100 * false_positive_rate(kind, _QUIET)
        share, nights = found(kind, _SLOW)
        metrics[f"found_percent_{kind}"] = 100 * share
        metrics[f"found_after_nights_{kind}"] = nights
    return metrics
