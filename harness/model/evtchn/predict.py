# SPDX-License-Identifier: GPL-2.0-or-later
"""What Xen may answer to an operation, and what the channels are afterwards.

    outcomes = predict(world, Send(caller=1, port=5))

gives every ``AllowedOutcome(result, world, rows)``, in a fixed order, without duplicates.  Checks
are in the order in which Xen makes them (xen/common/event_channel.c, event_2l.c, event_fifo.c,
sched/core.c; see docs/spec/evtchn.md; differences between releases are in ``releases``).  There
is more than one outcome where an operation may be dropped, where memory may be exhausted, and
where the world does not know all ports of a domain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.model.evtchn import alloc_bind, close_reset, fifo, port_ops, qemu, shim, xen_internal
from harness.model.evtchn.abi import Errno
from harness.model.evtchn.domain import World
from harness.model.evtchn.operations import (
    CALL_SITE,
    AllocUnbound,
    BindInterdomain,
    BindIpi,
    BindPirq,
    BindVcpu,
    BindVirq,
    Close,
    Consume,
    ExpandArray,
    Fault,
    InitControl,
    Mask,
    Operation,
    Poll,
    RaisePirq,
    RaiseVirq,
    Reset,
    Result,
    Send,
    SetPriority,
    Status,
    UnknownOp,
    Unmask,
    XenAlloc,
    XenFree,
    XenNotify,
)
from harness.model.evtchn.outcome import AllowedOutcome, error
from harness.model.evtchn.rules import Implementation
from harness.model.lock.flavours import Flavour, Site


def predict(
    world: World,
    operation: Operation,
    *,
    flavour: Flavour | None = None,
    writer_inside: bool = False,
) -> tuple[AllowedOutcome, ...]:
    """Return every outcome that ``operation`` may have in ``world``.

    ``writer_inside``: a writer of the same channel overlaps the operation.  Then an operation
    whose call site only tries to get the lock in ``flavour`` may also do nothing and return 0.
    """
    fault = getattr(operation, "fault", Fault.NONE)
    if world.rules.implementation is Implementation.QEMU:
        found = qemu.divergence(world, operation, fault=fault is Fault.IN)
        if found is not None:
            outcome = found.outcome(world, operation)
            lost = fault is Fault.OUT and type(operation) in _COPIES_OUT
            return (_fault_out(outcome) if lost else outcome,)
    inside = shim.divergence(world, operation, _asked_of_xen)
    if inside is not None and (fault is not Fault.IN or not inside.reads_argument):
        return (inside.outcome,)
    if fault is Fault.IN:
        return (error(world, "any: EFAULT copy-in", Errno.EFAULT),)
    site = CALL_SITE.get(type(operation))
    drops = writer_inside and flavour is not None and site is not None and flavour.may_drop(site)
    outcomes = _RULES[type(operation)](world, operation)
    if drops and site is not None:
        outcomes = [*outcomes, *_dropped(world, outcomes, site)]
    if fault is Fault.OUT and type(operation) in _COPIES_OUT:
        outcomes = [_fault_out(outcome) for outcome in outcomes]
    if len(outcomes) == 1:  # to find duplicates, every port of every domain is hashed
        return (outcomes[0],)
    return tuple(dict.fromkeys(outcomes))


def _fault_out(outcome: AllowedOutcome) -> AllowedOutcome:
    if outcome.result.rc != 0:
        return outcome
    fault = "any: EFAULT copy-out after success"
    result = Result(rc=-int(Errno.EFAULT))
    return AllowedOutcome(result, outcome.world, (fault, *outcome.rows))


_DROPPED: dict[Site, str] = {
    Site.SEND: "send: dropped: writer inside",
    Site.UNMASK: "unmask: dropped: writer inside",
    Site.SET_PRIORITY: "set_priority: dropped: writer inside",
    Site.POLL: "poll: not pending: writer inside",
    Site.VIRQ: "raise_virq: dropped: writer inside",
    Site.PIRQ: "raise_pirq: dropped: writer inside",
    Site.XEN_NOTIFY: "xen: notify dropped: writer inside",
}
# These are decided before the channel's lock is tried: a writer makes no difference to them.
_BEFORE_LOCK = ("EINVAL not valid", "EINVAL more than 128 ports", "0 at once, upcall deliverable")


def _dropped(world: World, outcomes: list[AllowedOutcome], site: Site) -> list[AllowedOutcome]:
    if all(outcome.row.endswith(_BEFORE_LOCK) for outcome in outcomes):
        return []
    return [AllowedOutcome(Result(blocked=site is Site.POLL), world, (_DROPPED[site],))]


def _unknown(world: World, op: UnknownOp) -> list[AllowedOutcome]:
    return [error(world, "any: ENOSYS unknown command", Errno.ENOSYS)]


def _asked_of_xen(world: World, operation: Operation) -> list[AllowedOutcome]:
    return _RULES[type(operation)](world, operation)


_Rule = Callable[[World, Any], list[AllowedOutcome]]
_RULES: dict[type, _Rule] = {
    AllocUnbound: alloc_bind.alloc_unbound,
    BindInterdomain: alloc_bind.bind_interdomain,
    BindVirq: alloc_bind.bind_virq,
    BindIpi: alloc_bind.bind_ipi,
    BindPirq: alloc_bind.bind_pirq,
    Close: close_reset.close,
    Send: port_ops.send,
    Status: port_ops.status,
    BindVcpu: port_ops.bind_vcpu,
    Unmask: port_ops.unmask,
    SetPriority: port_ops.set_priority,
    Reset: close_reset.reset,
    InitControl: fifo.init_control,
    ExpandArray: fifo.expand_array,
    Poll: port_ops.poll,
    UnknownOp: _unknown,
    RaiseVirq: xen_internal.raise_virq,
    RaisePirq: xen_internal.raise_pirq,
    XenAlloc: xen_internal.xen_alloc,
    XenFree: xen_internal.xen_free,
    XenNotify: xen_internal.xen_notify,
    Mask: port_ops.mask,
    Consume: port_ops.consume,
}
_COPIES_OUT = frozenset(
    {AllocUnbound, BindInterdomain, BindVirq, BindIpi, BindPirq, Status, InitControl}
)
