# SPDX-License-Identifier: GPL-2.0-or-later
"""Two vCPUs at once: what some order explains is right, and what none explains is not."""

from __future__ import annotations

from random import Random

import pytest

from harness.fuzz import hunt as hunt_module
from harness.fuzz.batches import Batch
from harness.fuzz.concurrent import BUCKETS, concurrent_programme
from harness.fuzz.follow import Follower
from harness.fuzz.hunt import Hunt
from harness.fuzz.judge import explain_rounds
from harness.fuzz.orders import RoundJudge, RoundsJudged
from harness.fuzz.programme import Flag, Seen, Step, TimedSeen, What, decode_timed
from harness.fuzz.rounds import grown, rounds
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.changed import replace
from harness.model.evtchn.domain import World
from harness.model.lock.flavours import COUNTER, RWLOCK, Flavour

from .model_guest import DOMID, HZ, WORLD, TwoVcpus, encode_timed

_ALLOC = Step(What.ALLOC_UNBOUND, port=DOMID_SELF, value=DOMID_SELF)


def _seen(step: Step, result: int, call: int, ret: int) -> TimedSeen:
    return TimedSeen(Seen(result, 0), call, ret, step.port, step.value)


def _judged(
    first: list[tuple[Step, int, int, int]],
    second: list[tuple[Step, int, int, int]],
    world: World = WORLD,
    flavour: Flavour = RWLOCK,
) -> RoundsJudged:
    steps = tuple([each[0] for each in part] for part in (first, second))
    seen = tuple(encode_timed(_seen(*each) for each in part) for part in (first, second))
    found = rounds((steps[0], steps[1]), (seen[0], seen[1]), DOMID)
    return RoundJudge(DOMID, flavour).judge(found, world, HZ)


@pytest.mark.parametrize("seed", range(3))
def test_what_the_model_makes_is_explained(seed: int) -> None:
    chance = Random(seed)
    hunt = Hunt(TwoVcpus(chance), WORLD, DOMID)
    for _ in range(2):
        first, second = concurrent_programme(chance)
        assert hunt.batch(Batch(first, 0, second)) is None
    assert hunt.counts.concurrent > 1000
    assert hunt.counts.undecided < hunt.counts.concurrent / 5


def test_a_port_given_away_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An allocation gives a port that is open already, once: it is looked for again in vain."""
    monkeypatch.setattr(hunt_module, "_SECONDS_OF_TWO", 1.0)
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
    assert judged.wrong is not None
    made = [one for part in judged.wrong.round.made for one in part]
    assert [one.seen.seen.result for one in made] == [1, -22]
    told = explain_rounds(judged.wrong, DOMID)
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
    assert (judged.operations, judged.undecided, judged.wrong) == (1, 2, None)


def test_how_many_ports_there_are_is_learnt_at_the_end() -> None:
    asked = [Step(What.STATUS, port=port, value=DOMID_SELF) for port in BUCKETS]
    made = [(step, _seen(step, 0 if step.port < 150 else -22, 0, 1)) for step in asked]
    assert grown(WORLD, made).domains[0].valid == 192


def test_or_by_the_ports_that_were_given_if_nobody_asks() -> None:
    """As in a programme that was cut off where Xen hung, or that a person has edited."""
    close = Step(What.CLOSE, port=5)
    made = [(close, _seen(close, 0, 0, 1)), (_ALLOC, _seen(_ALLOC, 3, 0, 1))]
    assert grown(WORLD, made).domains[0].valid == 64
    made += [(_ALLOC, _seen(_ALLOC, 64, 0, 1))]
    assert grown(WORLD, made).domains[0].valid == 128


def test_a_failed_bind_may_have_made_a_bucket_with_fifo() -> None:
    """All of the first bucket were linked; only the answer about port 64 tells that."""
    (domain,) = WORLD.domains
    fifo = WORLD.with_domain(replace(domain, fifo=True, array_pages=1))
    bind = Step(What.BIND_INTERDOMAIN, port=9, value=DOMID_SELF)
    ask = Step(What.STATUS, port=64, value=DOMID_SELF)
    for answer in (0, -22):
        made = [(bind, -22, 0, 10), (ask, answer, 20, 30)]
        assert not _judged(made, [], world=fifo).wrong
    assert _judged([(ask, 0, 20, 30)], [], world=WORLD).wrong, "2L skips no port"


_MEET = Step(What.MEET)


def test_a_meeting_that_nobody_came_to_makes_the_rest_undecided() -> None:
    """vCPU 0 has waited long enough: its allocation was made before vCPU 1's, of an earlier round,
    which no order of the rounds allows."""
    late = _judged(
        [(_MEET, -110, 0, 10), (_ALLOC, 1, 20, 30), (_MEET, 0, 40, 50), (_ALLOC, 3, 60, 70)],
        [(_ALLOC, 2, 40, 50), (_MEET, 0, 60, 70), (_MEET, 0, 71, 72)],
    )
    assert (late.wrong, late.operations, late.undecided) == (None, 0, 3)
    both = _judged(
        [(_MEET, 0, 0, 10), (_ALLOC, 1, 20, 30)], [(_ALLOC, 2, 40, 50), (_MEET, 0, 0, 1)]
    )
    assert both.wrong


def test_what_comes_after_a_round_with_too_many_orders_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harness.fuzz.orders._MOST_TRIED", 0)
    judged = _judged(
        [(_ALLOC, 1, 0, 10), (_MEET, 0, 20, 30), (_ALLOC, 3, 40, 50)],
        [(_ALLOC, 2, 0, 10), (_MEET, 0, 20, 30)],
    )
    assert (judged.wrong, judged.operations, judged.undecided) == (None, 0, 3)


def test_an_argument_that_cannot_be_read_is_none_in_a_round_either() -> None:
    bad = Step(What.SEND, int(Flag.FAULT_IN), port=1)
    assert not _judged([(bad, -14, 0, 10)], [(_ALLOC, 1, 0, 10)]).wrong


def test_a_programme_without_a_meeting_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was cut off where Xen hung.  What vCPU 0 makes before it meets vCPU 1 is judged, too."""
    steps = (Step(What.BEGIN), _ALLOC)
    hunt = Hunt(TwoVcpus(Random(1)), WORLD, DOMID)
    assert hunt.batch(Batch(steps, 0, (_MEET,))) is None

    def lie(_follower: Follower, step: Step, seen: Seen) -> Seen:
        return seen._replace(result=7) if step.what == What.ALLOC_UNBOUND else seen

    hunt = Hunt(TwoVcpus(Random(1), lie), WORLD, DOMID)
    monkeypatch.setattr(hunt, "shows", lambda _steps, _vcpu: None)
    found = hunt.batch(Batch((*steps, _MEET), 0, (_MEET,)))
    assert found is not None and found.batch == Batch(steps, 0) and not found.seen_again


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
    assert (judged.operations, judged.undecided, judged.wrong) == (0, 4, None)


def _status(port: int) -> Step:
    return Step(What.STATUS, port=port, value=DOMID_SELF)


def _after_a_missed_meeting(last: tuple[Step, int, int, int]) -> RoundsJudged:
    """vCPU 1 comes late to a meeting; later vCPU 0 looks what is there, begins anew, and has been
    given port 70 before that."""
    begin, alloc = Step(What.BEGIN), (_ALLOC, 1, 40, 50)
    return _judged(
        [
            *((_ALLOC, port, 0, 9) for port in range(1, 65)),
            (_MEET, -110, 10, 20),
            (_status(1), 0, 21, 22),
            (_MEET, 0, 23, 24),
            (_status(1), 0, 25, 26),
            (_MEET, 0, 27, 28),
            (_status(1), 0, 29, 30),
            (begin, 0, 31, 32),
            alloc,
            last,
        ],
        [(_MEET, 0, 21, 22), (_MEET, 0, 23, 24), (_MEET, 0, 27, 28)],
    )


def test_after_a_missed_meeting_all_is_known_again_from_the_reset_on_and_not_before() -> None:
    """What vCPU 0 sees in that round before it begins anew, nothing is known of."""
    judged = _after_a_missed_meeting((_ALLOC, 2, 60, 70))
    assert judged.wrong is None and judged.undecided == 64 + 3
    assert _after_a_missed_meeting((_ALLOC, 1, 60, 70)).wrong


def test_how_many_ports_there_are_is_known_after_a_missed_meeting() -> None:
    """Xen keeps its buckets of channels over a reset: port 64 is one that is closed."""
    assert not _after_a_missed_meeting((_status(64), 0, 60, 70)).wrong


def test_how_many_ports_a_judged_round_has_made_is_known_as_well() -> None:
    steps = [(_ALLOC, port, 0, 9) for port in range(1, 65)]
    late = [(_MEET, -110, 21, 22), (_MEET, 0, 23, 24), (_MEET, 0, 25, 26)]
    again = [(Step(What.BEGIN), 0, 31, 32), (_status(64), 0, 60, 70)]
    judged = _judged(
        [*steps, (_MEET, 0, 10, 20), *late, *again], [(_MEET, 0, 10, 20), *late], flavour=RWLOCK
    )
    assert judged.wrong is None and judged.operations == 64 + 2
