# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's emulation of Xen's event channels (for guests of KVM), as what it does otherwise than Xen.

QEMU has 2L only, one guest, and itself in place of dom0.  What is not in ``TABLE`` it does as Xen's
model says.  Each line of the table names the function of QEMU that does it
(hw/i386/kvm/xen_evtchn.c; those whose names begin with kvm_xen are in target/i386/kvm/xen-emu.c),
says when, and gives the hypercalls of a new guest of which the last one shows it.

To add a divergence: a line of the table, its two functions, and a line in docs/emulation.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.model.evtchn import qemu_cases as cases
from harness.model.evtchn.abi import DOMID_SELF, Errno
from harness.model.evtchn.changed import replace
from harness.model.evtchn.domain import Domain, GuestKind, State, Vcpu, World
from harness.model.evtchn.operations import (
    AllocUnbound,
    BindInterdomain,
    BindPirq,
    BindVcpu,
    BindVirq,
    Close,
    ExpandArray,
    InitControl,
    Operation,
    Poll,
    Reset,
    Send,
    SetPriority,
    Status,
    Unmask,
)
from harness.model.evtchn.outcome import AllowedOutcome, ok
from harness.model.evtchn.qemu_cases import DOMID_QEMU, GUEST, PORTS
from harness.model.evtchn.rules import Implementation, Rules

ROW = "QEMU: "  # with a divergence's name behind it: the row of an answer that is QEMU's own
_NOBODY = 0x7FEF
_PER_VCPU_VIRQ = 7


@dataclass(frozen=True)
class Divergence:
    """One thing that QEMU does otherwise than Xen."""

    name: str
    function: str  # QEMU's
    says: str  # one line: what QEMU does; what Xen does
    shown_by: tuple[Operation, ...]  # by a new guest; the last one shows it
    applies: Callable[[World, Any], bool]
    happens: Callable[[World, Any], AllowedOutcome]  # what then does; its row is not looked at
    full: bool = False  # the guest has used up its ports before
    reads_argument: bool = True  # False: QEMU answers before it has copied the argument

    @property
    def row(self) -> str:
        """The row of the answers that rest on it."""
        return ROW + self.name

    def outcome(self, world: World, operation: Operation) -> AllowedOutcome:
        """Return what QEMU does in ``operation``, to which this applies."""
        return replace(self.happens(world, operation), rows=(self.row,))

    @property
    def operation(self) -> type[Operation]:
        """The operation that it is about."""
        return type(self.shown_by[-1])


def rules_of(xen: Rules) -> Rules:
    """Return the rules of QEMU's emulation: those of ``xen``, but for what it does otherwise."""
    return replace(xen, implementation=Implementation.QEMU)


def xen_of(rules: Rules) -> Rules:
    """Return the rules of the Xen that QEMU's ``rules`` are compared with."""
    return replace(rules, implementation=Implementation.XEN)


def as_xen(world: World) -> World:
    """Return ``world`` with the rules of the Xen that QEMU is compared with."""
    return replace(world, rules=xen_of(world.rules))


def told_ports(rules: Rules, domain: Domain) -> range:
    """Return the ports of ``domain`` of which EVTCHNOP_status tells."""
    return range(1, PORTS) if rules.implementation is Implementation.QEMU else range(domain.valid)


def new_world(xen: Rules, vcpus: int) -> World:
    """Return the world of a new guest with ``vcpus`` vCPUs; ``xen``: what QEMU is compared with."""
    guest = Domain(GUEST, kind=GuestKind.HVM, vcpus=(Vcpu(),) * vcpus, max_port=PORTS - 1)
    return World((Domain(DOMID_QEMU, privileged=True), guest), rules_of(xen))


def divergence(world: World, operation: Operation, *, fault: bool = False) -> Divergence | None:
    """Return what QEMU does otherwise in ``operation``, made now; None: it does what Xen does.

    ``fault``: the argument cannot be read.
    """
    for each in _BY_OPERATION.get(type(operation), ()):
        if (not fault or not each.reads_argument) and each.applies(world, operation):
            return each
    return None


_ALLOC = AllocUnbound(GUEST, DOMID_SELF, DOMID_SELF)
_PAIR = (_ALLOC, BindInterdomain(GUEST, GUEST, 1))
_FREE = (_ALLOC, Close(GUEST, 1))

TABLE: tuple[Divergence, ...] = (
    Divergence(
        "close-of-a-closed-port",
        "close_port",
        "close of a port that is closed: ENOENT; Xen: EINVAL",
        (*_FREE, Close(GUEST, 1)),
        cases.is_free,
        cases.refused(Errno.ENOENT),
    ),
    Divergence(
        "status-of-port-0",
        "valid_port",
        "status of port 0: EINVAL; Xen: closed",
        (Status(GUEST, DOMID_SELF, 0),),
        lambda world, op: op.dom in (DOMID_SELF, op.caller) and op.port == 0,
        cases.refused(Errno.EINVAL),
    ),
    Divergence(
        "status-of-every-port",
        "valid_port",
        "status of a port for which nothing was ever allocated: closed; Xen: EINVAL",
        (Status(GUEST, DOMID_SELF, 64),),
        cases.unknown_port,
        cases.closed,
    ),
    Divergence(
        "status-of-another-domain",
        "xen_evtchn_status_op",
        "status of a port of another domain: ESRCH; Xen: EPERM, or EINVAL if there is no such port",
        (Status(GUEST, DOMID_QEMU, 1),),
        cases.is_foreign,
        cases.refused(Errno.ESRCH),
    ),
    Divergence(
        "unmask-of-port-0",
        "valid_port",
        "unmask of port 0: EINVAL; Xen: 0",
        (Unmask(GUEST, 0),),
        cases.is_port_0,
        cases.refused(Errno.EINVAL),
    ),
    Divergence(
        "unmask-of-a-closed-port",
        "unmask_port",
        "unmask of a port that is closed: EINVAL; Xen: 0",
        (*_FREE, Unmask(GUEST, 1)),
        lambda world, op: cases.is_free(world, op) and op.port < cases.caller(world, op).valid,
        cases.refused(Errno.EINVAL),
    ),
    Divergence(
        "bind-vcpu-port-before-vcpu",
        "xen_evtchn_bind_vcpu_op",
        "bind_vcpu with neither such a port nor such a vCPU: EINVAL; Xen: ENOENT",
        (BindVcpu(GUEST, PORTS, 2),),
        lambda world, op: (
            not cases.exists(op.port) and op.vcpu >= len(cases.caller(world, op).vcpus)
        ),
        cases.refused(Errno.EINVAL),
    ),
    Divergence(
        "bind-vcpu-raises-again",
        "unmask_port",
        "bind_vcpu of a port that is pending and not masked: an upcall on the new vCPU; Xen: none",
        (*_PAIR, Send(GUEST, 2), BindVcpu(GUEST, 1, 1)),
        cases.raises,
        cases.raised,
    ),
    Divergence(
        "bind-virq-of-a-full-guest",
        "xen_evtchn_bind_virq_op",
        "bind_virq of a VIRQ that is bound, with no port left: ENOSPC; Xen: EEXIST",
        (Close(GUEST, 1), BindVirq(GUEST, _PER_VCPU_VIRQ), BindVirq(GUEST, _PER_VCPU_VIRQ)),
        lambda world, op: cases.is_full(world, op) and cases.bound_virq(world, op),
        cases.refused(Errno.ENOSPC),
        full=True,
    ),
    Divergence(
        "bind-pirq-twice",
        "xen_evtchn_bind_pirq_op",
        "bind_pirq of a PIRQ that is bound: EBUSY; Xen: EEXIST",
        (BindPirq(GUEST, 17), BindPirq(GUEST, 17)),
        cases.bound_pirq,
        cases.refused(Errno.EBUSY),
    ),
    Divergence(
        "bind-interdomain-of-a-full-guest",
        "xen_evtchn_bind_interdomain_op",
        "bind_interdomain to a port that cannot be, with no port left: EINVAL; Xen: ENOSPC",
        (BindInterdomain(GUEST, GUEST, PORTS),),
        lambda world, op: (
            world.domain(GUEST if op.remote_dom == DOMID_SELF else op.remote_dom) is not None
            and not cases.exists(op.remote_port)
            and cases.is_full(world, op)
        ),
        cases.refused(Errno.EINVAL),
        full=True,
    ),
    Divergence(
        "bind-interdomain-to-dom0",
        "xen_evtchn_bind_interdomain_op",
        "bind_interdomain to a port of domain 0 (QEMU) that is closed: ENOENT; Xen: EINVAL",
        (BindInterdomain(GUEST, DOMID_QEMU, 1),),
        lambda world, op: cases.to_dom0(world, op) is State.FREE,
        cases.refused(Errno.ENOENT),
    ),
    Divergence(
        "bind-interdomain-to-dom0-twice",
        "xen_evtchn_bind_interdomain_op",
        "bind_interdomain to a port of domain 0 (QEMU) that is bound: EBUSY; Xen: EINVAL",
        (
            AllocUnbound(GUEST, DOMID_SELF, DOMID_QEMU),
            BindInterdomain(DOMID_QEMU, GUEST, 1),
            BindInterdomain(GUEST, DOMID_QEMU, 1),
        ),
        lambda world, op: cases.to_dom0(world, op) is State.INTERDOMAIN,
        cases.refused(Errno.EBUSY),
    ),
    Divergence(
        "dom0-binds-any-unbound-port",
        "xen_be_evtchn_bind_interdomain",
        "domain 0 (QEMU) binds to a port that is unbound for the guest itself; Xen: EINVAL",
        (_ALLOC, BindInterdomain(DOMID_QEMU, GUEST, 1)),
        lambda world, op: op.caller == DOMID_QEMU and cases.unbound_for(world, op) == GUEST,
        lambda world, op: cases.quiet(cases.for_dom0(world, op), op),
    ),
    Divergence(
        "bind-interdomain-sends-nothing",
        "xen_evtchn_bind_interdomain_op",
        "bind_interdomain leaves the new local port without an event; Xen: it is pending",
        _PAIR,
        cases.loopback,
        cases.quiet,
    ),
    Divergence(
        "alloc-unbound-in-another-domain",
        "xen_evtchn_alloc_unbound_op",
        "alloc_unbound in another domain: ESRCH; Xen: EPERM",
        (AllocUnbound(GUEST, DOMID_QEMU, DOMID_SELF),),
        cases.is_foreign,
        cases.refused(Errno.ESRCH),
    ),
    Divergence(
        "alloc-unbound-for-a-third-domain",
        "xen_evtchn_alloc_unbound_op",
        "alloc_unbound for a domain other than the guest and domain 0: EPERM; Xen: a port",
        (AllocUnbound(GUEST, DOMID_SELF, _NOBODY),),
        cases.strange_remote,
        cases.refused(Errno.EPERM),
    ),
    Divergence(
        "no-init-control",
        "kvm_xen_hcall_evtchn_op",
        "init_control: ENOSYS, and the guest stays at 2L; Xen: FIFO",
        (InitControl(GUEST, 0),),
        cases.always,
        cases.refused(Errno.ENOSYS),
        reads_argument=False,
    ),
    Divergence(
        "no-expand-array",
        "kvm_xen_hcall_evtchn_op",
        "expand_array: ENOSYS; Xen, for a guest at 2L: EOPNOTSUPP",
        (ExpandArray(GUEST),),
        cases.always,
        cases.refused(Errno.ENOSYS),
        reads_argument=False,
    ),
    Divergence(
        "set-priority-looks-at-nothing",
        "kvm_xen_hcall_evtchn_op",
        "set_priority: ENOSYS whatever the port is; Xen, at 2L: EINVAL where it is not valid",
        (SetPriority(GUEST, PORTS, 7),),
        cases.always,
        cases.refused(Errno.ENOSYS),
        reads_argument=False,
    ),
    Divergence(
        "reset-of-another-domain",
        "xen_evtchn_reset_op",
        "reset of another domain: ESRCH; Xen: EPERM",
        (Reset(GUEST, DOMID_QEMU),),
        lambda world, op: not op.resume and cases.is_foreign(world, op),
        cases.refused(Errno.ESRCH),
    ),
    Divergence(
        "no-reset-cont",
        "kvm_xen_hcall_evtchn_op",
        "reset_cont: ENOSYS; Xen, while no reset is under way: EBUSY",
        (Reset(GUEST, DOMID_SELF, resume=True),),
        lambda _world, op: op.resume,
        cases.refused(Errno.ENOSYS),
        reads_argument=False,
    ),
    Divergence(
        "poll-never-sleeps",
        "kvm_xen_hcall_sched_op",
        "SCHEDOP_poll only yields and answers 0, whatever it is asked; Xen: sleeps, or EINVAL",
        (_ALLOC, Poll(GUEST, (1,))),
        cases.always,
        lambda world, _op: ok(world, ""),
        reads_argument=False,
    ),
)

_BY_OPERATION: dict[type[Operation], tuple[Divergence, ...]] = {
    operation: tuple(each for each in TABLE if each.operation is operation)
    for operation in {each.operation for each in TABLE}
}
