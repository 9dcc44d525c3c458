# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules of channels can fail: each is shown a state or a step that breaks it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.model.evtchn.domain import Channel, Domain, SharedBits, State, Vcpu, World
from harness.model.evtchn.invariants import (
    WRITER_RULE,
    explore_worlds,
    step_violations,
    world_violations,
)
from harness.model.evtchn.operations import AllocUnbound, Close, Operation, Result, Send
from harness.model.evtchn.outcome import AllowedOutcome
from harness.model.evtchn.predict import predict
from harness.model.findings import channel_operations

GUEST = Domain(1)
WORLD = World((Domain(0, privileged=True), GUEST))


def guest(*ports: tuple[int, Channel]) -> World:
    domain = GUEST
    for port, channel in ports:
        domain = domain.with_port(port, channel)
    return WORLD.with_domain(domain)


@pytest.mark.parametrize(
    ("world", "words"),
    [
        (guest((0, Channel())), ""),
        (guest((3, Channel(State.RESERVED))), "port 0, and only it, is RESERVED"),
        (guest((3, Channel(State.INTERDOMAIN, 0, 9))), "its peer does not point back"),
        (guest((3, Channel(vcpu=1))), "FREE but not reset"),
        (
            guest((3, Channel(State.VIRQ, number=3)), (4, Channel(State.VIRQ, number=3, vcpu=1))),
            "VIRQ 3 is bound twice",
        ),
        (guest((64, Channel(State.IPI))), "in use but not valid"),
        (WORLD.with_domain(replace(GUEST, valid=65)), "no multiple of 64"),
    ],
)
def test_a_broken_state_is_noticed(world: World, words: str) -> None:
    found = " ".join(world_violations(world))
    assert words in found
    assert bool(found) is bool(words)


IPI, PIRQ = Channel(State.IPI), Channel(State.PIRQ)
HELD = guest((1, IPI))


@pytest.mark.parametrize(
    ("operation", "before", "after", "rc", "port", "words"),
    [
        (Close(1, 1), HELD, guest((1, PIRQ)), 0, None, WRITER_RULE),
        (Close(1, 1), HELD, guest(), -22, None, "failed, and changed"),
        (Send(1, 1), HELD, guest(), 0, None, "no writer, but changed"),
        (AllocUnbound(1, 1, 0), HELD, HELD, 0, 2, "returned port 2 but opened []"),
        (
            Send(1, 1),
            guest((1, replace(IPI, bits=SharedBits(pending=True)))),
            HELD,
            0,
            None,
            "no longer pending",
        ),
    ],
)
def test_a_broken_step_is_noticed(
    operation: Operation, before: World, after: World, rc: int, port: int | None, words: str
) -> None:
    outcome = AllowedOutcome(Result(rc, port), after, ("close: FREE",))
    assert words in " ".join(step_violations(before, operation, outcome))


def test_every_state_of_a_small_world_keeps_the_rules() -> None:
    world = World((Domain(0, privileged=True, max_port=1), Domain(1, max_port=1, vcpus=(Vcpu(),))))
    visited = explore_worlds(world, channel_operations(), 5000)
    assert visited.exhausted
    assert visited.states > 100
    assert not visited.violations


def test_a_visit_that_stops_early_says_so() -> None:
    assert not explore_worlds(WORLD, channel_operations(), 10).exhausted


def test_the_peer_of_a_closed_channel_is_what_keeps_the_writer_rule() -> None:
    """Were the peer freed to INTERDOMAIN with itself, say, the rule would be broken."""
    world = WORLD
    for operation in (AllocUnbound(1, 1, 0), AllocUnbound(0, 0, 1)):
        world = predict(world, operation)[0].world
    bad = world.with_domain(GUEST.with_port(1, Channel(State.INTERDOMAIN, 0, 1)))
    assert world_violations(bad)
