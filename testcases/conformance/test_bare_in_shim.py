# SPDX-License-Identifier: GPL-2.0-or-later
"""The bare guest inside xen-shim: what Xen raises in the shim, the shim raises in the guest.

The file comes after test_bare.py, whose tests have the same guest, so that it is started once.
"""

from __future__ import annotations

import pytest

from harness.conformance.bare import Bare
from harness.conformance.guest import Guest
from harness.model.evtchn.abi import DOMID_SELF

pytestmark = pytest.mark.shim_only

XENPROF = 7  # a VIRQ of each vCPU, which nobody raises


def channel_to_dom0(bare: Bare, dom0: Guest) -> tuple[int, int]:
    """Make a channel; return its ports in dom0 and in the guest, where nothing is pending."""
    ours = dom0.alloc_unbound(bare.domid)
    theirs = bare.bind_interdomain(0, ours)
    bare.take(0)
    return ours, theirs


def test_an_event_of_dom0_is_injected(bare: Bare, dom0: Guest) -> None:
    """By pv_shim_inject_evtchn(), on the notify vCPU, once, also while the guest masks the port."""
    ours, theirs = channel_to_dom0(bare, dom0)
    dom0.send(ours)
    assert bare.take(0) == [theirs]
    bare.bind_vcpu(theirs, 1)
    dom0.send(ours)
    dom0.send(ours)
    assert bare.take(0) == []
    assert bare.take(1) == [theirs]
    bare.mask(theirs)
    dom0.send(ours)
    assert bare.take(1) == []
    bare.unmask(theirs)
    assert bare.take(1) == [theirs]


def test_a_port_is_usable_after_an_injection(bare: Bare, dom0: Guest) -> None:
    """The next writer gets in: of the shim's own operations, only those on VIRQs take the write
    side, and Xen gives out the port that was closed last."""
    ours, theirs = channel_to_dom0(bare, dom0)
    dom0.send(ours)
    assert bare.take(0) == [theirs]
    bare.close(theirs)
    assert bare.bind_virq(XENPROF) == theirs
    bare.close(theirs)


def test_what_the_shim_answers_otherwise(bare: Bare) -> None:
    """harness/model/evtchn/shim.py: what costs the guest none of its ports."""
    virq = bare.bind_virq(XENPROF, 1)
    bare.send(virq)
    assert bare.take(0) == bare.take(1) == []
    bare.init_control(0)
    bare.expand_array()
    bare.set_priority(virq, 3)
    bare.bind_pirq(17)
    bare.unknown(99)
    bare.reset(DOMID_SELF, resume=True)
    bare.bind_vcpu(bare.now.valid, len(bare.now.vcpus))


def test_what_the_shim_refuses_as_xen_does(bare: Bare) -> None:
    port, ipi, virq = bare.alloc_unbound(), bare.bind_ipi(1), bare.bind_virq(XENPROF, 1)
    beyond, vcpus = bare.now.valid, len(bare.now.vcpus)
    bare.bind_interdomain(bare.domid, beyond)
    bare.bind_virq(24)
    bare.bind_virq(15, vcpu=1)
    bare.bind_virq(XENPROF, vcpu=vcpus)
    bare.bind_virq(XENPROF, vcpu=1)
    bare.bind_ipi(vcpus)
    bare.close(beyond)
    bare.send(beyond)
    bare.status(1, dom=0)
    bare.status(beyond)
    bare.bind_vcpu(port, vcpus)
    bare.bind_vcpu(beyond, 0)
    bare.bind_vcpu(ipi, 0)
    bare.bind_vcpu(virq, 0)
    bare.unmask(beyond)
    bare.poll(beyond)
    bare.poll(*[port] * 129)


def test_lost_ports(bare: Bare) -> None:
    """The last test: its guest gets no new port any more."""
    port = bare.alloc_unbound()
    bare.close(port)
    bare.close(port)
    bare.alloc_unbound()
    bare.bind_ipi(0)
    bare.bind_virq(XENPROF)
    bare.status(port)
    bare.close(port)
    bare.reset(DOMID_SELF)
    bare.alloc_unbound()
