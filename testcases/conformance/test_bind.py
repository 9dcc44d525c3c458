# SPDX-License-Identifier: GPL-2.0-or-later
"""EVTCHNOP_bind_interdomain, bind_virq, bind_ipi, bind_pirq."""

from __future__ import annotations

import pytest

from harness.conformance.guest import Guest
from harness.model.evtchn.domain import State

NOBODY = 0x7FEF
VIRQ_TIMER, VIRQ_DEBUG, VIRQ_XENOPROF, VIRQ_DEBUGGER, VIRQ_PMU = 0, 1, 7, 6, 13
ARCH_VIRQS = range(16, 24)
UNUSED = 15  # a global VIRQ that nobody raises


@pytest.mark.cells(
    "bind_interdomain: both INTERDOMAIN, local pending",
    "send: peer pending",
    "close: FREE, peer UNBOUND for the closer",
)
def test_a_channel_to_oneself(guest: Guest) -> None:
    far = guest.alloc_unbound(guest.domid)
    near = guest.bind_interdomain(guest.domid, far)
    assert guest.poll(near), "the local port of a new channel is pending"
    assert not guest.poll(far), "the remote one is as it was"
    guest.send(near)
    assert guest.poll(far)
    guest.close(near)
    assert guest.poll(far), "the peer's pending bit is its own"
    assert guest.bind_interdomain(guest.domid, far) == near


@pytest.mark.cells("bind_interdomain: both INTERDOMAIN, local pending", "send: peer pending")
@pytest.mark.parametrize("there", ["domu1", "domu2"])
def test_a_channel_to_another_domain(guest: Guest, there: str) -> None:
    guests = guest.domains.guests
    peer = guests["dom0"] if guest.name == there else guests.get(there)
    if peer is None:
        pytest.skip(f"this host has no {there}")
    far = peer.alloc_unbound(guest.domid)
    near = guest.bind_interdomain(peer.domid, far)
    guest.send(near)
    peer.send(far)
    guest.close(near)
    peer.send(far)  # to nobody
    peer.close(far)


@pytest.mark.cells("bind_interdomain: ESRCH")
def test_binding_to_a_domain_that_does_not_exist(guest: Guest) -> None:
    guest.bind_interdomain(NOBODY, 1)


@pytest.mark.cells("bind_interdomain: EINVAL remote port not valid")
def test_binding_to_a_port_that_does_not_exist(guest: Guest, dom0: Guest) -> None:
    guest.bind_interdomain(0, dom0.now.valid)
    guest.bind_interdomain(guest.domid, guest.now.valid)
    guest.bind_interdomain(guest.domid, 0xFFFFFFFF)


@pytest.mark.cells("bind_interdomain: EINVAL remote port not unbound for the caller")
def test_binding_to_a_port_that_is_not_meant_for_it(guest: Guest, dom0: Guest) -> None:
    someone = dom0.alloc_unbound(remote=NOBODY)
    guest.bind_interdomain(0, someone)
    guest.bind_interdomain(0, 0)  # reserved
    free = guest.alloc_unbound()
    guest.close(free)
    guest.bind_interdomain(guest.domid, free)
    taken = guest.alloc_unbound()
    guest.bind_interdomain(guest.domid, taken)
    guest.bind_interdomain(guest.domid, taken)


@pytest.mark.cells(
    "bind_virq: EINVAL virq out of range",
    "bind_virq: EINVAL global virq on vcpu != 0",
    "bind_virq: ENOENT vcpu",
    "bind_virq: EEXIST",
    "bind_virq: VIRQ",
)
def test_virqs_are_bound_once(guest: Guest) -> None:
    guest.bind_virq(24)
    guest.bind_virq(0xFFFFFFFF)
    guest.bind_virq(UNUSED, vcpu=1)
    guest.bind_virq(VIRQ_XENOPROF, vcpu=len(guest.now.vcpus))
    guest.bind_virq(VIRQ_XENOPROF, vcpu=0xFFFFFFFF)
    port = guest.bind_virq(VIRQ_XENOPROF, vcpu=1)
    guest.bind_virq(VIRQ_XENOPROF, vcpu=1)
    guest.bind_virq(VIRQ_XENOPROF, vcpu=0)  # one per vCPU
    guest.close(port)
    assert guest.bind_virq(VIRQ_XENOPROF, vcpu=1) == port
    guest.bind_virq(UNUSED)
    guest.bind_virq(UNUSED)
    guest.bind_virq(guest.free_virq)
    guest.bind_virq(guest.free_virq)


def test_every_virq_has_its_class(guest: Guest) -> None:
    """A VIRQ of each vCPU may be bound to vCPU 1, a global one only to vCPU 0."""
    for virq in range(24):
        guest.bind_virq(virq, vcpu=1)
        guest.bind_virq(virq, vcpu=0)


@pytest.mark.cells("bind_ipi: ENOENT vcpu", "bind_ipi: IPI", "send: own port pending (IPI)")
def test_ipis(guest: Guest) -> None:
    guest.bind_ipi(len(guest.now.vcpus))
    guest.bind_ipi(0xFFFFFFFF)
    for vcpu in range(len(guest.now.vcpus)):
        guest.send(guest.bind_ipi(vcpu))


@pytest.mark.cells("bind_pirq: EINVAL pirq out of range")
def test_pirqs_that_do_not_exist(guest: Guest) -> None:
    guest.bind_pirq(0xFFFFFFF)
    guest.bind_pirq(0xFFFFFFFF)


@pytest.mark.cells("bind_pirq: EPERM no access", "bind_pirq: no PIRQs on Arm")
def test_pirqs_of_others(domu: Guest) -> None:
    domu.bind_pirq(3)


@pytest.mark.cells("bind_pirq: EPERM no access", "bind_pirq: error from the host irq")
def test_pirqs_of_xen_and_of_nobody(dom0: Guest) -> None:
    """4 is the interrupt of Xen's serial line, 5 and 7 have no device, 200 is not mapped."""
    for pirq in (4, 5, 7, 200):
        dom0.bind_pirq(pirq)


@pytest.mark.cells("bind_pirq: EEXIST")
def test_pirqs_are_bound_once(dom0: Guest) -> None:
    bound = [c.number for _, c in dom0.now.ports if c.state is State.PIRQ and c.number < 16]
    for pirq in bound:
        dom0.bind_pirq(pirq)
