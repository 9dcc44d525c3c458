# SPDX-License-Identifier: GPL-2.0-or-later
"""The checker's own table of answers says what the reference model says."""

from __future__ import annotations

import numpy as np
import pytest

from harness.history.check.answers import Claim, allowed, errors
from harness.history.check.states import ANYTHING, INTERDOMAIN, IPI, UNBOUND, VIRQ, encode
from harness.history.format.record import Op
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.domain import Channel, Domain, State, Vcpu, World
from harness.model.evtchn.operations import (
    BindInterdomain,
    BindVcpu,
    Close,
    Operation,
    Poll,
    Send,
    Status,
    Unmask,
)
from harness.model.evtchn.outcome import AllowedOutcome
from harness.model.evtchn.predict import predict
from harness.model.evtchn.releases import RELEASES
from harness.model.evtchn.rules import Rules, by_version

PORT, PEER = 5, 6
EINVAL = -22

# The same states as the model and as the checker write them.
STATES: dict[str, tuple[Channel, int]] = {
    "free": (Channel(), ANYTHING),
    "unbound": (Channel(State.UNBOUND, remote_dom=1), int(encode(UNBOUND, 1, 0))),
    "interdomain": (
        Channel(State.INTERDOMAIN, remote_dom=0, remote_port=PEER),
        int(encode(INTERDOMAIN, 0, PEER)),
    ),
    "VIRQ": (Channel(State.VIRQ, number=3), int(encode(VIRQ, 0, 3))),
    "per-vCPU VIRQ": (Channel(State.VIRQ, number=1), int(encode(VIRQ, 0, 1))),
    "IPI": (Channel(State.IPI), int(encode(IPI, 0, 0))),
}


def world(channel: Channel, rules: Rules) -> World:
    """A domain with the port, its peer, and another domain that may bind."""
    peer = Channel(State.INTERDOMAIN, remote_dom=0, remote_port=PORT)
    vcpus = (Vcpu(), Vcpu())
    mine = Domain(0, vcpus=vcpus, partial=True, privileged=True).with_port(PEER, peer)
    domains = (mine.with_port(PORT, channel), Domain(1, vcpus=vcpus, partial=True))
    return World(domains, rules=rules)


def claims_of(operation: Operation, outcome: AllowedOutcome) -> Claim | None:
    """Return what the checker would read from ``outcome``; None: nothing."""
    rc = outcome.result.rc
    if isinstance(operation, Send):
        return Claim.NO_PEER if rc else Claim.PEER
    if isinstance(operation, BindVcpu):
        return Claim.FIXED if rc == EINVAL else Claim.MOVABLE
    if isinstance(operation, BindInterdomain):
        return Claim.NOT_FOR_ME if rc == EINVAL else None
    if isinstance(operation, Status):
        told = outcome.result.status
        return Claim.CLOSED if told is None or told.status == 0 else Claim.EXACTLY
    return Claim.CLOSED if rc else None


OPERATIONS: list[tuple[Op, Operation]] = [
    (Op.SEND, Send(0, PORT)),
    (Op.STATUS, Status(0, DOMID_SELF, PORT)),
    (Op.CLOSE, Close(0, PORT)),
    (Op.POLL, Poll(0, (PORT,))),
    (Op.UNMASK, Unmask(0, PORT)),
    (Op.BIND_VCPU, BindVcpu(0, PORT, 1)),
    (Op.BIND_INTERDOMAIN, BindInterdomain(1, 0, PORT)),
]


@pytest.mark.parametrize(
    "rules",
    [by_version(release, point) for release in RELEASES for point in (None, 0)],
    ids=lambda rules: f"{rules.release}-{len(rules.held)}",
)
@pytest.mark.parametrize("name", STATES)
def test_what_the_model_answers_the_checker_allows(name: str, rules: Rules) -> None:
    """And a claim that the model never gives rise to in a state, the checker refuses there."""
    channel, state = STATES[name]
    for op, operation in OPERATIONS:
        seen: set[Claim] = set()
        for outcome in predict(world(channel, rules), operation):
            rc = outcome.result.rc
            assert rc >= 0 or -rc in {int(e) for e in errors(op, rules)}, (op, outcome)
            claim = claims_of(operation, outcome)
            if claim is not None:
                seen.add(claim)
                assert holds(claim, told(claim, outcome), state), (op, claim)
        if name == "free":
            continue  # the kernel's, perhaps: everything is allowed
        for claim in possible(op) - seen:
            assert not holds(claim, never(claim), state), (op, claim)


def possible(op: Op) -> set[Claim]:
    return {
        Op.SEND: {Claim.NO_PEER, Claim.PEER},
        Op.BIND_VCPU: {Claim.FIXED, Claim.MOVABLE},
        Op.BIND_INTERDOMAIN: {Claim.NOT_FOR_ME},
        Op.STATUS: {Claim.CLOSED},
    }.get(op, {Claim.CLOSED})


def told(claim: Claim, outcome: AllowedOutcome) -> int:
    if claim is Claim.NOT_FOR_ME:
        return int(encode(UNBOUND, 1, 0))
    reply = outcome.result.status
    if reply is None:
        return 0
    return int(encode(reply.status, reply.dom if reply.status < VIRQ else 0, reply.detail))


def never(claim: Claim) -> int:
    return int(encode(UNBOUND, 1, 0)) if claim is Claim.NOT_FOR_ME else 0


def holds(claim: Claim, told_: int, state: int) -> bool:
    arrays = (np.array([value], np.int64) for value in (int(claim), told_, state))
    return bool(allowed(*arrays)[0])
