# SPDX-License-Identifier: GPL-2.0-or-later
"""VIRQs that Xen raises: VIRQ_CON_RING when it prints, VIRQ_DEBUG for debug key q, VIRQ_TIMER."""

from __future__ import annotations

import time

import pytest

from harness.conformance.bare import Bare
from harness.conformance.guest import Guest

TIMER, DEBUG, CON_RING = 0, 1, 8


@pytest.mark.cells("raise_virq: not bound", "raise_virq: pending on the notify vCPU")
def test_a_global_virq_in_dom0(dom0: Guest) -> None:
    dom0.agent.debug_key("m")
    dom0.domains.raised(dom0, CON_RING)
    port = dom0.bind_virq(CON_RING)
    dom0.bind_vcpu(port, 1)
    dom0.agent.debug_key("m")
    dom0.domains.raised(dom0, CON_RING)
    dom0.close(port)


@pytest.mark.cells("raise_virq: not bound", "raise_virq: pending on the notify vCPU")
def test_a_virq_of_each_vcpu(domu: Guest, dom0: Guest) -> None:
    ports = [domu.bind_virq(DEBUG, vcpu) for vcpu in range(len(domu.now.vcpus))]
    if min(ports) < 0:
        pytest.skip("Linux has bound VIRQ_DEBUG itself")
    domu.close(ports[0])
    dom0.agent.debug_key("q")
    for vcpu, _ in enumerate(ports):
        domu.domains.raised(domu, DEBUG, vcpu)


@pytest.mark.cells("raise_virq: not bound", "raise_virq: pending on the notify vCPU")
@pytest.mark.parametrize("abi", ["2L", "FIFO"])
def test_virqs_of_the_bare_guest(bare: Bare, dom0: Guest, abi: str) -> None:
    if abi == "FIFO":
        bare.to_fifo()
    port = bare.bind_virq(DEBUG, 1)
    dom0.agent.debug_key("q")
    for vcpu in range(2):
        bare.domains.raised(bare, DEBUG, vcpu)
    assert bare.take(1) == [port]
    assert bare.take(0) == []


def test_a_guest_without_timers_sees_no_virq_timer(bare: Bare) -> None:
    bare.bind_virq(TIMER)
    time.sleep(0.05)  # five ticks of the timer that Xen starts for each vCPU of a PV guest
    assert bare.take(0) == []
