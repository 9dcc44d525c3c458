# SPDX-License-Identifier: GPL-2.0-or-later
"""What dom0 alone can ask Xen: every operation that needs neither a toolstack nor a second domain.

For a Xen with which dom0 does not come up: a daemon there has no more to say than "Invalid
argument", and the model says which hypercall was answered wrongly.  Only vCPU 0 is used: while
dom0 comes up, no other one runs.
"""

from __future__ import annotations

from harness.conformance.guest import Guest
from harness.conformance.host import HostDomains
from harness.model.evtchn.abi import DOMID_SELF
from harness.run.session import Session

_NOBODY = 0x7FEF  # a domid that no domain ever gets
_VIRQ_XENOPROF, _NO_VIRQ = 7, 24
_UNKNOWN_COMMAND = 99
_PRIORITY, _NO_PRIORITY = 3, 99


def ask_own_domain(live: Session) -> int:
    """Have dom0's agent make each operation, judged by the model of the running release.

    Returns how many hypercalls were judged.  Raises Disagreement for the first wrong answer,
    OperationInFlight if a hypercall does not return, LabError if the agent cannot be reached.
    Nothing else in dom0 may open or close a port meanwhile.
    """
    host = HostDomains(live)
    domains = host.begin()
    for question in (_allocation, _channel, _refusals, _virq, _ipi, _others, _events):
        question(domains.guests["dom0"])
    host.end(domains, well=True)
    return domains.model.operations


def _allocation(dom0: Guest) -> None:
    first = dom0.alloc_unbound()
    second = dom0.alloc_unbound(remote=dom0.domid)
    dom0.alloc_unbound(dom=dom0.domid, remote=_NOBODY)
    dom0.close(second)
    dom0.close(first)
    dom0.alloc_unbound()
    dom0.alloc_unbound(dom=_NOBODY)


def _channel(dom0: Guest) -> None:
    far = dom0.alloc_unbound()
    near = dom0.bind_interdomain(DOMID_SELF, far)
    dom0.send(near)
    dom0.send(far)
    dom0.close(near)
    dom0.send(far)
    near = dom0.bind_interdomain(dom0.domid, far)
    dom0.close(far)
    dom0.close(near)


def _refusals(dom0: Guest) -> None:
    free = dom0.alloc_unbound()
    dom0.bind_interdomain(_NOBODY, free)
    dom0.close(free)
    for port in (free, dom0.now.valid, 0xFFFFFFFF, 0):
        dom0.bind_interdomain(dom0.domid, port)
        dom0.send(port)
        dom0.close(port)
        dom0.status(port)


def _virq(dom0: Guest) -> None:
    dom0.bind_virq(_NO_VIRQ)
    port = dom0.bind_virq(_VIRQ_XENOPROF)
    dom0.bind_virq(_VIRQ_XENOPROF)
    dom0.close(port)
    dom0.bind_virq(_VIRQ_XENOPROF)


def _ipi(dom0: Guest) -> None:
    port = dom0.bind_ipi(0)
    dom0.send(port)
    dom0.bind_vcpu(port, 0)
    dom0.close(port)


def _others(dom0: Guest) -> None:
    port = dom0.alloc_unbound()
    dom0.bind_vcpu(port, 0)
    dom0.bind_vcpu(port, 0xFFFFFFFF)
    dom0.unmask(port)
    dom0.unmask(dom0.now.valid)
    dom0.set_priority(port, _PRIORITY)
    dom0.set_priority(port, _NO_PRIORITY)
    dom0.unknown(_UNKNOWN_COMMAND)


def _events(dom0: Guest) -> None:
    """SCHEDOP_poll comes last: on a busy machine its time may not tell whether it slept."""
    far = dom0.alloc_unbound()
    near = dom0.bind_interdomain(dom0.domid, far)
    dom0.poll(near)
    dom0.poll(far)
    dom0.send(near)
    dom0.poll(far)
