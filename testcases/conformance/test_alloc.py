# SPDX-License-Identifier: GPL-2.0-or-later
"""EVTCHNOP_alloc_unbound, and the allocator that all operations use which make a port."""

from __future__ import annotations

import errno

import pytest

from harness.conformance.guest import Guest

NOBODY = 0x7FEF  # a domid that no domain ever gets


@pytest.mark.cells("alloc: first free port", "alloc_unbound: UNBOUND")
def test_the_lowest_free_port_comes_first(guest: Guest) -> None:
    first = guest.alloc_unbound()
    second = guest.alloc_unbound(remote=0)
    third = guest.alloc_unbound(remote=NOBODY)  # Xen does not check that it exists
    assert first < second < third
    guest.close(second)
    guest.close(first)
    assert guest.alloc_unbound() == first
    assert guest.alloc_unbound() == second


@pytest.mark.cells("alloc_unbound: ESRCH")
def test_a_domain_that_does_not_exist(guest: Guest) -> None:
    guest.alloc_unbound(dom=NOBODY)


@pytest.mark.cells("alloc_unbound: EPERM not privileged over dom")
def test_a_domu_may_not_allocate_in_another_domain(domu: Guest, other: Guest) -> None:
    domu.alloc_unbound(dom=0)
    domu.alloc_unbound(dom=other.domid)
    domu.alloc_unbound(dom=domu.domid)  # its own domid is as good as DOMID_SELF


def test_dom0_may_allocate_in_any_domain(dom0: Guest, domu: Guest) -> None:
    port = dom0.alloc_unbound(dom=domu.domid, remote=0)
    assert dom0.bind_interdomain(domu.domid, port) > 0
    domu.status(port)
    domu.send(port)
    domu.close(port)


@pytest.mark.cells("unmask: EINVAL not valid", "unmask: no-op, not usable")
def test_ports_come_into_being_in_buckets_of_64(guest: Guest) -> None:
    """EVTCHNOP_unmask refuses a port that is not valid, and succeeds for one that is free."""
    before = guest.now.valid
    used = sum(1 for _, channel in guest.now.ports if channel.state)
    guest.unmask(before)
    guest.fill(before - used + 1)
    guest.unmask(before + 1)
    guest.unmask(guest.now.valid)


@pytest.mark.cells("alloc: ENOSPC no port below the limits")
def test_a_domain_out_of_ports_recovers(domu: Guest) -> None:
    """libxl gives a domU 1023 ports (max_event_channels)."""
    count, why = domu.fill(2000)
    assert count > 900 and why == errno.ENOSPC
    domu.bind_ipi(0)
    domu.bind_interdomain(0, 1)
    domu.bind_virq(1)
    last = max(port for port, _ in domu.now.ports)
    domu.send(last)
    domu.close(last)
    assert domu.bind_ipi(1) == last
    domu.bind_ipi(1)


@pytest.mark.cells("alloc: ENOSPC no port below the limits")
def test_dom0_out_of_ports_recovers(dom0: Guest) -> None:
    """2L has 4096 ports."""
    if dom0.now.fifo:
        pytest.skip("FIFO has 131072 ports: hours of allocations under emulation")
    count, why = dom0.fill(5000)
    assert count > 3900 and why == errno.ENOSPC
    dom0.bind_ipi(0)
    dom0.close(4095)
    assert dom0.bind_ipi(0) == 4095
