# SPDX-License-Identifier: GPL-2.0-or-later
"""Two vCPUs at once: what some order explains is right, and what none explains is not."""

from __future__ import annotations

from random import Random

import pytest

from harness.fuzz.concurrent import BUCKETS, concurrent_programme
from harness.fuzz.follow import Follower
from harness.fuzz.guest import ProgrammeGuest, Timed
from harness.fuzz.hunt import Batch, Hunt
from harness.fuzz.judge import explain_round
from harness.fuzz.orders import RoundsJudged, grown, judge_rounds, rounds
from harness.fuzz.programme import TIMED, Seen, Step, TimedSeen, What, decode_timed
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.domain import World
from harness.model.lock.flavours import COUNTER, RWLOCK, Flavour

from .model_guest import DOMID, WORLD, Lie

HZ = 1_000_000_000
_SPAN = 10_000  # ns of an operation: longer than the slack of the clocks
_ALLOC = Step(What.ALLOC_UNBOUND, port=DOMID_SELF, value=DOMID_SELF)


class TwoVcpus(ProgrammeGuest):
    """Makes the steps of two vCPUs in a random order that keeps to the meetings, by the model;
    ``lie`` changes what is seen."""

    def __init__(self, chance: Random, lie: Lie = lambda _f, _step, seen: seen) -> None:
        self.number = 1
        self.chance = chance
        self.lie = lie
        self._world = WORLD

    def run_timed(self, both: tuple[tuple[Step, ...], tuple[Step, ...]]) -> Timed:  # type: ignore[override]
        follower = Follower(self._world, DOMID)
        seen: tuple[list[bytes], list[bytes]] = ([], [])
        at, met, now = [0, 0], [0, 0], 0
        while any(at[v] < len(both[v]) for v in range(2)):
            vcpu = self.chance.choice([v for v in range(2) if _ready(both, at, met, v)])
            step = both[vcpu][at[vcpu]]
            met[vcpu] += step.what == What.MEET
            port, value = follower.port(step), follower.value(step)
            told = self.lie(follower, step, follower.follow(step).seen)
            seen[vcpu].append(TIMED.pack(*told, now, now + _SPAN, port, value))
            at[vcpu] += 1
            now += self.chance.choice((_SPAN, _SPAN + 5000))
        self._world = follower.world
        return Timed((b"".join(seen[0]), b"".join(seen[1])), HZ)


def _ready(
    both: tuple[tuple[Step, ...], tuple[Step, ...]], at: list[int], met: list[int], vcpu: int
) -> bool:
    if at[vcpu] == len(both[vcpu]):
        return False
    other = 1 - vcpu
    return met[vcpu] <= met[other] or at[other] == len(both[other])


def _seen(step: Step, result: int, call: int, ret: int) -> TimedSeen:
    return TimedSeen(Seen(result, 0), call, ret, step.port, step.value)


def _judged(
    first: list[tuple[Step, int, int, int]],
    second: list[tuple[Step, int, int, int]],
    world: World = WORLD,
    flavour: Flavour = RWLOCK,
) -> RoundsJudged:
    steps = tuple([each[0] for each in part] for part in (first, second))
    seen = tuple([_seen(*each) for each in part] for part in (first, second))
    found = rounds((steps[0], steps[1]), (seen[0], seen[1]), DOMID)
    return judge_rounds(found, world, flavour, HZ)


@pytest.mark.parametrize("seed", range(3))
def test_what_the_model_makes_is_explained(seed: int) -> None:
    chance = Random(seed)
    hunt = Hunt(TwoVcpus(chance), WORLD, DOMID)
    for _ in range(2):
        first, second = concurrent_programme(chance)
        assert hunt.batch(Batch(first, 0, second)) is None
    assert hunt.counts.concurrent > 1000
    assert hunt.counts.undecided < hunt.counts.concurrent / 5


def test_a_port_given_away_twice_is_found() -> None:
    """An allocation gives a port that is open already, once."""
    lies = iter([True])

    def lie(follower: Follower, step: Step, seen: Seen) -> Seen:
        if step.what != What.ALLOC_UNBOUND or seen.result < 0:
            return seen
        others = [p for p, c in follower.domain.ports if c.state > 1 and p != seen.result]
        if not others or not next(lies, False):
            return seen
        return seen._replace(result=others[0])

    chance = Random(5)
    hunt = Hunt(TwoVcpus(chance, lie), WORLD, DOMID)
    found = hunt.batch(Batch(*_split(concurrent_programme(chance))))
    assert found is not None
    message, calls = found.wrong.lines
    assert message.startswith("order") and "alloc_unbound(" in calls and "vCPU 1 [" in calls


def _split(
    both: tuple[tuple[Step, ...], tuple[Step, ...]],
) -> tuple[tuple[Step, ...], int, tuple[Step, ...]]:
    return both[0], 0, both[1]


def test_operations_at_the_same_time_may_be_made_in_either_order() -> None:
    close = Step(What.CLOSE, port=1)
    for closed in (0, -22):
        assert not _judged([(_ALLOC, 1, 0, 9000)], [(close, closed, 10, 9000)]).wrong


def test_but_not_in_one_that_the_clock_forbids() -> None:
    close = Step(What.CLOSE, port=1)
    judged = _judged([(_ALLOC, 1, 0, 1000)], [(close, -22, 90_000, 91_000)])
    assert [made.seen.seen.result for made in judged.wrong] == [1, -22]
    told = explain_round(judged, DOMID)
    assert told.calls[-1] == "vCPU 1 [90000..91000] close(port=1) = -EINVAL"


def test_a_send_may_be_dropped_under_a_writer_where_the_lock_only_tries() -> None:
    """The port is a VIRQ's all the time: without the drop it is refused."""
    virq = Step(What.BIND_VIRQ, port=7)
    send = Step(What.SEND, port=1)
    refused, dropped = -22, 0
    for flavour, result, wrong in (
        (COUNTER, refused, False),
        (COUNTER, dropped, False),
        (RWLOCK, refused, False),
        (RWLOCK, dropped, True),
    ):
        judged = _judged([(virq, 1, 0, 9000)], [(send, result, 10, 9000)], flavour=flavour)
        assert bool(judged.wrong) is wrong


def test_what_is_not_judged_is_counted() -> None:
    take = Step(What.TAKE)
    judged = _judged([(_ALLOC, 1, 0, 9000), (take, 3, 9000, 9100)], [(take, 0, 0, 1)])
    assert (judged.operations, judged.undecided, judged.wrong) == (1, 2, ())


def test_how_many_ports_there_are_is_learnt_at_the_end() -> None:
    asked = [_seen(Step(What.STATUS, port=port), 0 if port < 150 else -22, 0, 1)
             for port in BUCKETS]  # fmt: skip
    assert grown(WORLD, asked).domains[0].valid == 192


def test_times_come_back() -> None:
    chance = Random(1)
    first, second = concurrent_programme(chance)
    timed = TwoVcpus(chance).run_timed((first, second))
    assert len(decode_timed(timed.seen[0])) == len(first)
    assert len(decode_timed(timed.seen[1])) == len(second)


def test_after_a_round_with_too_many_orders_nothing_is_decided(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harness.fuzz.orders._MOST_TRIED", 2)
    meet = (Step(What.MEET), 0, 9000, 9100)
    judged = _judged(
        [(_ALLOC, 1, 0, 9000), meet, (_ALLOC, 99, 9200, 9300)],
        [(_ALLOC, 2, 0, 9000), meet, (_ALLOC, 98, 9200, 9300)],
    )
    assert (judged.operations, judged.undecided, judged.wrong) == (0, 4, ())
