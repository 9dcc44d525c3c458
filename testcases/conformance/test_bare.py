# SPDX-License-Identifier: GPL-2.0-or-later
"""What Linux would not survive: the bare guest changes its ABI, resets, and reads its memory."""

from __future__ import annotations

import pytest

from harness.conformance.bare import Bare
from harness.conformance.guest import Guest
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.operations import Fault

LAST_OFFSET = 4096 - 72  # a control block has 72 bytes
NOBODY = 0x7FEF
XENOPROF, UNUSED = 7, 15  # a VIRQ of each vCPU, and a global one


@pytest.fixture(params=["2L", "FIFO"])
def abi(request: pytest.FixtureRequest, bare: Bare) -> str:
    """The ABI that the bare guest uses."""
    if request.param == "FIFO":
        bare.to_fifo()
    return str(request.param)


def pair(bare: Bare) -> tuple[int, int]:
    """Make a channel from the guest to itself, with nothing pending; return its two ports."""
    far = bare.alloc_unbound(bare.domid)
    near = bare.bind_interdomain(bare.domid, far)
    bare.take(0)
    return far, near


@pytest.mark.cells("send: peer pending", "guest: event taken")
@pytest.mark.in_shim
def test_an_event_comes_up(bare: Bare, abi: str) -> None:
    far, near = pair(bare)
    bare.send(near)
    bare.send(near)
    assert bare.take(0) == [far]
    assert bare.take(0) == []
    bare.send(far)
    assert bare.take(0) == [near]


@pytest.mark.cells(
    "guest: mask set", "unmask: unmasked, redelivered", "unmask: unmasked, nothing pending"
)
@pytest.mark.in_shim
def test_masks(bare: Bare, abi: str) -> None:
    far, near = pair(bare)
    bare.mask(far)
    bare.send(near)
    assert bare.take(0) == []
    assert bare.poll(far), "masked, and pending all the same"
    bare.unmask(far)
    assert bare.take(0) == [far]
    bare.mask(far)
    bare.unmask(far)
    assert bare.take(0) == []
    bare.mask(far)
    bare.close(far)  # the mask is not touched
    assert bare.alloc_unbound() == far
    bare.unmask(far)


@pytest.mark.cells("bind_vcpu: notify vCPU moved, pending stays")
@pytest.mark.in_shim
def test_events_come_up_where_they_are_sent_to(bare: Bare, abi: str) -> None:
    far, near = pair(bare)
    bare.bind_vcpu(far, 1)
    bare.send(near)
    assert bare.take(0) == []
    assert bare.take(1) == [far]
    for vcpu in (1, 0, 1):
        bare.send(bare.bind_ipi(vcpu))
    bare.take(1)  # in 2L there is one bitmap for all vCPUs
    bare.take(0)


@pytest.mark.xen_only("its SCHEDOP_poll never sleeps")
def test_the_other_vcpu_makes_hypercalls_too(bare: Bare, abi: str) -> None:
    far, near = pair(bare)
    assert not bare.poll(far, vcpu=1)
    bare.send(near)
    assert bare.poll(far, vcpu=1)
    bare.take(0)


@pytest.mark.cells("reset: all closed but Xen-bound, back to 2L")
def test_reset(bare: Bare, abi: str) -> None:
    far, near = pair(bare)
    bare.bind_ipi(1)
    bare.bind_virq(bare.free_virq)
    bare.send(near)
    bare.reset(DOMID_SELF)
    bare.domains.agree(bare)
    bare.set_priority(far, 3)  # 2L again
    assert bare.alloc_unbound() == 1


@pytest.mark.cells("reset: EBUSY")
def test_reset_cont_without_a_reset(bare: Bare, abi: str) -> None:
    bare.reset(DOMID_SELF, resume=True)
    bare.reset(bare.domid, resume=True)


@pytest.mark.cells("reset: ESRCH", "reset: EPERM")
def test_reset_of_others(bare: Bare, abi: str) -> None:
    bare.reset(NOBODY)
    bare.reset(0)
    bare.reset(DOMID_SELF, fault=Fault.IN)


@pytest.mark.cells(
    "init_control: ENOENT vcpu",
    "init_control: EINVAL offset",
    "init_control: EINVAL bad page",
    "init_control: switched to FIFO",
    "init_control: control block mapped",
    "init_control: EINVAL already mapped",
    "set_priority: ENOSYS 2L",
)
def test_init_control(bare: Bare) -> None:
    port = bare.alloc_unbound()
    bare.init_control(2, offset=1)
    bare.init_control(0, offset=LAST_OFFSET + 8)
    bare.init_control(0, offset=LAST_OFFSET + 1)
    bare.init_control(0, offset=4)
    bare.init_control(0, frame=False)
    bare.set_priority(port, 3)
    bare.init_control(1, offset=LAST_OFFSET)
    bare.set_priority(port, 3)
    bare.init_control(1)
    bare.init_control(0, frame=False)
    bare.init_control(0, offset=4)
    bare.init_control(0, offset=8)
    bare.init_control(2)


@pytest.mark.cells("init_control: switched to FIFO", "any: EFAULT copy-out after success")
def test_init_control_whose_answer_is_lost(bare: Bare) -> None:
    bare.init_control(0, fault=Fault.OUT)
    bare.set_priority(bare.alloc_unbound(), 3)


@pytest.mark.cells(
    "expand_array: EOPNOTSUPP not FIFO",
    "expand_array: EINVAL bad page",
    "expand_array: 1024 more words, saved events raised",
)
@pytest.mark.xen_only("it has no FIFO")
def test_events_before_the_array_is_there(bare: Bare) -> None:
    """Xen saves them, and raises them when the page with their words is added.

    So it does with those of earlier tests: what it has saved outlives a reset.
    """
    earlier = {port for port, channel in bare.now.ports if channel.saved}
    bare.expand_array()
    far, near = pair(bare)
    bare.send(near)  # pending in 2L: saved at the switch to FIFO
    bare.init_control(0)
    other = bare.bind_ipi(0)
    bare.send(other)
    bare.expand_array(frame=False)
    assert bare.take(0) == []
    bare.expand_array()
    assert set(bare.take(0)) == {far, other} | earlier


@pytest.mark.xen_only("it has no FIFO")
def test_a_closed_port_keeps_its_priority(bare: Bare) -> None:
    """Until it is allocated anew: so an event that was saved is raised there, on a free port."""
    bare.init_control(0)
    port = bare.bind_ipi(0)
    bare.send(port)
    bare.set_priority(port, 2)
    bare.close(port)
    bare.expand_array()
    assert port in bare.take(0)


@pytest.mark.cells("expand_array: ENOSPC")
def test_the_array_is_full_after_128_pages(bare: Bare) -> None:
    bare.init_control(0)
    for _ in range(129):
        bare.expand_array()


def test_an_event_for_a_vcpu_without_control_block(bare: Bare) -> None:
    """The model knows which releases set its pending bit."""
    bare.to_fifo(vcpus=1)
    port = bare.bind_ipi(1)
    bare.send(port)
    bare.poll(port)
    bare.init_control(1)
    bare.send(port)
    bare.take(1)


@pytest.mark.cells("set_priority: priority for future events")
@pytest.mark.xen_only("it has no FIFO")
def test_priorities(bare: Bare) -> None:
    """The highest priority comes first, whatever was sent first; each queue is in order."""
    bare.to_fifo()
    ports = [bare.bind_ipi(0) for _ in range(5)]
    for port, priority in zip(ports, (15, 0, 7, 3, 7), strict=True):
        bare.set_priority(port, priority)
        bare.send(port)
    first, second, third, fourth, fifth = ports
    assert bare.take(0) == [second, fourth, third, fifth, first]


@pytest.mark.cells("alloc: busy port skipped")
@pytest.mark.xen_only("it has no FIFO")
def test_a_port_that_is_still_linked_is_not_given_out(bare: Bare) -> None:
    bare.to_fifo()
    port = bare.bind_ipi(0)
    bare.send(port)
    bare.close(port)
    later = bare.alloc_unbound()
    assert later != port
    bare.take(0)
    assert bare.alloc_unbound() == port


def test_old_bits_come_back_with_a_reset(bare: Bare) -> None:
    """What was pending in 2L stays in its bitmap while FIFO is used, and is seen again after it."""
    _, near = pair(bare)
    bare.send(near)
    bare.to_fifo()
    bare.take(0)
    bare.reset(DOMID_SELF)
    bare.poll(bare.alloc_unbound())


@pytest.mark.cells("alloc: ENOSPC no port below the limits")
def test_out_of_ports(bare: Bare, abi: str) -> None:
    bare.fill(2000)
    bare.bind_ipi(0)
    bare.close(1000)
    assert bare.bind_ipi(1) == 1000


@pytest.mark.in_shim
def test_a_channel_to_dom0(bare: Bare, dom0: Guest, abi: str) -> None:
    ours = dom0.alloc_unbound(bare.domid)
    theirs = bare.bind_interdomain(0, ours)
    bare.take(0)
    dom0.send(ours)
    assert bare.take(0) == [theirs]
    bare.send(theirs)
    dom0.close(ours)
    bare.send(theirs)
    dom0.alloc_unbound(dom=bare.domid)
    dom0.status(theirs, dom=bare.domid)


@pytest.mark.cells("any: EFAULT copy-in", "any: EFAULT copy-out after success")
@pytest.mark.in_shim
def test_faults(bare: Bare, abi: str) -> None:
    bare.alloc_unbound(fault=Fault.IN)
    bare.alloc_unbound(fault=Fault.OUT)
    bare.bind_ipi(1, fault=Fault.OUT)
    bare.init_control(0, fault=Fault.IN)
    bare.expand_array(fault=Fault.IN)
    bare.status(1, fault=Fault.OUT)
    bare.domains.agree(bare)


@pytest.mark.cells(
    "any: ENOSYS unknown command",
    "alloc_unbound: ESRCH",
    "alloc_unbound: EPERM not privileged over dom",
    "bind_interdomain: ESRCH",
    "bind_interdomain: EINVAL remote port not valid",
    "bind_virq: EINVAL virq out of range",
    "bind_virq: EINVAL global virq on vcpu != 0",
    "bind_virq: ENOENT vcpu",
    "bind_virq: EEXIST",
    "bind_ipi: ENOENT vcpu",
    "bind_pirq: EINVAL pirq out of range",
    "close: EINVAL not valid",
    "close: EINVAL FREE or RESERVED",
    "send: EINVAL not valid",
    "send: EINVAL state has no peer",
    "status: ESRCH",
    "status: EPERM",
    "status: EINVAL not valid",
    "bind_vcpu: ENOENT vcpu",
    "bind_vcpu: EINVAL not valid",
    "bind_vcpu: EINVAL state or per-vCPU VIRQ",
    "unmask: EINVAL not valid",
    "set_priority: EINVAL not valid",
    "poll: EINVAL more than 128 ports",
    "poll: EINVAL not valid",
)
def test_what_is_refused(bare: Bare, abi: str) -> None:
    """Everything that can be wrong with an argument (for Linux domains there are other tests)."""
    port, ipi, virq = bare.alloc_unbound(), bare.bind_ipi(1), bare.bind_virq(XENOPROF, 1)
    free = bare.alloc_unbound()
    bare.close(free)
    beyond, vcpus = bare.now.valid, len(bare.now.vcpus)
    bare.unknown(99)
    bare.alloc_unbound(dom=NOBODY)
    bare.alloc_unbound(dom=0)
    bare.bind_interdomain(NOBODY, 1)
    bare.bind_interdomain(bare.domid, beyond)
    bare.bind_virq(24)
    bare.bind_virq(UNUSED, vcpu=1)
    bare.bind_virq(XENOPROF, vcpu=vcpus)
    bare.bind_virq(XENOPROF, vcpu=1)
    bare.bind_ipi(vcpus)
    bare.bind_pirq(0xFFFFFFF)
    bare.close(beyond)
    bare.close(free)
    bare.send(beyond)
    bare.send(virq)
    bare.status(1, dom=NOBODY)
    bare.status(1, dom=0)
    bare.status(beyond)
    bare.bind_vcpu(port, vcpus)
    bare.bind_vcpu(beyond, 0)
    bare.bind_vcpu(ipi, 0)
    bare.unmask(beyond)
    bare.set_priority(beyond, 3)
    bare.set_priority(port, 16)
    bare.poll(*[port] * 129)
    bare.poll(beyond)
    bare.poll(0xFFFFFFFF)


@pytest.mark.cells("bind_pirq: PIRQ on vcpu 0", "bind_pirq: EEXIST", "bind_pirq: no PIRQs on Arm")
@pytest.mark.in_shim
def test_pirqs(bare: Bare, abi: str) -> None:
    """An HVM guest may bind each PIRQ once."""
    bare.bind_pirq(17)
    bare.bind_pirq(17)
