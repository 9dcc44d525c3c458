# SPDX-License-Identifier: GPL-2.0-or-later
"""Operations in one message are judged word for word as they are one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.conformance.bare import Bare, Take
from harness.conformance.cells import RELEASES
from harness.conformance.guest import Domains, Guest
from harness.conformance.planned import NotAsPlanned, Plan
from harness.conformance.reference_model import Disagreement
from harness.conformance.sequences import RandomStep, make, make_all, random_steps
from harness.model.evtchn.operations import AllocUnbound, BindIpi, Operation, Poll, Send
from harness.model.evtchn.outcome import AllowedOutcome
from harness.model.evtchn.rules import by_version

from .model_agent import ModelHost
from .test_reference_model import RELEASE, WORLD, domains_of


def _domains(host: ModelHost) -> tuple[Domains, Bare]:
    domains = domains_of(host)
    domains.model.others = tuple(by_version(r) for r in RELEASES if r != RELEASE)
    bare = domains.guests["bare"]
    assert isinstance(bare, Bare)
    return domains, bare


def _one_by_one(guests: list[Guest], found: list[RandomStep]) -> None:
    bare = guests[0]
    assert isinstance(bare, Bare)
    bare.begin()
    for step in found:
        make(guests[step.guest % 2], step)


def _told(
    way: Callable[[list[Guest], list[RandomStep]], None],
    found: list[RandomStep],
    wrong: Operation | None,
) -> tuple[object, ...]:
    """Return all that the judge says when the sequence is made in that way.

    The real Xen refuses the operation ``wrong``, each time.
    """

    def lie(made: Operation, outcome: AllowedOutcome) -> AllowedOutcome:
        if made != wrong:
            return outcome
        return replace(outcome, result=replace(outcome.result, rc=-99, port=None))

    host = ModelHost(WORLD)
    domains, bare = _domains(host)
    host.lie = lie
    model = domains.model
    said = ""
    try:
        way([bare, domains.guests["dom0"]], found)
    except Disagreement as error:
        said = f"{error}\n{error.story}\n{error.where}"
    world = (
        None if said else model.world
    )  # after a disagreement, one way has made more than another
    return said, world, model.exercised, model.differences, model.operations, model.story()


_SEEDS = st.integers(0, 1 << 32)


@settings(max_examples=40, deadline=None)
@given(_SEEDS)
def test_the_judge_says_the_same_in_both_ways(seed: int) -> None:
    found = random_steps(Random(seed), 2)
    assert _told(make_all, found, None) == _told(_one_by_one, found, None)


@settings(max_examples=40, deadline=None)
@given(_SEEDS, st.integers(0, 10_000))
def test_and_the_same_of_a_xen_that_is_wrong(seed: int, which: int) -> None:
    found = random_steps(Random(seed), 2)
    host = ModelHost(WORLD)
    domains, bare = _domains(host)
    _one_by_one([bare, domains.guests["dom0"]], found)
    polls = (Poll,)  # of these more are made in one way than in the other
    made = [each for each in host.made if not isinstance(each, polls)]
    wrong = made[which % len(made)]
    together, alone = _told(make_all, found, wrong), _told(_one_by_one, found, wrong)
    assert together == alone


def _listen(bare: Bare) -> list[bytes]:
    """Return the list of the messages that are sent to ``bare`` from now on."""
    sent: list[bytes] = []
    channel = bare.agent.connection._channel
    write = channel.write

    def heard(data: bytes) -> None:
        sent.append(data)
        write(data)

    channel.write = heard  # type: ignore[method-assign]
    return sent


def test_all_goes_in_one_message() -> None:
    _, bare = _domains(ModelHost(WORLD))
    sent = _listen(bare)
    plan = Plan(bare)
    assert plan.begin() and plan.add(BindIpi(bare.domid, 1)) and plan.add(Send(bare.domid, 1))
    assert plan.add(Take(1)) and plan.add(Poll(bare.domid, (1,), 0))
    assert sent == []
    plan.run()
    assert len(sent) == 1
    verbs = [line.split()[0] for line in sent[0].decode().splitlines()]
    assert verbs == [
        *("reset", "clear_2l", "bind_ipi", "look", "send", "look", "handle_upcall"),
        "poll",
    ]
    assert b"\nlook ports=1 status=1\n" in sent[0] and b" give_up_us=1000\n" in sent[0]
    plan.run()
    assert len(sent) == 1, "nothing is left"


def test_what_another_domain_sees_has_to_be_made_alone() -> None:
    domains, bare = _domains(ModelHost(WORLD))
    dom0 = domains.guests["dom0"]
    port = dom0.alloc_unbound(bare.domid)
    near = bare.bind_interdomain(0, port)
    before = domains.model.world
    plan = Plan(bare)
    assert not plan.add(Send(bare.domid, near)), "it makes a port of dom0 pending"
    plan.run()
    assert domains.model.world == before


def test_after_a_disagreement_the_model_knows_what_was_made_all_the_same() -> None:
    def lie(made: Operation, outcome: AllowedOutcome) -> AllowedOutcome:
        wrong = isinstance(made, Send) and made.port == 77
        return replace(outcome, result=replace(outcome.result, rc=0)) if wrong else outcome

    host = ModelHost(WORLD, lie)
    _, bare = _domains(host)
    plan = Plan(bare)
    plan.begin()
    for _ in range(3):
        plan.add(Send(bare.domid, 77))
        plan.add(AllocUnbound(bare.domid, bare.domid, 0))
    with pytest.raises(Disagreement):
        plan.run()
    assert bare.now == host.domain(bare.domid) and bare.now.port(3).state
    bare.status(3)  # no answer of the message is left over


def test_a_poll_that_is_not_as_planned_is_made_many_times() -> None:
    """The guest lost its CPU in a poll that returned at once: that looks like a sleep."""
    host = ModelHost(WORLD, busy=1.0)
    _, bare = _domains(host)
    plan = Plan(bare)
    plan.begin()
    plan.add(BindIpi(bare.domid, 0))
    plan.add(Send(bare.domid, 1))
    plan.add(Take(0))
    plan.add(Send(bare.domid, 1))
    plan.add(Poll(bare.domid, (1,), 0))
    with pytest.raises(NotAsPlanned):
        plan.run()


def test_then_the_sequence_is_made_again_one_by_one() -> None:
    host = ModelHost(WORLD, busy=0.5)
    domains, bare = _domains(host)
    sent = _listen(bare)
    ipi, send, take, poll = ((0, 4, 0), (0, 7, 0), (0, 18, 1), (0, 12, 0))
    found = [RandomStep(*each, 1, 0) for each in (ipi, send, take, send, *[poll] * 9)]
    make_all([bare, domains.guests["dom0"]], found)
    assert len(sent) > 9 and sent[1] == b"reset owner=32752\n"
    assert "poll: 0 at once, pending" in {each.row for each in domains.model.exercised}
