# SPDX-License-Identifier: GPL-2.0-or-later
"""SCHEDOP_poll: it returns at once, sleeps, or is refused."""

from __future__ import annotations

import pytest

from harness.conformance.guest import Guest


@pytest.mark.cells("poll: 0 at once, pending", "poll: blocks")
def test_poll_sleeps_until_there_is_an_event(guest: Guest) -> None:
    far = guest.alloc_unbound(guest.domid)
    near = guest.bind_interdomain(guest.domid, far)
    assert not guest.poll(far)
    guest.send(near)
    assert guest.poll(far)
    assert not guest.poll(), "no port at all: nothing but an upcall can end it"
    assert guest.poll(guest.alloc_unbound(), far), "any of several"
    assert guest.poll(far, vcpu=1), "on whichever vCPU"


def test_poll_with_a_time_out(guest: Guest) -> None:
    far = guest.alloc_unbound(guest.domid)
    near = guest.bind_interdomain(guest.domid, far)
    guest.poll_past(far)
    guest.poll_past(near)
    guest.poll_past(0)


@pytest.mark.cells("poll: EINVAL not valid", "poll: EINVAL not usable")
def test_poll_of_ports_that_cannot_be_polled(guest: Guest) -> None:
    port = guest.alloc_unbound(guest.domid)
    guest.poll(guest.now.valid)
    guest.poll(port, 0xFFFFFFFF)
    guest.poll(0)
    guest.close(port)
    guest.poll(port)
    assert guest.alloc_unbound(guest.domid) == port, "a poll that is refused leaves no trace"
    near = guest.bind_interdomain(guest.domid, port)
    assert guest.poll(near, guest.now.valid), "ports are looked at in order"


@pytest.mark.cells("poll: EINVAL more than 128 ports")
def test_poll_of_many_ports(guest: Guest) -> None:
    far = guest.alloc_unbound(guest.domid)
    near = guest.bind_interdomain(guest.domid, far)
    guest.poll(*[far] * 128)
    guest.poll(*[far] * 127, near)
    guest.poll(*[near] * 129)
