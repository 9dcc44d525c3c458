# SPDX-License-Identifier: GPL-2.0-or-later
"""A hang is made shorter on a machine that is restored before each try."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import cast

import pytest

from harness.agent.wire import AgentLost
from harness.evidence import Hang, Spin
from harness.evidence.kinds import LockFault
from harness.fuzz.batches import Batch
from harness.fuzz.follow import Follower
from harness.fuzz.generate import programme
from harness.fuzz.guest import ProgrammeGuest, Timed
from harness.fuzz.hangs import Hung, shorter_hang
from harness.fuzz.programme import SEEN, Step, What
from harness.fuzz.subject import Subject
from harness.model.evtchn.domain import World
from harness.verdict import HarnessError, HypervisorError, LabError

from .model_guest import DOMID, WORLD

HANG = Hang(
    cpus=(Spin(cpu=0, function="evtchn_write_lock", where="", fault=LockFault.LEAKED_READER),)
)


class LeakingGuest(ProgrammeGuest):
    """Xen keeps a read side of a port's lock when it refuses a poll of it: poll-leak."""

    def __init__(self) -> None:
        self.number = 1
        self._leaked: set[int] = set()
        self._said: list[bytes] = []
        self.hangs_at: int | None = None

    def begin(self, steps: Sequence[Step], vcpu: int) -> None:
        follower = Follower(WORLD, DOMID, vcpu)
        self._said, self.hangs_at = [], None
        for at, step in enumerate(steps):
            port = follower.port(step)
            seen = follower.follow(step).seen
            polled = follower.domain.valid > port > 0 and step.number == 1
            if step.what == What.POLL and seen.result == -22 and polled:
                self._leaked.add(port)
            made = step.what == What.ALLOC_UNBOUND and seen.result in self._leaked
            if made and self.hangs_at is None:
                self.hangs_at = at
            self._said.append(SEEN.pack(*seen))

    def end(self) -> bytes:
        if self.hangs_at is not None:
            raise AgentLost("no answer")
        return b"".join(self._said)


class _Live:
    def __init__(self, hang: Hang) -> None:
        self._hang = hang

    def cause(self, error: BaseException) -> BaseException:
        return HypervisorError(self._hang)


class _Subject:
    """A machine that is restored at once."""

    world: World = WORLD
    domid = DOMID

    def __init__(self, hang: Hang = HANG) -> None:
        self.live = _Live(hang)
        self.restored = 0
        self.guest: ProgrammeGuest = LeakingGuest()

    def restore(self) -> None:
        self.restored += 1
        self.guest = LeakingGuest()


def _hanging() -> tuple[Step, ...]:
    """Return random programmes up to the step that does not return."""
    chance = Random(7)
    guest, steps = LeakingGuest(), list[Step]()
    while True:
        steps += programme(chance)
        guest.begin(steps, 0)
        if guest.hangs_at is not None:
            return tuple(steps[: guest.hangs_at + 1])


def _shorter(
    hung: Hung, subject: _Subject, enough: Callable[[], bool] = lambda: False
) -> list[str]:
    found = shorter_hang(hung, cast(Subject, subject), enough, lambda text: None)
    assert found.seen_again is (subject.live._hang == HANG)
    return list(found.wrong.calls)


@pytest.fixture(scope="module")
def hung() -> Hung:
    return Hung(Batch(_hanging(), 0), HANG)


def test_few_steps_are_left(hung: Hung) -> None:
    subject = _Subject()
    calls = _shorter(hung, subject)
    assert len(hung.batch.steps) > 20 and len(calls) <= 5
    assert calls[0] == "begin() = 0" and calls[-1].startswith("alloc_unbound(")
    assert calls[-1].endswith(" does not return") and any("poll(" in call for call in calls)
    assert subject.restored > len(calls), "before each try, and for whoever comes next"


class _TwoLeakingGuest(LeakingGuest):
    """Now and then a close and a send at the same time hang."""

    def __init__(self, chance: Random) -> None:
        super().__init__()
        self._chance = chance

    def run_timed(self, both: tuple[Sequence[Step], Sequence[Step]]) -> Timed:
        for one, other in zip(*map(_between_meetings, both), strict=False):
            at_once = one and other and {What.CLOSE, What.SEND} <= {*one, *other}
            if at_once and self._chance.randrange(50) == 0:
                raise AgentLost("no answer")
        return Timed((b"", b""), 1)


def _between_meetings(steps: Sequence[Step]) -> list[list[int]]:
    parts: list[list[int]] = [[]]
    for step in steps:
        if step.what == What.MEET:
            parts.append([])
        else:
            parts[-1].append(step.what)
    return parts


def test_a_hang_of_two_vcpus_is_made_short_though_it_comes_by_chance() -> None:
    chance = Random(2)

    class Two(_Subject):
        def __init__(self) -> None:
            super().__init__()
            self.guest = _TwoLeakingGuest(chance)

        def restore(self) -> None:
            self.restored += 1
            self.guest = _TwoLeakingGuest(chance)

    begin, meet = Step(What.BEGIN), Step(What.MEET)
    close, send, poll = (Step(what, 1, port=1) for what in (What.CLOSE, What.SEND, What.POLL))
    steps = (begin, meet, poll, meet, poll, begin, poll, meet, close, poll, meet, poll)
    hung = Hung(Batch(steps, 0, (meet, meet, meet, send, send, meet)), HANG)
    calls = _shorter(hung, Two())
    assert calls == ["vCPU 0 begin()", "they meet", "vCPU 0 close(port=0)", "vCPU 1 send(port=0)"]


def test_another_hang_is_not_the_same(hung: Hung) -> None:
    other = _Subject(Hang(cpus=(Spin(cpu=0, function="read_lock", where=""),)))
    assert len(_shorter(hung, other)) == len(hung.batch.steps)


def test_there_is_an_end(hung: Hung) -> None:
    calls = _shorter(hung, _Subject(), lambda: True)
    assert calls[-1].endswith(" does not return")


@pytest.mark.parametrize(
    "error", [LabError("no power"), HarnessError("odd"), OSError(28, "full"), KeyboardInterrupt()]
)
def test_a_hang_stays_found_if_the_machine_fails_then(hung: Hung, error: BaseException) -> None:
    noticed: list[str] = []

    class Failing(_Subject):
        def restore(self) -> None:
            if noticed:
                raise error
            super().restore()

    subject = cast(Subject, Failing())
    found = shorter_hang(hung, subject, lambda: False, noticed.append)
    assert found.seen_again and found.wrong.evidence == HANG
    assert noticed[-1].startswith("no shorter programme: ")


def test_what_is_no_hang_of_xens_ends_the_search(hung: Hung) -> None:
    subject = _Subject()
    subject.live.cause = lambda error: error  # type: ignore[method-assign]
    found = shorter_hang(hung, cast(Subject, subject), lambda: False, lambda text: None)
    assert not found.seen_again and len(found.batch.steps) == len(hung.batch.steps)
