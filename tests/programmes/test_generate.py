# SPDX-License-Identifier: GPL-2.0-or-later
"""Random programmes: what the seed decides, and that nothing is left out for ever."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.fuzz.batches import batches
from harness.fuzz.follow import Follower
from harness.fuzz.generate import programme
from harness.fuzz.programme import MAX_STEPS, SLOTS, Flag, Step, What, encode

from .model_guest import DOMID, WORLD


def _some(count: int = 400) -> list[list[Step]]:
    chance = Random(1)
    return [programme(chance) for _ in range(count)]


@given(st.integers(0, 1 << 64))
@settings(max_examples=20, deadline=None)
def test_the_same_seed_makes_the_same(seed: int) -> None:
    one, other = batches(seed), batches(seed)
    assert [next(one) for _ in range(2)] == [next(other) for _ in range(2)]


def test_another_seed_makes_another() -> None:
    assert next(batches(1)) != next(batches(2))


def test_a_programme_begins_with_a_reset_and_can_be_encoded() -> None:
    for steps in _some():
        assert steps[0].what == What.BEGIN and len(steps) < MAX_STEPS
        assert all(0 <= step.slot < SLOTS for step in steps)
        encode(steps)


def test_every_kind_of_step_and_every_flag_is_made() -> None:
    steps = [step for steps in _some() for step in steps]
    concurrent = {What.MEET, What.DELAY, What.CLOSE_ALL}
    pirqs = {What.BIND_PIRQ}  # no guest of ours has one
    assert {step.what for step in steps} == set(What) - concurrent - pirqs
    assert all(any(step.flags & flag for step in steps) for flag in Flag if flag != Flag.PATIENT)


def test_both_abis_and_most_rows_are_met() -> None:
    follower = Follower(WORLD, DOMID)
    met = set()
    for steps in _some():
        for step in steps:
            follower.follow(step)
            met.add((follower.domain.fifo, follower.row))
    rows = {row for _, row in met}
    wanted = {
        "send: peer pending",
        "send: dropped: UNBOUND",
        "poll: EINVAL not usable",
        "poll: EINVAL not valid",
        "poll: 0 at once, pending",
        "unmask: unmasked, redelivered",
        "close: FREE, peer UNBOUND for the closer",
        "expand_array: 1024 more words, saved events raised",
        "init_control: EINVAL already mapped",
        "any: EFAULT copy-out after success",
        "reset: EBUSY",
    }
    assert wanted <= rows
    assert {fifo for fifo, row in met if row == "send: peer pending"} == {False, True}


def test_some_programmes_need_a_second_bucket() -> None:
    follower = Follower(WORLD, DOMID)
    for steps in _some():
        for step in steps:
            follower.follow(step)
    assert follower.domain.valid > 64
