# SPDX-License-Identifier: GPL-2.0-or-later
"""The notify vCPU: an event comes up on the one that EVTCHNOP_bind_vcpu has set for its port."""

from __future__ import annotations

from harness.agent.client import AgentClient

VIRQ_CON_RING = 8  # Xen raises it in dom0 when it has printed something


def moved(agent: AgentClient, before: list[int]) -> list[int]:
    """Wait for an event; return how many have come up on each vCPU since ``before``."""
    assert agent.device.read(timeout_s=2.0), "no event came"
    return [now - then for now, then in zip(agent.interrupts(), before, strict=True)]


def test_send_comes_up_on_the_notify_vcpu(guest: AgentClient) -> None:
    ours = guest.device.bind_unbound(guest.domid)
    end = guest.raw.bind_interdomain(guest.domid, ours)
    for vcpu in (1, 0):
        guest.raw.bind_vcpu(ours, vcpu)
        before = guest.interrupts()
        guest.raw.send(end)
        assert moved(guest, before)[vcpu] == 1, f"the event did not come up on vCPU {vcpu}"
        guest.device.enable([ours])


def test_global_virq_comes_up_on_the_notify_vcpu(dom0: AgentClient) -> None:
    port = dom0.device.bind_virq(VIRQ_CON_RING)
    dom0.device.read(timeout_s=0.1)
    dom0.device.enable([port])
    dom0.raw.bind_vcpu(port, 1)
    before = dom0.interrupts()
    dom0.debug_key("m")
    assert moved(dom0, before)[1] >= 1, "the VIRQ did not come up on vCPU 1"
    dom0.device.unbind(port)
