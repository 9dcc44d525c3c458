# SPDX-License-Identifier: GPL-2.0-or-later
"""Change points: how often one is found, how soon, and how often one is reported wrongly."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.nightly import changepoint
from harness.nightly.changepoint import changes
from harness.nightly.simulate import (
    EVERY_NIGHT,
    KINDS,
    NIGHTS,
    changes_each_night,
    detection,
    false_positive_rate,
)

pytestmark = pytest.mark.slow

ONE_NEW = ["old"] * 10 + ["new"] * 10
_QUIET = [kind for kind in KINDS if kind != "remembering"]  # docs/nightly.md owns up to that one


@pytest.mark.parametrize("kind", _QUIET)
def test_twenty_nights_without_a_change_rarely_report_one(kind: str) -> None:
    """With a new hypervisor every night: nothing but the figures speaks against a change."""
    assert false_positive_rate(kind, 300) <= 0.015


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_hypervisor_is_never_blamed(kind: str) -> None:
    random = np.random.default_rng(2)
    for _ in range(50):
        seen = changes_each_night(KINDS[kind](random, NIGHTS), ["same"] * NIGHTS)
        assert all(change.same_build for _, change in seen)


@pytest.mark.parametrize(
    ("kind", "share", "nights"),
    [
        ("normal_2_percent", 1.0, 4),
        ("normal_5_percent", 0.95, 5),
        ("outliers", 0.5, 10),
        ("heavy_tails", 0.7, 6),
        ("wandering", 0.98, 5),
    ],
)
@pytest.mark.parametrize("builds", [EVERY_NIGHT, ONE_NEW], ids=["nightly", "one"])
def test_a_fifth_slower_is_found(kind: str, share: float, nights: int, builds: list[str]) -> None:
    caught, after = detection(kind, 100, builds)
    assert caught >= share
    assert after <= nights


def test_quiet_nights_need_three_slow_ones() -> None:
    random = np.random.default_rng(4)
    logs = random.normal(0, 0.02, 13)
    logs[10:] += math.log(0.8)
    (change,) = changes(list(np.exp(logs)), ONE_NEW[:13])
    assert change.at == 10 and not change.same_build
    assert change.low < 0.8 < change.high and 0.77 < change.ratio < 0.83
    assert changes(list(np.exp(logs[:12])), ONE_NEW[:12]) == []


# Microseconds of a bind_interdomain on twenty nights of one Xen and six of one that was a fifth
# slower.  The last two of the twenty were a bit slow by chance.
_MEASURED = [
    88.3, 86.5, 88.0, 92.1, 92.4, 85.9, 91.8, 88.4, 83.6, 88.7,
    85.1, 87.0, 88.5, 85.3, 85.5, 88.8, 87.2, 88.1, 92.7, 90.0,
    128.0, 122.4, 125.2, 129.1, 117.0, 117.4,
]  # fmt: skip


def test_nights_that_were_slow_by_chance_do_not_move_the_change_to_the_machine() -> None:
    builds = ["old"] * 20 + ["new"] * 6
    assert changes(_MEASURED[:22], builds[:22]) == []  # two nights are no level
    for night in range(23, 27):
        (change,) = changes(_MEASURED[:night], builds[:night])
        assert (change.at, change.same_build) == (20, False)


@pytest.mark.parametrize(
    ("kind", "share"), [("normal_2_percent", 0.04), ("wandering", 0.04), ("heavy_tails", 0.06)]
)
def test_the_machine_is_seldom_blamed_for_the_hypervisor(kind: str, share: float) -> None:
    random, series, blamed = np.random.default_rng(5), 150, 0
    builds = ["old"] * 20 + ["new"] * 6
    for _ in range(series):
        logs = KINDS[kind](random, len(builds))
        logs[20:] += math.log(0.8)
        seen = changes_each_night(logs, builds)
        blamed += any(change.same_build for _, change in seen)
    assert blamed <= share * series


def test_a_slow_weekend_is_no_level() -> None:
    random = np.random.default_rng(5)
    logs = random.normal(0, 0.02, 20)
    logs[12:14] -= 1.0
    assert changes_each_night(logs, EVERY_NIGHT) == []


def test_down_and_up_again_are_two_changes() -> None:
    random = np.random.default_rng(6)
    logs = random.normal(0, 0.02, 45)
    logs[15:30] += math.log(0.7)
    seen = changes(list(np.exp(logs)), [str(night) for night in range(45)])
    assert [change.at for change in seen] == [15, 30]
    assert seen[0].ratio < 1 < seen[1].ratio


def test_a_change_of_the_machine_is_not_the_next_hypervisor_s() -> None:
    """The machine became slower on night 10, the hypervisor is new on night 15."""
    random = np.random.default_rng(7)
    logs = random.normal(0, 0.02, 25)
    logs[10:] += math.log(0.8)
    seen = changes(list(np.exp(logs)), ["old"] * 15 + ["new"] * 10)
    assert [(change.at, change.same_build) for change in seen] == [(10, True)]


def test_nights_before_the_window_do_not_count() -> None:
    logs = np.random.default_rng(8).normal(0, 0.02, 200)
    logs[:100] += 1.0
    assert changes(list(np.exp(logs)), [str(night) for night in range(200)]) == []


def test_a_shift_that_is_too_small_is_not_reported() -> None:
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
    seen = changes(values, builds)
    places = [change.at for change in seen]
    assert places == sorted(set(places))
    for change in seen:
        assert 0 < change.low <= change.ratio <= change.high
        assert changepoint.FEWEST <= change.at <= len(values) - changepoint.FEWEST
        assert change.same_build is (builds[change.at - 1] == builds[change.at])
    assert [c.at for c in changes([4 * value for value in values], builds)] == places


def test_equal_values_have_no_change() -> None:
    assert changes([7.0] * 60, [str(night) for night in range(60)]) == []
