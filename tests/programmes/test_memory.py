# SPDX-License-Identifier: GPL-2.0-or-later
"""A judge that remembers says what one says that works out everything anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.fuzz import concurrent, duels, memory, orders
from harness.fuzz.alone import after_alone
from harness.fuzz.follow import Follower
from harness.fuzz.memory import Interned, Memory
from harness.fuzz.orders import RoundJudge, RoundsJudged
from harness.fuzz.programme import NO_OPERATION, Seen, Step, What, decode_timed
from harness.fuzz.rounds import rounds
from harness.model.lock.flavours import FLAVOURS

from .model_guest import DOMID, HZ, WORLD, TwoVcpus

_Found = TypeVar("_Found")
_Both = tuple[tuple[Step, ...], tuple[Step, ...]]
_SEEDS = st.integers(0, 1 << 32)


class Forgetful(Memory):
    """Looks nothing up."""

    def remembered(self, key: object, find: Callable[[], _Found]) -> _Found:
        return find()


class _Liar:
    """Changes one of so many answers, bits or statuses."""

    def __init__(self, chance: Random, rarely: int) -> None:
        self._chance, self._rarely = chance, rarely

    def __call__(self, _follower: Follower, step: Step, seen: Seen) -> Seen:
        if step.what == What.MEET or self._chance.randrange(self._rarely):
            return seen
        wrong = self._chance.choice((-22, -1, 0, 1, 2, 3))
        return self._chance.choice(
            (
                seen._replace(result=wrong),
                seen._replace(bits=seen.bits ^ 1 << self._chance.randrange(2)),
                seen._replace(told=seen.told ^ 1 << self._chance.randrange(18)),
                seen._replace(detail=seen.detail ^ 1),
            )
        )


def _programme(chance: Random) -> _Both:
    return duels.duels(chance) if chance.getrandbits(1) else concurrent.concurrent_programme(chance)


def _comparable(judged: RoundsJudged) -> object:
    wrong = judged.wrong
    counts = judged.operations, judged.concurrent, judged.undecided
    if wrong is None:
        return counts
    where = wrong.round.steps, len(wrong.since)
    return counts, where, wrong.round.made, wrong.before, wrong.step, wrong.expected


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duels, "_DUELS", 2)
    monkeypatch.setattr(duels, "_TIMES", 8)
    monkeypatch.setattr(concurrent, "_MEETINGS", 8)


@settings(deadline=None, max_examples=30)
@given(_SEEDS, st.sampled_from(sorted(FLAVOURS)), st.sampled_from((40, 400, 1 << 30)))
def test_it_says_the_same_of_good_and_of_wrong_answers(
    seed: int, flavour: str, rarely: int
) -> None:
    """Several guests make the same programmes, so most can be looked up; a lie must not be."""
    chance = Random(seed)
    both = [_programme(chance) for _ in range(2)]
    fast = RoundJudge(DOMID, FLAVOURS[flavour])
    slow = RoundJudge(DOMID, FLAVOURS[flavour])
    slow._memory = Forgetful()
    for _ in range(3):
        guest = TwoVcpus(chance, _Liar(chance, rarely), FLAVOURS[flavour])
        for each in both:
            before, timed = guest.world, guest.run_timed(each)
            one, other = (
                judge.judge(rounds(each, timed.seen, DOMID), before, HZ) for judge in (fast, slow)
            )
            assert _comparable(one) == _comparable(other)


def test_lies_are_found_among_what_can_be_looked_up() -> None:
    """So the test above says something: the same duel is judged right, and then wrong."""
    chance = Random(2)
    both = duels.duels(chance)
    judge = RoundJudge(DOMID, FLAVOURS["rwlock"])
    wrong = 0
    for number in range(20):
        lie = _Liar(chance, 60 if number % 2 else 1 << 30)
        guest = TwoVcpus(chance, lie)
        found = judge.judge(rounds(both, guest.run_timed(both).seen, DOMID), WORLD, HZ)
        assert number % 2 or not found.wrong
        wrong += bool(found.wrong)
    assert wrong >= 8


def test_it_works_out_few_rounds_of_a_duel_that_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(duels, "_TIMES", 40)
    searched = [0]
    alone = after_alone

    def counted(*given: object, **named: object) -> object:
        searched[0] += 1
        return alone(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(orders, "after_alone", counted)
    both = duels.duels(Random(1))
    judge = RoundJudge(DOMID, FLAVOURS["rwlock"])
    seen = TwoVcpus(Random(1)).run_timed(both).seen
    assert not judge.judge(rounds(both, seen, DOMID), WORLD, HZ).wrong
    assert 0 < searched[0] < 40, "of 80 repetitions"
    searched[0] = 0
    judge.judge(rounds(both, seen, DOMID), WORLD, HZ)
    assert searched[0] == 0


@given(_SEEDS)
@settings(deadline=None, max_examples=10)
def test_what_is_told_by_the_steps_alone_is_what_they_are(seed: int) -> None:
    chance = Random(seed)
    both = _programme(chance)
    for each in rounds(both, TwoVcpus(chance).run_timed(both).seen, DOMID):
        for part in each.parts:
            whats = [made.step.what for made in part.made]
            assert part.outline.operations == sum(what not in NO_OPERATION for what in whats)
            assert part.outline.unjudged == sum(made.unjudged for made in part.made)
            assert (part.outline.before_reset is None) == (What.BEGIN not in whats)
            assert [now.call for now in decode_timed(part.timed)] == [
                call for call, _ in part.times
            ]


def test_equal_worlds_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Memory()
    first = known.one(WORLD)
    assert known.one(replace(WORLD)) is first
    found = [known.remembered(("key", first), lambda: object()) for _ in range(2)]
    assert found[0] is found[1]
    known.tidy()
    assert known.one(WORLD) is first
    monkeypatch.setattr(memory, "_MOST", 0)
    known.tidy()
    anew = known.one(WORLD)
    assert isinstance(anew, Interned) and anew is not first
    assert known.remembered(("key", anew), lambda: 1) == 1
