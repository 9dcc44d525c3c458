# SPDX-License-Identifier: GPL-2.0-or-later
"""Duels of two vCPUs: what a lock lets through shows in the bits, and in few steps."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.evidence import WrongState
from harness.fuzz.batches import Batch
from harness.fuzz.concurrent import concurrent_programme
from harness.fuzz.duels import delays, duels, repeated
from harness.fuzz.follow import Follower
from harness.fuzz.guest import Timed
from harness.fuzz.hunt import Found, Hunt
from harness.fuzz.orders import RoundJudge
from harness.fuzz.programme import (
    MAX_STEPS,
    Bit,
    Flag,
    Seen,
    SeenBits,
    Step,
    TimedSeen,
    What,
    encode,
)
from harness.fuzz.rounds import rounds
from harness.fuzz.sections import between_meetings, section, times
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.domain import State, World
from harness.model.lock.flavours import FLAVOURS

from .model_guest import DOMID, HZ, WORLD, Lie, ModelGuest, TwoVcpus, encode_timed

_OF_SLOT = int(Flag.PORT_OF_SLOT)
_BEGIN, _MEET = Step(What.BEGIN), Step(What.MEET)
_ALLOC = Step(What.ALLOC_UNBOUND, slot=1, port=DOMID_SELF, value=DOMID_SELF)
_BIND = Step(What.BIND_INTERDOMAIN, _OF_SLOT, slot=2, port=1, value=DOMID_SELF)
_MASK = Step(What.SET_BIT, _OF_SLOT, port=1, number=int(Bit.MASKED))
_UNMASK = Step(What.UNMASK, _OF_SLOT, port=1)
_CLOSE = Step(What.CLOSE, _OF_SLOT, port=2)
_SEND = Step(What.SEND, _OF_SLOT, port=1)


def _look(port: int) -> Step:
    return Step(What.LOOK, port=port)


def _status(port: int) -> Step:
    return Step(What.STATUS, port=port, value=DOMID_SELF)


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 1 << 32), st.sampled_from(sorted(FLAVOURS)), st.booleans())
def test_what_the_model_makes_in_some_order_is_never_wrong(
    seed: int, flavour: str, duel: bool
) -> None:
    chance = Random(seed)
    guest = TwoVcpus(chance, flavour=FLAVOURS[flavour])
    hunt = Hunt(guest, WORLD, DOMID, FLAVOURS[flavour])
    first, second = duels(chance) if duel else concurrent_programme(chance)
    assert hunt.batch(Batch(first, 0, second)) is None
    if duel:
        assert hunt.counts.undecided == 0 and hunt.counts.concurrent > 500


def test_what_is_dropped_is_wrong_where_the_lock_waits() -> None:
    """So the test above says something."""
    chance = Random(1)
    guest = TwoVcpus(chance, flavour=FLAVOURS["counter-v2"])
    hunt = Hunt(guest, WORLD, DOMID, FLAVOURS["rwlock"], replay=True)
    assert any(hunt.batch(Batch(first, 0, second)) for first, second in [duels(chance)] * 3)


def test_duels_are_the_same_for_a_seed_and_can_be_encoded() -> None:
    one, other = (duels(Random(3)) for _ in range(2))
    assert one == other != duels(Random(4))
    assert one[0][0].what == What.BEGIN and one[1][0].what == What.MEET
    assert max(map(len, one)) < MAX_STEPS and encode(one[0])


def test_every_kind_of_operation_meets_every_other_one_in_a_duel() -> None:
    met = set()
    for seed in range(60):
        first, second = (between_meetings(part) for part in duels(Random(seed)))
        for one, other in zip(first, second, strict=True):
            met |= {(a.what, b.what) for a in one for b in other}
    writers = {What.CLOSE, What.BIND_INTERDOMAIN, What.ALLOC_UNBOUND}
    readers = {What.SEND, What.UNMASK, What.POLL, What.STATUS, What.SET_PRIORITY, What.BIND_VCPU}
    assert all((a, b) in met or (b, a) in met for a in writers for b in {*writers, *readers})


_Round = tuple[tuple[Step, ...], tuple[Step, ...]]


def _found(lie: Lie, made: list[_Round]) -> Found | None:
    """Return what is found in ``made``."""
    first, second = [_BEGIN], list[Step]()
    for one, other in made:
        first += [_MEET, *one]
        second += [_MEET, *other]
    hunt = Hunt(TwoVcpus(Random(1), lie), WORLD, DOMID)
    return hunt.batch(Batch((*first, _MEET), 0, (*second, _MEET)))


def _still_masked(_follower: Follower, step: Step, seen: Seen) -> Seen:
    return seen._replace(bits=seen.bits | SeenBits.MASKED) if step.what == What.LOOK else seen


def test_an_unmask_that_is_forgotten_shows_at_the_meeting() -> None:
    made: list[_Round] = [((_ALLOC, _MASK), ()), ((_UNMASK,), (_BIND,)), ((_look(1),), ())]
    found = _found(_still_masked, made)
    assert found is not None and isinstance(found.wrong.evidence, WrongState)
    assert found.wrong.lines[0].startswith("bare: port 1, vCPU 0: masked is 0x1, not 0x0")
    assert found.wrong.calls[-1].endswith(" look(port=1): masked")


@pytest.mark.parametrize(
    ("flavour", "masked", "wrong"),
    [
        ("counter", False, False),
        ("counter", True, True),
        ("counter-v2", False, False),
        ("counter-v2", True, False),  # its unmask only tries
        ("rwlock", True, True),
    ],
)
def test_what_may_be_left_undone_depends_on_the_lock(
    flavour: str, masked: bool, wrong: bool
) -> None:
    """An unmask while the peer binds to the port."""
    began = 10_000
    bits = int(SeenBits.MASKED)

    def seen(step: Step, result: int, bits: int = 0, at: int = 0) -> tuple[Step, TimedSeen]:
        return step, TimedSeen(Seen(result, bits), at, at + began, step.port, step.value)

    alloc, mask = seen(_ALLOC, 1), seen(_MASK._replace(flags=0), 0, bits)
    bind, unmask = (step._replace(flags=0) for step in (_BIND, _UNMASK))
    look = seen(_look(1), 0, bits if masked else 0)
    meet = seen(_MEET, 0)
    first = [alloc, mask, meet, seen(unmask, 0, bits, began), meet, look, meet]
    second = [meet, seen(bind, 2, 0, began), meet, meet]
    steps = [step for step, _ in first], [step for step, _ in second]
    times = encode_timed(now for _, now in first), encode_timed(now for _, now in second)
    judged = RoundJudge(DOMID, FLAVOURS[flavour]).judge(rounds(steps, times, DOMID), WORLD, HZ)
    assert bool(judged.wrong) is wrong and judged.undecided == 0


def test_an_event_that_outlives_its_channel_shows_at_the_meeting() -> None:
    """A send reaches the port that its peer has just closed: the bit stays on a FREE port."""

    def lie(follower: Follower, step: Step, seen: Seen) -> Seen:
        late = step.what == What.LOOK and follower.domain.port(2).state is State.FREE
        return seen._replace(bits=seen.bits | SeenBits.PENDING) if late else seen

    made: list[_Round] = [((_ALLOC, _BIND), ()), ((_SEND,), (_CLOSE,)), ((_look(2),), ())]
    found = _found(lie, made)
    assert found is not None and "pending is 0x1, not 0x0" in found.wrong.lines[0]
    assert found.seen_again and found.batch.times > 1


def test_pending_bits_are_not_known_after_events_were_taken_at_the_same_time() -> None:
    take = Step(What.TAKE)

    def lie(_follower: Follower, step: Step, seen: Seen) -> Seen:
        return seen._replace(bits=seen.bits ^ SeenBits.PENDING) if step.what == What.LOOK else seen

    made: list[_Round] = [((_ALLOC, _BIND), ()), ((_SEND,), (take,)), ((_look(2),), ())]
    assert _found(lie, made) is None
    again: list[_Round] = [*made, ((_BEGIN, _ALLOC, _BIND, _look(2)), ())]
    found = _found(lie, again)
    assert found is not None, "from a reset on they are known again"
    assert found.wrong.calls[0].endswith("begin() = 0")


def test_a_duel_is_made_short() -> None:
    """Of ten duels the one that shows it is left, and of that what is needed for it."""

    def lie(follower: Follower, step: Step, seen: Seen) -> Seen:
        wrong = step.what == What.SEND and follower.domain.port(follower.port(step)).state == 3
        return seen._replace(result=-1) if wrong else seen

    chance = Random(1)
    hunt = Hunt(TwoVcpus(chance, lie), WORLD, DOMID)
    for _ in range(20):
        first, second = duels(chance)
        found = hunt.batch(Batch(first, 0, second))
        if found is not None:
            break
    assert found is not None and found.seen_again
    whats = [What(step.what).name for step in (*found.batch.steps, *found.batch.second)]
    assert whats.count("SEND") == 1 and len([w for w in whats if w != "MEET"]) <= 5
    both = found.batch.both
    assert len(both[0]) > len(found.batch.steps) and max(map(len, both)) <= MAX_STEPS


def test_a_guest_is_made_fresh_only_after_it_has_shown_something() -> None:
    """That takes seconds on a real machine, for each of many tries."""
    tries, fresh = [0], [0]

    class Used(TwoVcpus):
        """It must not be used any more when it has shown what is wrong."""

        wrong = False

        def run_timed(self, both: tuple[Sequence[Step], Sequence[Step]]) -> Timed:
            assert not self.wrong
            tries[0] += 1
            return super().run_timed(both)

    def guest() -> Used:
        def lie(follower: Follower, step: Step, seen: Seen) -> Seen:
            if step.what != What.SEND or follower.domain.port(follower.port(step)).state != 3:
                return seen
            used.wrong = True
            return seen._replace(result=-1)

        used = Used(Random(3), lie)
        return used

    def restored() -> tuple[TwoVcpus, World]:
        fresh[0] += 1
        return guest(), WORLD

    first, second = duels(Random(1))
    found = Hunt(guest(), WORLD, DOMID, fresh=restored).batch(Batch(first, 0, second))
    assert found is not None and found.seen_again
    assert 1 < fresh[0] < tries[0] / 2


def test_what_is_replayed_is_told_as_it_is_in_its_file() -> None:
    """It is not made shorter for minutes: the steps that are told are those of the file."""

    def lie(_follower: Follower, step: Step, seen: Seen) -> Seen:
        return seen._replace(result=-1) if step.what == What.SEND else seen

    needless = _status(3)
    known = Batch((_BEGIN, needless, _ALLOC, _MEET, _SEND), 0, (_MEET, needless), 7)
    found = Hunt(TwoVcpus(Random(1), lie), WORLD, DOMID, replay=True).batch(known)
    assert found is not None and found.batch == known and found.seen_again


def test_a_poll_before_the_meeting_that_took_long_once_is_not_found() -> None:
    """Nor is the time until then the time until something was found."""
    lies = iter([True])

    def lie(_follower: Follower, step: Step, seen: Seen) -> Seen:
        slow = step.what == What.POLL and next(lies, False)
        return seen._replace(bits=seen.bits ^ SeenBits.SLEPT) if slow else seen

    poll = Step(What.POLL, _OF_SLOT, number=1, port=1)
    hunt = Hunt(ModelGuest(lie), WORLD, DOMID)
    assert hunt.batch(Batch((_BEGIN, _ALLOC, _MASK, poll, _MEET), 0, (_MEET,))) is None
    assert hunt.found_after == 0


def test_a_programme_of_which_vcpu_0_meets_nobody_is_made_short_as_well() -> None:
    """As a person may have edited it."""

    def lie(_follower: Follower, step: Step, seen: Seen) -> Seen:
        return seen._replace(result=-1) if step.what == What.SEND else seen

    hunt = Hunt(TwoVcpus(Random(1), lie), WORLD, DOMID)
    found = hunt.batch(Batch((_BEGIN, _ALLOC), 0, (_MEET, _ALLOC, _SEND)))
    assert found is not None and found.batch.second[-1] == _SEND


def test_a_section_is_what_was_made_since_the_last_reset() -> None:
    first = (_BEGIN, _MEET, _ALLOC, _MEET, _look(1), _BEGIN, _BIND, _MEET, _SEND, _MEET, _look(2))
    second = (_MEET, _MEET, _MEET, _CLOSE, _MEET)
    assert section((first, second), (10, 4)) == (
        (_BEGIN, _BIND, _MEET, _SEND, _MEET, _look(2)),
        (_MEET, _CLOSE, _MEET),
    )
    assert section((first, second), (4, 1))[0] == (_BEGIN, _MEET, _ALLOC, _MEET, _look(1))


@pytest.mark.parametrize("count", [1, 3])
def test_repetitions_have_other_delays(count: int) -> None:
    both = (_BEGIN, _MEET, _SEND), (_MEET, _CLOSE)
    first, second = repeated(both, count, delays)
    assert [s.what for s in first].count(What.BEGIN) == count
    assert [s.what for s in first].count(What.MEET) == [s.what for s in second].count(What.MEET)
    assert repeated(both, count, delays) == (first, second)
    assert times(both) > 100 and times(((_BEGIN,), ())) == 1


def test_repetitions_begin_together_if_one_vcpu_meets_more_often() -> None:
    """As in a file that a person has edited: else vCPU 0 resets while vCPU 1 is at work."""
    first, second = (
        between_meetings(part)
        for part in repeated(((_BEGIN, _MEET), (_MEET, _MEET, _SEND)), 3, delays)
    )
    assert len(first) == len(second)
    assert all(not other for one, other in zip(first, second, strict=True) if _BEGIN in one)
