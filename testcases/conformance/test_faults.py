# SPDX-License-Identifier: GPL-2.0-or-later
"""Arguments that Xen cannot read or write, and commands that it does not know."""

from __future__ import annotations

import pytest

from harness.conformance.guest import Guest
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.operations import Fault


@pytest.mark.cells("any: EFAULT copy-in")
def test_arguments_that_cannot_be_read(guest: Guest) -> None:
    port = guest.alloc_unbound()
    guest.alloc_unbound(fault=Fault.IN)
    guest.bind_interdomain(guest.domid, port, fault=Fault.IN)
    guest.bind_virq(15, fault=Fault.IN)
    guest.bind_ipi(0, fault=Fault.IN)
    guest.bind_pirq(3, fault=Fault.IN)
    guest.close(port, fault=Fault.IN)
    guest.send(port, fault=Fault.IN)
    guest.status(port, fault=Fault.IN)
    guest.bind_vcpu(port, 1, fault=Fault.IN)
    guest.unmask(port, fault=Fault.IN)
    guest.set_priority(port, 0, fault=Fault.IN)
    guest.init_control(0, fault=Fault.IN)
    guest.expand_array(fault=Fault.IN)
    guest.reset(DOMID_SELF, fault=Fault.IN) if guest.type == "bare" else None
    guest.poll(port, fault=Fault.IN)
    guest.domains.agree(guest)


@pytest.mark.cells("any: EFAULT copy-out after success")
def test_arguments_that_cannot_be_written(guest: Guest) -> None:
    """The port stays allocated: its number is lost, and the next one is another."""
    guest.alloc_unbound(fault=Fault.OUT)
    far = guest.alloc_unbound(guest.domid)
    guest.bind_interdomain(guest.domid, far, fault=Fault.OUT)
    guest.bind_ipi(1, fault=Fault.OUT)
    guest.bind_virq(15, fault=Fault.OUT)
    guest.bind_virq(15)
    guest.status(far, fault=Fault.OUT)
    guest.domains.agree(guest)


@pytest.mark.cells("any: ENOSYS unknown command")
def test_unknown_commands(guest: Guest) -> None:
    for command in (15, 16, 99, 0x7FFFFFFF):
        guest.unknown(command)
