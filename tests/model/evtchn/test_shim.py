# SPDX-License-Identifier: GPL-2.0-or-later
"""What xen-shim answers otherwise than Xen, in the model: and what it answers as Xen does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.model.evtchn import shim
from harness.model.evtchn.abi import DOMID_SELF, Errno
from harness.model.evtchn.domain import Domain, GuestKind, State, Vcpu, World
from harness.model.evtchn.operations import (
    AllocUnbound,
    BindInterdomain,
    BindIpi,
    BindPirq,
    BindVcpu,
    BindVirq,
    Close,
    ExpandArray,
    Fault,
    InitControl,
    Operation,
    Reset,
    Send,
    SetPriority,
    Status,
    UnknownOp,
)
from harness.model.evtchn.outcome import AllowedOutcome, existing_domain
from harness.model.evtchn.predict import predict
from harness.model.evtchn.releases import Release
from harness.model.evtchn.rules import by_version

GUEST = 1
VIRQ = 7
DOCS = Path(__file__).parents[3] / "docs" / "conformance.md"
NEW = World(
    (Domain(0, privileged=True), Domain(GUEST, kind=GuestKind.SHIM, vcpus=(Vcpu(),) * 2)),
    by_version(Release(4, 17)),
)
PV = NEW.with_domain(replace(existing_domain(NEW, GUEST), kind=GuestKind.PV))
ALLOC = AllocUnbound(GUEST, DOMID_SELF, DOMID_SELF)
# By divergence: operations of a new guest, of which the last one shows it.
SHOWN: dict[str, tuple[Operation, ...]] = {
    "not-supported": (InitControl(GUEST, 0),),
    "no-reset-cont": (Reset(GUEST, DOMID_SELF, resume=True),),
    "reset-loses-ports": (ALLOC, Reset(GUEST, DOMID_SELF)),
    "close-of-a-closed-port-loses-it": (ALLOC, Close(GUEST, 1), Close(GUEST, 1)),
    "lost-port": (ALLOC, Reset(GUEST, DOMID_SELF), ALLOC),
    "send-to-a-virq": (BindVirq(GUEST, VIRQ), Send(GUEST, 1)),
    "bind-vcpu-port-before-vcpu": (BindVcpu(GUEST, 64, 2),),
}


def made(world: World, *operations: Operation) -> AllowedOutcome:
    """What the last of ``operations``, made in a row, may come to; it is one thing."""
    for operation in operations:
        (outcome,) = predict(world, operation)
        world = outcome.world
    return outcome


@pytest.mark.parametrize("each", shim.TABLE, ids=lambda each: each.name)
def test_each_divergence_is_one(each: shim.Divergence) -> None:
    """The shim's answer, or what it leaves behind, is not what Xen does for a PV guest."""
    seen = made(NEW, *SHOWN[each.name])
    assert seen.rows == (each.row,)
    xen = made(PV, *SHOWN[each.name])
    ports = (existing_domain(o.world, GUEST).ports for o in (seen, xen))
    assert seen.result != xen.result or len(set(ports)) == 2


def test_the_page_tells_each_divergence() -> None:
    page = DOCS.read_text()
    assert [each.name for each in shim.TABLE] == list(SHOWN)
    for each in shim.TABLE:
        assert f"| {each.name} | {each.says} |\n" in page


@pytest.mark.parametrize(
    "operation",
    [
        ExpandArray(GUEST, fault=Fault.IN),
        SetPriority(GUEST, 1, 3, Fault.IN),
        BindPirq(GUEST, 17, Fault.IN),
        UnknownOp(GUEST, 99),
    ],
)
def test_what_is_not_supported_is_not_even_read(operation: Operation) -> None:
    assert made(NEW, operation).result.rc == -Errno.EOPNOTSUPP


@pytest.mark.parametrize("again", [ALLOC, BindIpi(GUEST, 0), BindVirq(GUEST, VIRQ)])
def test_a_lost_port_keeps_every_other_from_being_given(again: Operation) -> None:
    """Xen gives out the lowest free port, and the shim refuses it for ever."""
    lost = made(NEW, ALLOC, ALLOC, Close(GUEST, 1), Close(GUEST, 1)).world
    assert shim.lost(existing_domain(lost, GUEST)) == (1,)
    for _ in range(2):
        outcome = made(lost, again)
        assert (outcome.result.rc, outcome.world) == (-Errno.EBUSY, lost)
    (status,) = predict(lost, Status(GUEST, DOMID_SELF, 1))
    assert status.result.status is not None and status.result.status.status == 0, "closed"


def test_what_xen_refuses_is_refused_before_the_shim_refuses_the_port() -> None:
    lost = made(NEW, ALLOC, BindIpi(GUEST, 0), Close(GUEST, 1), Close(GUEST, 1)).world
    refused = made(lost, BindIpi(GUEST, 2)), made(lost, BindInterdomain(GUEST, GUEST, 2))
    assert [each.result.rc for each in refused] == [-Errno.ENOENT, -Errno.EINVAL]


def test_dom0_and_other_guests_are_answered_by_xen() -> None:
    world = replace(NEW, domains=(*NEW.domains, Domain(2)))
    assert made(world, AllocUnbound(2, DOMID_SELF, 0), SetPriority(2, 1, 3)).result.rc < 0
    assert made(world, UnknownOp(2, 99)).result.rc == -Errno.ENOSYS
    assert made(world, AllocUnbound(0, GUEST, 0)).result.port == 1


def test_a_port_that_was_reset_is_lost_and_its_peer_sees_it_closed() -> None:
    bound = made(NEW, AllocUnbound(0, DOMID_SELF, GUEST), BindInterdomain(GUEST, 0, 1)).world
    after = made(bound, Reset(GUEST, DOMID_SELF)).world
    assert shim.lost(existing_domain(after, GUEST)) == (1,)
    assert existing_domain(after, 0).port(1).state is State.UNBOUND
