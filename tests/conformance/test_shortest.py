# SPDX-License-Identifier: GPL-2.0-or-later
"""The shorter sequence: it shows the same, and nothing of it can be left out."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from harness.conformance.shortest import shortest


def _smaller(number: int) -> list[int]:
    return list(range(number))


@given(st.lists(st.integers(0, 9), max_size=60), st.lists(st.integers(0, 9), min_size=1))
def test_only_what_is_needed_is_left_in_its_order(noise: list[int], needed: list[int]) -> None:
    """Shown by anything that has ``needed`` in this order."""

    def shows(steps: Sequence[int]) -> bool:
        rest = iter(steps)
        return all(each in rest for each in needed)

    mixed = [step for pair in zip(noise, noise, strict=True) for step in pair]
    assert shortest([*mixed, *needed, *noise], shows) == needed


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 9))
def test_numbers_become_as_small_as_they_can(steps: list[int], least: int) -> None:
    def shows(found: Sequence[int]) -> bool:
        return any(number >= least for number in found)

    if shows(steps):
        assert shortest(steps, shows, _smaller) == [least]


def test_what_shows_nothing_again_stays_as_it_is() -> None:
    assert shortest([1, 2, 3], lambda _: False, _smaller) == [1, 2, 3]


def test_the_search_ends_when_it_is_enough() -> None:
    tried: list[Sequence[int]] = []

    def shows(found: Sequence[int]) -> bool:
        tried.append(found)
        return True

    found = shortest(range(100), shows, enough=lambda: len(tried) >= 2)
    assert len(tried) == 2 and found == tried[-1]
