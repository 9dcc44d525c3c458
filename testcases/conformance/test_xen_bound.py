# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen's own channels: it has one in every domain that it watches for dom0 (vm_event)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.conformance.bare import Bare
from harness.conformance.guest import Guest
from harness.conformance.hypercalls import Observed
from harness.model.evtchn.operations import BindInterdomain, Close, XenNotify


@pytest.fixture
def watchable(bare_type: str) -> None:
    """Skip before the bare guest is started."""
    if bare_type == "pv":
        pytest.skip("Xen watches no PV guest")


@pytest.fixture
def bare(watchable: None, bare: Bare) -> Bare:
    """The bare guest, of a type that Xen watches."""
    return bare


@pytest.fixture(params=["2L", "FIFO"])
def port(request: pytest.FixtureRequest, bare: Bare, dom0: Guest) -> Iterator[int]:
    """The port of Xen's own channel in the bare guest, which dom0 has it watch."""
    if request.param == "FIFO":
        bare.to_fifo()
    found = bare.domains.watch(dom0, bare)
    yield found
    bare.domains.unwatch(dom0, bare, found)


@pytest.mark.cells(
    "xen: port allocated",
    "send: EINVAL Xen-bound",
    "close: EINVAL Xen-bound",
    "bind_vcpu: EINVAL Xen-bound",
    "status: EACCES Xen-bound",
)
def test_the_guest_may_not_use_it(bare: Bare, dom0: Guest, port: int) -> None:
    bare.send(port)
    bare.close(port)
    bare.bind_vcpu(port, 1)
    bare.status(port)
    dom0.status(port, dom=bare.domid)
    bare.unmask(port)
    bare.set_priority(port, 3)
    bare.poll(port)
    bare.bind_interdomain(bare.domid, port)


@pytest.mark.cells("send: Xen consumer called", "xen: notify: no peer")
def test_dom0_talks_to_xen(bare: Bare, dom0: Guest, port: int) -> None:
    bare.agent.connection.ask("guest_request")
    bare.domains.notified(bare, port)  # nobody is bound to it yet
    ours = dom0.bind_interdomain(bare.domid, port)
    dom0.send(ours)
    dom0.close(ours)
    assert dom0.bind_interdomain(bare.domid, port) == ours


@pytest.mark.cells("xen: peer pending")
def test_xen_talks_to_dom0(bare: Bare, dom0: Guest, port: int) -> None:
    """Through /dev/xen/evtchn: Linux there takes the event that every new channel begins with."""
    model, device = dom0.domains.model, dom0.agent.device
    ours = device.bind_interdomain(bare.domid, port)
    model.judge(BindInterdomain(0, bare.domid, port), Observed(ours))
    assert device.read(timeout_s=2.0) == [ours]
    device.enable([ours])
    assert device.read(timeout_s=0.2) == []
    bare.agent.connection.ask("guest_request")
    model.judge(XenNotify(bare.domid, port), Observed(0))
    assert device.read(timeout_s=2.0) == [ours], "Xen's event did not come"
    device.unbind(ours)
    model.judge(Close(0, ours), Observed(0))


@pytest.mark.cells("xen: port freed", "reset: all closed but Xen-bound, back to 2L")
def test_it_outlives_a_reset(bare: Bare, dom0: Guest, port: int) -> None:
    bare.reset(bare.domid)
    bare.send(port)
    other = dom0.bind_interdomain(bare.domid, port)
    bare.domains.unwatch(dom0, bare, port)
    dom0.status(other)
    assert bare.domains.watch(dom0, bare) == port


@pytest.mark.cells("xen: port freed", "xen: port allocated")
def test_it_comes_and_goes(bare: Bare, dom0: Guest, port: int) -> None:
    bare.domains.unwatch(dom0, bare, port)
    bare.status(port)
    assert bare.domains.watch(dom0, bare) == port


@pytest.mark.parametrize("abi", ["2L", "FIFO"])
@pytest.mark.cells("xen: allocation failed", "alloc: ENOSPC no port below the limits")
def test_no_port_is_left_for_xen(bare: Bare, dom0: Guest, abi: str) -> None:
    if abi == "FIFO":
        bare.to_fifo()
    bare.fill(2000)
    assert bare.domains.watch(dom0, bare) < 0
    bare.close(1023)
    port = bare.domains.watch(dom0, bare)
    assert port == 1023
    bare.domains.unwatch(dom0, bare, port)
