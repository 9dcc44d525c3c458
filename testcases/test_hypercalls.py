# SPDX-License-Identifier: GPL-2.0-or-later
"""Event channels, one hypercall after the other: a test reads as the hypercalls that it makes."""

from __future__ import annotations

import errno

import pytest

from harness.agent.client import AgentClient
from harness.agent.wire import AgentRefused
from harness.model.evtchn.abi import ChannelState
from harness.model.evtchn.changed_rules import Rule
from harness.run.session import Session


def refused(call: object, *arguments: int) -> int:
    """Return the error number with which Xen refuses ``call``."""
    with pytest.raises(AgentRefused) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.errno


def refused_poll(guest: AgentClient, port: int) -> int:
    """Return the error number with which Xen refuses a poll of ``port``; 0 if it does not.

    It polls many times: if an event of Linux's own is deliverable, Xen returns before it has
    looked at the ports.
    """
    for _ in range(50):
        try:
            guest.raw.poll(port)
        except AgentRefused as error:
            return error.errno
    return 0


def test_life_of_a_channel(guest: AgentClient) -> None:
    raw = guest.raw
    first = raw.alloc_unbound(guest.domid)
    assert raw.status(first).state is ChannelState.UNBOUND

    second = raw.bind_interdomain(guest.domid, first)
    assert raw.status(first).state is ChannelState.INTERDOMAIN
    assert raw.status(first).detail == second
    assert raw.status(second).detail == first

    raw.close(second)
    assert raw.status(second).state is ChannelState.CLOSED
    assert raw.status(first).state is ChannelState.UNBOUND
    raw.close(first)
    assert raw.status(first).state is ChannelState.CLOSED


def test_poll_of_a_closed_port_leaves_it_usable(xen: Session, guest: AgentClient) -> None:
    """A refused poll must release the read side; else the next writer waits for ever."""
    rejects = xen.rules.holds(Rule.POLL_REJECTS_UNUSABLE)
    raw = guest.raw
    port = raw.alloc_unbound(guest.domid)
    raw.close(port)
    assert refused_poll(guest, port) == (errno.EINVAL if rejects else 0)
    assert raw.alloc_unbound(guest.domid) == port


def test_send_on_a_closed_port_leaves_it_usable(guest: AgentClient) -> None:
    raw = guest.raw
    port = raw.alloc_unbound(guest.domid)
    raw.close(port)
    assert refused(raw.send, port) == errno.EINVAL
    assert raw.alloc_unbound(guest.domid) == port


def test_unmask_of_a_closed_port_leaves_it_usable(guest: AgentClient) -> None:
    raw = guest.raw
    port = raw.alloc_unbound(guest.domid)
    raw.close(port)
    raw.unmask(port)
    assert raw.alloc_unbound(guest.domid) == port


def test_binding_makes_the_local_end_pending(guest: AgentClient) -> None:
    raw = guest.raw
    first = raw.alloc_unbound(guest.domid)
    second = raw.bind_interdomain(guest.domid, first)
    assert raw.is_pending(second), "bind_interdomain left its port without the first event"
    assert not raw.is_pending(first), "bind_interdomain raised an event at the far end"


def test_send_reaches_the_other_end(guest: AgentClient) -> None:
    raw = guest.raw
    first = raw.alloc_unbound(guest.domid)
    second = raw.bind_interdomain(guest.domid, first)
    raw.send(second)
    assert raw.is_pending(first), "the event did not reach the other end"


def test_close_clears_pending(guest: AgentClient) -> None:
    raw = guest.raw
    first = raw.alloc_unbound(guest.domid)
    second = raw.bind_interdomain(guest.domid, first)
    assert raw.is_pending(second)
    raw.close(second)
    again = raw.alloc_unbound(guest.domid)
    assert again == second, "the lowest free port comes first"
    assert not raw.is_pending(again), "a new port has the event of a closed one"


def test_send_is_refused_where_nobody_may_send(guest: AgentClient) -> None:
    raw = guest.raw
    port = raw.alloc_unbound(guest.domid)
    raw.send(port)  # to nobody: accepted and dropped
    raw.close(port)
    assert refused(raw.send, port) == errno.EINVAL
    assert refused(raw.close, port) == errno.EINVAL
    assert refused(raw.bind_interdomain, guest.domid, port) == errno.EINVAL


def test_ipi_is_delivered_to_its_vcpu(guest: AgentClient) -> None:
    raw = guest.raw
    port = raw.bind_ipi(1)
    status = raw.status(port)
    assert (status.state, status.vcpu) == (ChannelState.IPI, 1)
    raw.send(port)
    assert raw.is_pending(port)
    assert refused(raw.bind_vcpu, port, 0) == errno.EINVAL


def test_notify_vcpu_moves(guest: AgentClient) -> None:
    raw = guest.raw
    first = raw.alloc_unbound(guest.domid)
    raw.bind_vcpu(first, 1)
    assert raw.status(first).vcpu == 1
    assert refused(raw.bind_vcpu, first, 4095) == errno.ENOENT
    raw.close(first)
    assert raw.alloc_unbound(guest.domid) == first
    assert raw.status(first).vcpu == 0, "closing resets the notify vCPU"


def test_channel_between_two_domains(peers: tuple[AgentClient, AgentClient]) -> None:
    here, there = peers
    ours = here.raw.alloc_unbound(there.domid)
    theirs = there.raw.bind_interdomain(here.domid, ours)
    status = here.raw.status(ours)
    assert (status.state, status.remote, status.detail) == (
        ChannelState.INTERDOMAIN,
        there.domid,
        theirs,
    )
    there.raw.send(theirs)
    assert here.raw.is_pending(ours)
    there.raw.close(theirs)
    status = here.raw.status(ours)
    assert (status.state, status.remote) == (ChannelState.UNBOUND, there.domid), (
        f"after a close the peer waits for domain {status.remote}, {status.state.name}"
    )


def test_device_delivers_and_re_enables(peers: tuple[AgentClient, AgentClient]) -> None:
    here, there = peers
    ours = here.device.bind_unbound(there.domid)
    theirs = there.device.bind_interdomain(here.domid, ours)
    assert there.device.read(timeout_s=2.0) == [theirs], "the initial event of bind_interdomain"
    for _ in range(3):
        there.raw.send(theirs)
        assert here.device.read(timeout_s=2.0) == [ours]
        here.device.enable([ours])
    there.device.unbind(theirs)
    assert here.raw.status(ours).state is ChannelState.UNBOUND
