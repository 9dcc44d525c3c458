"""Change points: what is found, how soon, and how often one is invented."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.nightly import changepoint
from harness.nightly.changepoint import Change, changes

Noise = Callable[[np.random.Generator, int], npt.NDArray[np.float64]]

NIGHTS = 20
SERIES = 300


def _normal(width: float) -> Noise:
    return lambda random, count: random.normal(0, width, count)


def _outliers(random: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    """Every tenth night something else ran on the machine."""
    slow = random.random(count) < 0.1
    return np.asarray(random.normal(0, 0.03, count) - slow * random.uniform(0.2, 1.0, count))


def _heavy(random: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    return np.asarray(0.05 * random.standard_t(3, count))


def _wandering(random: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    return np.asarray(np.cumsum(random.normal(0, 0.005, count)) + random.normal(0, 0.03, count))


KINDS: dict[str, Noise] = {
    "2 %": _normal(0.02),
    "5 %": _normal(0.05),
    "10 %": _normal(0.10),
    "outliers": _outliers,
    "heavy tails": _heavy,
    "wandering": _wandering,
}
EVERY_NIGHT = [str(night) for night in range(NIGHTS)]
ONE_NEW = ["old"] * 10 + ["new"] * 10


def _every_night(logs: npt.NDArray[np.float64], builds: list[str]) -> list[tuple[int, Change]]:
    """Return (night, last change) of every night on which one was seen, as nightly would."""
    found = []
    for count in range(1, len(logs) + 1):
        seen = changes(list(1000 * np.exp(logs[:count])), builds[:count])
        if seen:
            found.append((count - 1, seen[-1]))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_twenty_nights_without_a_change_invent_next_to_nothing(kind: str) -> None:
    """Of 300 series looked at on every one of 20 nights, each with a new hypervisor."""
    random = np.random.default_rng(1)
    invented = sum(
        bool(_every_night(KINDS[kind](random, NIGHTS), EVERY_NIGHT)) for _ in range(SERIES)
    )
    assert invented <= 0.015 * SERIES


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_hypervisor_is_never_blamed(kind: str) -> None:
    random = np.random.default_rng(2)
    for _ in range(100):
        found = _every_night(KINDS[kind](random, NIGHTS), ["same"] * NIGHTS)
        assert all(change.same_build for _, change in found)


@pytest.mark.parametrize(
    ("kind", "share"),
    [("2 %", 1.0), ("5 %", 0.95), ("outliers", 0.5), ("heavy tails", 0.7), ("wandering", 0.98)],
)
@pytest.mark.parametrize("builds", [EVERY_NIGHT, ONE_NEW], ids=["nightly", "one"])
def test_a_fifth_slower_is_found_within_ten_nights(
    kind: str, share: float, builds: list[str]
) -> None:
    random = np.random.default_rng(3)
    caught = 0
    delays = []
    for _ in range(100):
        logs = KINDS[kind](random, NIGHTS)
        logs[10:] += math.log(0.8)
        hits = [
            night
            for night, change in _every_night(logs, builds)
            if change.ratio < 1 and abs(change.at - 10) <= 2 and not change.same_build
        ]
        caught += bool(hits)
        delays += hits[:1]
    assert caught >= share * 100
    if share > 0.9:
        assert np.median(delays) <= 14  # the fifth slow night


def test_quiet_nights_need_three_slow_ones() -> None:
    random = np.random.default_rng(4)
    logs = random.normal(0, 0.02, 13)
    logs[10:] += math.log(0.8)
    (change,) = changes(list(np.exp(logs)), ONE_NEW[:13])
    assert change.at == 10 and not change.same_build
    assert change.low < 0.8 < change.high and 0.77 < change.ratio < 0.83
    assert changes(list(np.exp(logs[:12])), ONE_NEW[:12]) == []


def test_a_slow_weekend_is_no_level() -> None:
    random = np.random.default_rng(5)
    logs = random.normal(0, 0.02, 20)
    logs[12:14] -= 1.0
    assert _every_night(logs, EVERY_NIGHT) == []


def test_down_and_up_again_are_two_changes() -> None:
    random = np.random.default_rng(6)
    logs = random.normal(0, 0.02, 45)
    logs[15:30] += math.log(0.7)
    found = changes(list(np.exp(logs)), [str(night) for night in range(45)])
    assert [change.at for change in found] == [15, 30]
    assert found[0].ratio < 1 < found[1].ratio


def test_a_change_of_the_machine_is_not_the_next_hypervisor_s() -> None:
    """The machine became slower on night 10, the hypervisor is new on night 15."""
    random = np.random.default_rng(7)
    logs = random.normal(0, 0.02, 25)
    logs[10:] += math.log(0.8)
    found = changes(list(np.exp(logs)), ["old"] * 15 + ["new"] * 10)
    assert [(change.at, change.same_build) for change in found] == [(10, True)]


def test_what_is_long_past_does_not_count() -> None:
    logs = np.random.default_rng(8).normal(0, 0.02, 200)
    logs[:100] += 1.0
    assert changes(list(np.exp(logs)), [str(night) for night in range(200)]) == []


def test_a_shift_that_matters_to_nobody_is_not_told() -> None:
    logs = np.random.default_rng(9).normal(0, 0.001, 40)
    logs[20:] += math.log(0.97)
    assert changes(list(np.exp(logs)), [str(night) for night in range(40)]) == []


@pytest.mark.parametrize(("first", "second"), [(3, 3), (3, 5), (5, 3), (4, 6)])
def test_the_distribution_of_u_is_exact(first: int, second: int) -> None:
    ranks = range(first + second)
    counted = Counter(
        sum(chosen) - first * (first - 1) // 2 for chosen in itertools.combinations(ranks, first)
    )
    ways = changepoint._ways(first, second)
    assert list(ways) == [counted[u] for u in range(first * second + 1)]


_values = st.lists(
    st.floats(min_value=1e-6, max_value=1e9, allow_nan=False), min_size=0, max_size=70
)


@given(_values, st.data())
def test_anything_gives_changes_in_order_and_scale_does_not_matter(
    values: list[float], data: st.DataObject
) -> None:
    builds = data.draw(st.lists(st.sampled_from("ab"), min_size=len(values), max_size=len(values)))
    found = changes(values, builds)
    places = [change.at for change in found]
    assert places == sorted(set(places))
    for change in found:
        assert 0 < change.low <= change.ratio <= change.high
        assert changepoint.FEWEST <= change.at <= len(values) - changepoint.FEWEST
        assert change.same_build is (builds[change.at - 1] == builds[change.at])
    assert [c.at for c in changes([4 * value for value in values], builds)] == places


def test_equal_values_have_no_change() -> None:
    assert changes([7.0] * 60, [str(night) for night in range(60)]) == []
