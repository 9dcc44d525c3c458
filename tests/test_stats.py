# SPDX-License-Identifier: GPL-2.0-or-later
"""Intervals against what is known of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stats import Interval, differs, pairs_needed, ratio, share


@given(tries=st.integers(1, 500), data=st.data())
def test_the_interval_holds_the_share_and_stays_a_probability(
    tries: int, data: st.DataObject
) -> None:
    hits = data.draw(st.integers(0, tries))
    low, high = share(hits, tries)
    assert 0 <= low <= hits / tries + 1e-4 and hits / tries - 1e-4 <= high <= 1


def test_the_interval_of_a_known_case() -> None:
    assert share(10, 10) == (0.7225, 1.0)
    assert share(0, 0) == (0.0, 1.0)


def test_a_ratio_holds_the_truth_as_often_as_it_says() -> None:
    chance = np.random.default_rng(1)
    held = 0
    for _ in range(1000):
        common = chance.normal(0, 0.5, 5)  # what both of a pair suffer from
        base = np.exp(common + chance.normal(0, 0.05, 5))
        candidate = 1.2 * np.exp(common + chance.normal(0, 0.05, 5))
        seen = ratio(list(base), list(candidate))
        held += seen.low <= 1.2 <= seen.high
    assert 930 <= held <= 970


def test_a_ratio_turned_round_is_one_over_it() -> None:
    base, candidate = [1.0, 2.0, 3.0], [1.1, 2.5, 2.9]
    one, other = ratio(base, candidate), ratio(candidate, base)
    assert one.estimate == pytest.approx(1 / other.estimate)
    assert one.low == pytest.approx(1 / other.high)


def test_one_pair_says_nothing_of_the_spread() -> None:
    assert ratio([2.0], [3.0]) == Interval(1.5, 0.0, math.inf)
    assert pairs_needed([2.0], [3.0], 0.1) is None


@pytest.mark.parametrize("pairs", [([], []), ([1.0], [1.0, 2.0]), ([0.0], [1.0])])
def test_no_ratio_without_pairs(pairs: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match="a ratio needs"):
        ratio(*pairs)


def test_how_much_longer_to_run() -> None:
    chance = np.random.default_rng(2)
    base = list(np.exp(chance.normal(0, 0.1, 4)))
    same = list(np.asarray(base) * np.exp(chance.normal(0, 0.1, 4)))
    needed = pairs_needed(base, same, 0.10)
    assert needed is not None and needed > 4
    closer = pairs_needed(base, same, 0.30)
    assert closer is not None and closer < needed
    assert pairs_needed([1.0, 1.0, 1.0], [1.099, 1.1, 1.101], 0.10) is None  # on the margin


def test_two_shares_differ() -> None:
    assert differs(0, 10, 0, 10) == 1.0
    assert differs(10, 10, 0, 10) < 1e-4
    assert 0.05 < differs(2, 10, 5, 10) < 0.5
    assert differs(1, 1, 0, 1) == 1.0  # one try each: nothing follows
