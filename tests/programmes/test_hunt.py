# SPDX-License-Identifier: GPL-2.0-or-later
"""A hunt: a Xen that keeps to the model passes; one that does not is found out, in few steps."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.agent.wire import AgentLost
from harness.evidence import WrongAnswer, WrongState
from harness.fuzz.batches import Batch, batches
from harness.fuzz.follow import Follower
from harness.fuzz.hunt import Found, Hunt
from harness.fuzz.judge import Wrong
from harness.fuzz.programme import Flag, Seen, SeenBits, Step, What
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.domain import State, World
from harness.verdict import HypervisorError

from .model_guest import DOMID, WORLD, Lie, ModelGuest

_BEGIN = Step(What.BEGIN)
_ALLOC = Step(What.ALLOC_UNBOUND, slot=1, port=DOMID_SELF, value=DOMID_SELF)


def _hunt(lie: Lie = lambda _follower, _step, seen: seen) -> Hunt:
    return Hunt(ModelGuest(lie), WORLD, DOMID)


def _first(hunt: Hunt, most: int = 40) -> Found:
    for _, batch in zip(range(most), batches(1), strict=False):
        found = None if batch.second else hunt.batch(batch)
        if found is not None:
            return found
    raise AssertionError("nothing was found")


def test_a_good_xen_passes() -> None:
    hunt = _hunt()
    reported: list[int] = []
    assert hunt.run(1, 4.0, lambda: reported.append(hunt.counts.operations)) is None
    assert hunt.counts.operations > 1000 and hunt.counts.programmes > 10
    assert reported == sorted(reported) and hunt.counts.undecided <= hunt.counts.concurrent / 5
    hunt = _hunt()
    alone = [batch for _, batch in zip(range(3), batches(1), strict=False) if not batch.second]
    assert alone and not any(map(hunt.batch, alone)) and hunt.counts.undecided == 0


def test_a_wrong_answer_is_shown_in_the_fewest_steps() -> None:
    """A send of a VIRQ's port is not refused."""

    def lie(follower: Follower, step: Step, seen: Seen) -> Seen:
        channel = follower.domain.port(follower.port(step))
        virq = step.what == What.SEND and channel.state is State.VIRQ and seen.result == -22
        return seen._replace(result=0) if virq else seen

    found = _first(_hunt(lie))
    assert [What(step.what).name for step in found.batch.steps] == ["BEGIN", "BIND_VIRQ", "SEND"]
    assert found.seen_again and isinstance(found.wrong.evidence, WrongAnswer)
    message, calls = found.wrong.lines
    assert "answered 0" in message and "send: EINVAL state has no peer" in message
    assert calls.startswith("begin() = 0; bind_virq(virq=") and calls.endswith("send(port=1) = 0")


def test_a_wrong_bit_is_shown_in_the_fewest_steps() -> None:
    """A channel that is bound does not become pending."""

    def lie(follower: Follower, step: Step, seen: Seen) -> Seen:
        looked = step.what == What.STATUS and step.port == 2 and not step.flags
        looked = looked and not follower.domain.fifo  # nothing is left of earlier programmes
        return seen._replace(bits=seen.bits & ~SeenBits.PENDING) if looked else seen

    found = _first(_hunt(lie))
    assert found.batch.steps[-1].what == What.STATUS and len(found.batch.steps) <= 5
    assert isinstance(found.wrong.evidence, WrongState)
    assert found.wrong.lines[0].startswith("bare: port 2, vCPU")


def test_wrong_events_are_told() -> None:
    def lie(follower: Follower, step: Step, seen: Seen) -> Seen:
        one = step.what == What.TAKE and seen.result == 1 and not follower.domain.fifo
        return seen._replace(result=0, detail=0) if one else seen

    found = _first(_hunt(lie))
    assert "0 events" in found.wrong.lines[0] and "1 events, of ports [" in found.wrong.lines[0]
    assert found.batch.steps[-1].what == What.TAKE and len(found.batch.steps) <= 4


def test_what_is_not_seen_again_is_told_all_the_same() -> None:
    lies = iter([True])

    def lie(_follower: Follower, step: Step, seen: Seen) -> Seen:
        once = step.what == What.SEND and seen.result == 0 and next(lies, False)
        return seen._replace(result=-1) if once else seen

    found = _first(_hunt(lie))
    assert not found.seen_again and found.batch.steps[-1].what == What.SEND


@pytest.mark.parametrize(
    "error",
    [AgentLost("gone"), HypervisorError("hangs"), OSError(28, "full"), KeyboardInterrupt()],
)
def test_what_was_found_stays_found_if_the_guest_is_lost_then(error: BaseException) -> None:
    def lie(_follower: Follower, step: Step, seen: Seen) -> Seen:
        return seen._replace(result=-1) if step.what == What.SEND else seen

    class Mortal(ModelGuest):
        def end(self) -> bytes:
            if len(self.made) > 1:
                raise error
            return super().end()

    hunt = Hunt(Mortal(lie), WORLD, DOMID)
    found = hunt.batch(Batch((_BEGIN, _ALLOC, Step(What.SEND, port=1)), 0))
    assert found is not None and not found.seen_again
    assert len(found.batch.steps) == 3


class _OneAtATime(ModelGuest):
    """It must have answered before it is told to make something else; after ``most`` batches it
    does not answer any more."""

    def __init__(self, lie: Lie, most: int = 1 << 30) -> None:
        super().__init__(lie)
        self._most, self._busy = most, False

    def begin(self, steps: Sequence[Step], vcpu: int) -> None:
        if len(self.made) > self._most:
            raise AgentLost("gone")
        assert not self._busy
        self._busy = True
        super().begin(steps, vcpu)

    def end(self) -> bytes:
        assert self._busy
        if len(self.made) > self._most:
            raise HypervisorError("hangs")
        self._busy = False
        return super().end()


@pytest.mark.parametrize("most", [1, 1 << 30])
def test_what_was_found_stays_found_if_the_next_batch_hangs(most: int) -> None:
    """The guest is at work on the second batch while the first one is judged."""
    lies = iter([True])

    def lie(_follower: Follower, step: Step, seen: Seen) -> Seen:
        once = step.what == What.SEND and seen.result == 0 and next(lies, False)
        return seen._replace(result=-1) if once else seen

    guest = _OneAtATime(lie, most)
    found = Hunt(guest, WORLD, DOMID).run(1, 60.0, lambda: None)
    assert found is not None and found.batch.steps[-1].what == What.SEND
    assert len(guest.made) == 2 if most == 1 else len(guest.made) > 2, "it was begun"


@pytest.mark.parametrize("wrong", [True, False])
def test_what_was_found_stays_found_if_the_next_batch_cannot_be_sent(wrong: bool) -> None:
    lies = iter([wrong])

    def lie(_follower: Follower, step: Step, seen: Seen) -> Seen:
        once = step.what == What.SEND and seen.result == 0 and next(lies, False)
        return seen._replace(result=-1) if once else seen

    class Deaf(ModelGuest):
        def begin(self, steps: Sequence[Step], vcpu: int) -> None:
            if self.made:
                raise BrokenPipeError(32, "gone")
            super().begin(steps, vcpu)

    hunt = Hunt(Deaf(lie), WORLD, DOMID)
    if wrong:
        found = hunt.run(1, 60.0, lambda: None)
        assert found is not None and found.batch.steps[-1].what == What.SEND
    else:
        with pytest.raises(BrokenPipeError):
            hunt.run(1, 60.0, lambda: None)


def test_but_a_poll_that_took_long_before_a_hang_is_none() -> None:
    lies = iter([True])

    def lie(_follower: Follower, step: Step, seen: Seen) -> Seen:
        slow = step.what == What.POLL and not seen.result and next(lies, False)
        return seen._replace(bits=seen.bits ^ SeenBits.SLEPT) if slow else seen

    hunt = Hunt(_OneAtATime(lie, 1), WORLD, DOMID)
    with pytest.raises(HypervisorError):
        hunt.run(1, 60.0, lambda: None)
    assert next(lies, None) is None
    assert hunt.running.steps == hunt.guest.made[-1]  # type: ignore[attr-defined]


def test_the_batch_after_a_poll_that_took_long_is_judged() -> None:
    polls = iter([True])

    def lie(_follower: Follower, step: Step, seen: Seen) -> Seen:
        if step.what == What.POLL and not seen.result and next(polls, False):
            return seen._replace(bits=seen.bits ^ SeenBits.SLEPT)
        second = step.what == What.SEND and seen.result == 0 and len(guest.made) == 2
        return seen._replace(result=-1) if second else seen

    guest = _OneAtATime(lie)
    found = Hunt(guest, WORLD, DOMID).run(1, 60.0, lambda: None)
    assert found is not None and found.batch.steps[-1].what == What.SEND


@pytest.mark.parametrize("restored", [True, False])
def test_each_try_to_make_it_shorter_begins_with_a_fresh_guest(restored: bool) -> None:
    """What a bad Xen has done, and the model does not know of, outlives the guest's reset."""

    def lie(_follower: Follower, step: Step, seen: Seen) -> Seen:
        return seen._replace(result=-1) if step.what == What.SEND and len(made[-1]) == 1 else seen

    made: list[list[tuple[Step, ...]]] = []

    def fresh() -> tuple[ModelGuest, World]:
        guest = ModelGuest(lie)
        made.append(guest.made)
        return guest, WORLD

    hunt = Hunt(*fresh(), DOMID, fresh=fresh if restored else None)
    needless = Step(What.SET_BIT, number=1, port=1)
    found = hunt.batch(Batch((_BEGIN, _ALLOC, needless, Step(What.SEND, port=1)), 0))
    assert found is not None and found.seen_again == restored
    assert len(found.batch.steps) == (2 if restored else 4)


def test_it_takes_time_without_random_programmes_as_well() -> None:
    hunt = _hunt()
    assert hunt.batch(Batch((_BEGIN, _ALLOC), 0)) is None
    assert hunt.counts.operations == 2 and hunt.counts.seconds > 0


def test_a_poll_that_took_long_once_decides_nothing() -> None:
    """A vCPU that lost its CPU in a poll that returned at once seems to have slept."""
    lies = iter([True])

    def lie(_follower: Follower, step: Step, seen: Seen) -> Seen:
        slow = step.what == What.POLL and not seen.result and next(lies, False)
        return seen._replace(bits=seen.bits ^ SeenBits.SLEPT) if slow else seen

    send = Step(What.SEND, Flag.PORT_OF_SLOT, port=1)
    ipi = Step(What.BIND_IPI, slot=1)
    poll = Step(What.POLL, Flag.PORT_OF_SLOT, number=1, port=1)
    mask = Step(What.SET_BIT, Flag.PORT_OF_SLOT, number=1, port=1)
    hunt = _hunt(lie)
    assert hunt.batch(Batch((_BEGIN, ipi, mask, send, poll), 0)) is None
    assert (hunt.counts.operations, hunt.counts.undecided) == (4, 1), "judged up to that poll"
    hunt = _hunt(
        lambda _f, step, seen: (
            seen._replace(bits=seen.bits ^ SeenBits.SLEPT) if step.what == What.POLL else seen
        )
    )
    found = hunt.batch(Batch((_BEGIN, ipi, mask, send, poll), 0))
    assert found is not None and "after a sleep" in found.wrong.lines[0]
    assert any(step.flags & Flag.PATIENT for steps in hunt.guest.made for step in steps)  # type: ignore[attr-defined]


def test_of_very_many_calls_the_last_are_told() -> None:
    evidence = WrongState(domain="bare", port=1, vcpu=0, differences=(), release="4.17")
    told = Wrong(evidence, 99, tuple(f"call {number}" for number in range(100))).lines[1]
    assert told.startswith("(76 before); call 76; ") and told.endswith("; call 99")


def test_a_programme_depends_on_no_other_one() -> None:
    batch = Batch((_BEGIN, _ALLOC, _ALLOC, _BEGIN, _ALLOC), 0)
    assert batch.one(4) == (3, [_BEGIN, _ALLOC])
    assert batch.one(2) == (0, [_BEGIN, _ALLOC, _ALLOC])


@pytest.mark.parametrize("vcpu", [0, 1])
def test_the_answer_of_a_poll_with_an_upcall_may_be_either(vcpu: int) -> None:
    """Xen looks whether an upcall can be delivered before it looks at the ports."""
    steps = (_BEGIN, Step(What.BIND_IPI, slot=1, value=vcpu), Step(What.SEND, 1, port=1))
    poll = Step(What.POLL, int(Flag.PAST), number=1, port=999999)
    for result in (0, -22):
        guest = ModelGuest(
            lambda _f, step, seen, result=result: (  # type: ignore[misc]
                seen._replace(result=result) if step.what == What.POLL else seen
            )
        )
        assert Hunt(guest, WORLD, DOMID).batch(Batch((*steps, poll), vcpu)) is None
