# SPDX-License-Identifier: GPL-2.0-or-later
"""Random operations: the rules of channels hold after every one of them."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.domain import Domain, GuestKind, Vcpu, World
from harness.model.evtchn.invariants import step_violations, world_violations
from harness.model.evtchn.operations import (
    AllocUnbound,
    BindInterdomain,
    BindIpi,
    BindPirq,
    BindVcpu,
    BindVirq,
    Close,
    Consume,
    ExpandArray,
    Fault,
    InitControl,
    Mask,
    Operation,
    Poll,
    RaisePirq,
    RaiseVirq,
    Reset,
    Send,
    SetPriority,
    Status,
    Unmask,
    XenAlloc,
    XenNotify,
)
from harness.model.evtchn.predict import predict
from harness.model.evtchn.releases import RELEASES
from harness.model.evtchn.rules import Rules, by_version
from harness.model.evtchn.spec_rows import SPEC_ROWS
from harness.model.lock.flavours import FLAVOURS

pytestmark = pytest.mark.slow

_DOM = st.integers(0, 1)
_ANY_DOM = st.sampled_from([0, 1, 7, DOMID_SELF])
_PORT = st.integers(0, 5) | st.just(64)
_VCPU = st.integers(0, 2)
_FAULT = st.sampled_from([Fault.NONE] * 8 + [Fault.IN, Fault.OUT])

OPERATIONS: st.SearchStrategy[Operation] = st.one_of(
    st.builds(AllocUnbound, _DOM, _ANY_DOM, _ANY_DOM, _FAULT),
    st.builds(BindInterdomain, _DOM, _ANY_DOM, _PORT, _FAULT),
    st.builds(BindVirq, _DOM, st.integers(0, 24), _VCPU, _FAULT),
    st.builds(BindIpi, _DOM, _VCPU, _FAULT),
    st.builds(BindPirq, _DOM, st.integers(0, 6), _FAULT),
    st.builds(Close, _DOM, _PORT),
    st.builds(Send, _DOM, _PORT),
    st.builds(Status, _DOM, _ANY_DOM, _PORT, _FAULT),
    st.builds(BindVcpu, _DOM, _PORT, _VCPU),
    st.builds(Unmask, _DOM, _PORT),
    st.builds(SetPriority, _DOM, _PORT, st.integers(0, 16)),
    st.builds(Reset, _DOM, _ANY_DOM, st.booleans()),
    st.builds(InitControl, _DOM, _VCPU, st.sampled_from([0, 4, 4032]), st.booleans()),
    st.builds(ExpandArray, _DOM, st.booleans()),
    st.builds(Poll, _DOM, st.lists(_PORT, max_size=3).map(tuple), st.integers(0, 1)),
    st.builds(RaiseVirq, _DOM, st.integers(0, 23), st.integers(0, 1)),
    st.builds(RaisePirq, _DOM, st.integers(0, 6)),
    st.builds(XenAlloc, _DOM, _DOM, st.integers(0, 1)),
    st.builds(XenNotify, _DOM, _PORT),
    st.builds(Mask, _DOM, _PORT),
    st.builds(Consume, _DOM, _PORT),
)


class Channels(RuleBasedStateMachine):
    """Two domains do anything at all; any allowed outcome may be the one that happens."""

    @initialize(
        rules=st.sampled_from([by_version(r, point) for r in RELEASES for point in (None, 0)]),
        kind=st.sampled_from([kind for kind in GuestKind if kind is not GuestKind.SHIM]),
        scarce=st.booleans(),
        paused=st.booleans(),
        limit=st.sampled_from([3, 5, 1023]),
    )
    def boot(self, rules: Rules, kind: GuestKind, scarce: bool, paused: bool, limit: int) -> None:
        vcpus = (Vcpu(), Vcpu())
        pirqs = frozenset({1, 2})
        dom0 = Domain(0, privileged=True, vcpus=vcpus, pirqs=pirqs)
        guest = Domain(1, kind=kind, vcpus=vcpus, max_port=limit, paused=paused, nr_pirqs=6)
        self.world = World((dom0, guest), rules=rules, scarce=scarce)

    @rule(
        operation=OPERATIONS,
        flavour=st.sampled_from(list(FLAVOURS.values())),
        writer_inside=st.booleans(),
        choice=st.integers(0, 7),
    )
    def operate(
        self, operation: Operation, flavour: object, writer_inside: bool, choice: int
    ) -> None:
        outcomes = predict(
            self.world,
            operation,
            flavour=flavour,  # type: ignore[arg-type]
            writer_inside=writer_inside,
        )
        assert outcomes
        assert len(set(outcomes)) == len(outcomes)
        for outcome in outcomes:
            assert not step_violations(self.world, operation, outcome)
            assert set(outcome.rows) <= SPEC_ROWS
            hash(outcome.world)
        self.world = outcomes[choice % len(outcomes)].world

    @invariant()
    def sound(self) -> None:
        if hasattr(self, "world"):
            assert not world_violations(self.world)


Channels.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestChannels = Channels.TestCase
