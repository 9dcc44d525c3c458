# SPDX-License-Identifier: GPL-2.0-or-later
"""The list of differences between releases: complete, and nothing in it that is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.domain import Channel, Domain, GuestKind, State, Vcpu, World
from harness.model.evtchn.operations import (
    BindIpi,
    BindPirq,
    BindVirq,
    Operation,
    Poll,
    Send,
    Status,
    Unmask,
)
from harness.model.evtchn.predict import predict
from harness.model.evtchn.release_differences import DIFFERENCES, differing_rows
from harness.model.evtchn.releases import RELEASES, Release
from harness.model.evtchn.spec_rows import SPEC_ROWS

_PORTS = (
    (0, Channel(State.RESERVED)),
    (1, Channel(State.UNBOUND, 1)),
    (2, Channel(State.IPI, vcpu=1)),
    (3, Channel(State.UNBOUND, 0, consumer=True)),
)
_GUEST = Domain(
    1,
    kind=GuestKind.ARM,
    vcpus=(Vcpu(control_block=True), Vcpu()),
    fifo=True,
    array_pages=1,
    ports=_PORTS,
)
_WORLD = World((Domain(0, privileged=True), _GUEST))
_OPERATIONS: tuple[Operation, ...] = (
    *(Send(1, port) for port in range(5)),
    *(Poll(1, (port,)) for port in range(5)),
    *(Status(1, DOMID_SELF, port) for port in range(5)),
    *(Unmask(1, port) for port in range(5)),
    BindPirq(1, 3),
    BindVirq(1, 11),
    BindVirq(1, 15),
    BindIpi(1, 0),
)


def test_rules_and_rows_exist() -> None:
    for difference in DIFFERENCES:
        assert isinstance(getattr(Release, difference.rule), property)
        assert set(difference.rows) <= SPEC_ROWS
    rules = {name for name, value in vars(Release).items() if isinstance(value, property)}
    assert rules == {difference.rule for difference in DIFFERENCES}


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_does_not_differ_from_itself(release: Release) -> None:
    assert differing_rows(release, release) == frozenset()


@given(st.sampled_from(RELEASES), st.sampled_from(RELEASES), st.sampled_from(_OPERATIONS))
def test_what_differs_is_listed(one: Release, other: Release, operation: Operation) -> None:
    here = predict(replace(_WORLD, release=one), operation)
    there = {
        (o.result, replace(o.world, release=one))
        for o in predict(replace(_WORLD, release=other), operation)
    }
    for outcome in here:
        if (outcome.result, outcome.world) not in there:
            assert outcome.row in differing_rows(one, other)
