# SPDX-License-Identifier: GPL-2.0-or-later
"""EVTCHNOP_close, send, status, bind_vcpu, unmask, set_priority: on ports in every state."""

from __future__ import annotations

import pytest

from harness.conformance.guest import Guest
from harness.model.evtchn.domain import State

NOBODY = 0x7FEF
FAR = 0xFFFFFFFF
XENOPROF = 7  # a VIRQ of each vCPU


def free_port(guest: Guest) -> int:
    """Return a port that is valid, and free."""
    port = guest.alloc_unbound()
    guest.close(port)
    return port


@pytest.mark.cells("close: EINVAL not valid", "close: EINVAL FREE or RESERVED", "close: FREE")
def test_close(guest: Guest) -> None:
    guest.close(guest.now.valid)
    guest.close(FAR)
    guest.close(0)
    guest.close(free_port(guest))
    guest.close(guest.alloc_unbound())
    guest.close(guest.bind_ipi(0))
    guest.close(guest.bind_virq(guest.free_virq))


@pytest.mark.cells(
    "send: EINVAL not valid",
    "send: EINVAL state has no peer",
    "send: dropped: UNBOUND",
)
def test_send_where_nobody_is(guest: Guest) -> None:
    guest.send(guest.now.valid)
    guest.send(FAR)
    guest.send(0)
    guest.send(free_port(guest))
    guest.send(guest.bind_virq(guest.free_virq))
    guest.send(guest.alloc_unbound())


def test_events_of_one_port_are_one(guest: Guest) -> None:
    """Pending is one bit: several sends before the event is taken are one event."""
    far = guest.alloc_unbound(guest.domid)
    near = guest.bind_interdomain(guest.domid, far)
    for _ in range(3):
        guest.send(near)
    guest.poll(far)


def test_a_new_port_has_no_event(guest: Guest) -> None:
    far = guest.alloc_unbound(guest.domid)
    near = guest.bind_interdomain(guest.domid, far)
    guest.close(near)
    assert guest.alloc_unbound() == near
    assert not guest.poll(near), "a new port has the event of a closed one"


@pytest.mark.cells("status: ESRCH", "status: EINVAL not valid", "status: reply", "status: closed")
def test_status(guest: Guest) -> None:
    guest.status(1, dom=NOBODY)
    guest.status(guest.now.valid)
    guest.status(FAR)
    guest.status(0)
    guest.status(free_port(guest))
    for port, _ in guest.now.ports:
        guest.status(port)


@pytest.mark.cells("status: EPERM")
def test_status_of_others(dom0: Guest, domu: Guest) -> None:
    for port in range(4):
        domu.status(port, dom=0)
    for port, _ in domu.now.ports:
        dom0.status(port, dom=domu.domid)
    dom0.status(domu.now.valid, dom=domu.domid)


@pytest.mark.cells(
    "bind_vcpu: ENOENT vcpu",
    "bind_vcpu: EINVAL not valid",
    "bind_vcpu: EINVAL state or per-vCPU VIRQ",
    "bind_vcpu: notify vCPU moved, pending stays",
)
def test_notify_vcpu(guest: Guest) -> None:
    port = guest.alloc_unbound(guest.domid)
    guest.bind_vcpu(port, len(guest.now.vcpus))
    guest.bind_vcpu(guest.now.valid, FAR)  # ENOENT comes first
    guest.bind_vcpu(guest.now.valid, 0)
    guest.bind_vcpu(0, 0)
    guest.bind_vcpu(free_port(guest), 0)
    guest.bind_vcpu(guest.bind_ipi(1), 0)
    guest.bind_vcpu(guest.bind_virq(XENOPROF, 1), 0)
    guest.bind_vcpu(guest.bind_virq(guest.free_virq), 1)
    guest.bind_vcpu(port, 1)
    near = guest.bind_interdomain(guest.domid, port)
    guest.bind_vcpu(near, 1)
    assert guest.poll(near), "the event of a port that is moved stays"
    guest.close(near)
    assert guest.alloc_unbound() == near


@pytest.mark.cells("unmask: unmasked, nothing pending", "unmask: unmasked, redelivered")
def test_unmask(guest: Guest) -> None:
    far = guest.alloc_unbound(guest.domid)
    near = guest.bind_interdomain(guest.domid, far)
    guest.unmask(far)
    guest.unmask(near)
    guest.unmask(FAR)


@pytest.mark.cells(
    "set_priority: EINVAL not valid",
    "set_priority: ENOSYS 2L",
    "set_priority: EACCES not usable",
    "set_priority: EINVAL priority",
    "set_priority: priority for future events",
)
def test_priority(guest: Guest) -> None:
    port = guest.alloc_unbound(guest.domid)
    for priority in (0, 7, 15, 16, FAR):
        guest.set_priority(port, priority)
    guest.set_priority(guest.now.valid, 0)
    guest.set_priority(FAR, 99)
    guest.set_priority(0, 99)
    guest.set_priority(free_port(guest), 99)
    near = guest.bind_interdomain(guest.domid, port)
    guest.send(near)


def test_channels_of_every_state_live_side_by_side(guest: Guest) -> None:
    far = guest.alloc_unbound(guest.domid)
    guest.bind_interdomain(guest.domid, far)
    guest.alloc_unbound()
    guest.bind_ipi(1)
    guest.bind_virq(guest.free_virq)
    states = {channel.state for _, channel in guest.now.ports}
    assert {State.UNBOUND, State.INTERDOMAIN, State.IPI, State.VIRQ} <= states
    guest.domains.agree(guest)
