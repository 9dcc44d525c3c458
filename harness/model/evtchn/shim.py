# SPDX-License-Identifier: GPL-2.0-or-later
"""xen-shim between a PV guest and Xen, as what it answers otherwise than Xen (arch/x86/pv/shim.c).

The shim hands most operations on to the Xen underneath, and remembers which ports the guest has.
VIRQs, masks and SCHEDOP_poll are its own.  What is not in ``TABLE`` the guest is answered as by
Xen.  A port is *lost* when the shim believes that it is in use and Xen has it free: Xen gives it
out, and the shim refuses it.  Here a lost port is RESERVED.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.model.evtchn.abi import DOMID_SELF, Errno
from harness.model.evtchn.changed import replace
from harness.model.evtchn.domain import Channel, Domain, GuestKind, State, World
from harness.model.evtchn.operations import (
    AllocUnbound,
    BindInterdomain,
    BindIpi,
    BindPirq,
    BindVcpu,
    BindVirq,
    Close,
    ExpandArray,
    InitControl,
    Operation,
    Reset,
    Send,
    SetPriority,
    UnknownOp,
)
from harness.model.evtchn.outcome import AllowedOutcome, error, existing_domain, ok, valid

ROW = "shim: "  # with a divergence's name behind it: the row of an answer that is the shim's own

_Xen = Callable[[World, Any], list[AllowedOutcome]]  # what Xen would do


@dataclass(frozen=True)
class Divergence:
    """One thing that the shim does otherwise than Xen, in ``pv_shim_event_channel_op()``."""

    name: str
    says: str  # one line: what the shim does; what Xen does
    operations: tuple[type[Operation], ...]
    happens: Callable[[World, Any, _Xen], AllowedOutcome | None]  # None: as Xen; no row
    reads_argument: bool = True  # False: it answers before it has copied the argument

    @property
    def row(self) -> str:
        """The row of the answers that rest on it."""
        return ROW + self.name


@dataclass(frozen=True)
class Applied:
    """A divergence that applies to an operation, and what then happens."""

    outcome: AllowedOutcome
    reads_argument: bool


def divergence(world: World, operation: Any, xen: _Xen) -> Applied | None:
    """Return what the shim does otherwise in ``operation``, made now; None: what ``xen`` does, or
    the caller is in no shim."""
    for each in _BY_OPERATION.get(type(operation), ()):
        caller = world.domain(operation.caller)
        if caller is None or caller.kind is not GuestKind.SHIM:
            return None
        outcome = each.happens(world, operation, xen)
        if outcome is not None:
            return Applied(replace(outcome, rows=(each.row,)), each.reads_argument)
    return None


def lost(domain: Domain) -> tuple[int, ...]:
    """Return the ports of ``domain`` that are lost."""
    return tuple(port for port, found in domain.ports if port and found.state is State.RESERVED)


def _lost(channel: Channel) -> Channel:
    return replace(channel, state=State.RESERVED)


def _not_supported(world: World, _op: Operation, _xen: _Xen) -> AllowedOutcome:
    return error(world, "", Errno.EOPNOTSUPP)


def _no_reset_cont(world: World, op: Reset, _xen: _Xen) -> AllowedOutcome | None:
    return error(world, "", Errno.EOPNOTSUPP) if op.resume else None


def _reset(world: World, op: Reset, xen: _Xen) -> AllowedOutcome | None:
    """Xen closes them all; the shim goes on believing that they are open."""
    guest = existing_domain(world, op.caller)
    if op.dom not in (DOMID_SELF, op.caller):
        return None
    (done,) = xen(world, op)
    after = existing_domain(done.world, op.caller)
    for port, channel in guest.ports:
        if port and channel.state > State.RESERVED:
            after = after.with_port(port, _lost(after.port(port)))
    return ok(done.world.with_domain(after), "")


def _close(world: World, op: Close, _xen: _Xen) -> AllowedOutcome | None:
    """Xen refuses to close it; so the shim takes it for a port that may never be used again."""
    guest = existing_domain(world, op.caller)
    channel = guest.port(op.port)
    if not valid(world, guest, op.port) or channel.state is not State.FREE:
        return None
    after = guest.with_port(op.port, _lost(channel))
    return error(world.with_domain(after), "", Errno.EINVAL)


def _given_a_lost_port(world: World, op: Any, xen: _Xen) -> AllowedOutcome | None:
    guest = existing_domain(world, op.caller)
    gone = lost(guest)
    if not gone or getattr(op, "dom", DOMID_SELF) not in (DOMID_SELF, op.caller):
        return None
    for port in gone:
        guest = guest.with_port(port, replace(guest.port(port), state=State.FREE))
    below = xen(world.with_domain(guest), op)
    if any(outcome.result.rc == 0 and outcome.result.port in gone for outcome in below):
        return error(world, "", Errno.EBUSY)
    return None


def _send_to_virq(world: World, op: Send, _xen: _Xen) -> AllowedOutcome | None:
    """In Xen the port is unbound, so that it is not given out again."""
    channel = existing_domain(world, op.caller).port(op.port)
    return ok(world, "") if channel.state is State.VIRQ else None


def _port_before_vcpu(world: World, op: BindVcpu, _xen: _Xen) -> AllowedOutcome | None:
    guest = existing_domain(world, op.caller)
    return None if valid(world, guest, op.port) else error(world, "", Errno.EINVAL)


TABLE: tuple[Divergence, ...] = (
    Divergence(
        "not-supported",
        "FIFO, priorities, PIRQs, an unknown command: EOPNOTSUPP, unread; Xen does them, or ENOSYS",
        (InitControl, ExpandArray, SetPriority, BindPirq, UnknownOp),
        _not_supported,
        reads_argument=False,
    ),
    Divergence(
        "no-reset-cont",
        "reset_cont: EOPNOTSUPP; Xen: EBUSY without a reset",
        (Reset,),
        _no_reset_cont,
        reads_argument=False,
    ),
    Divergence(
        "reset-loses-ports",
        "reset: 0, and every port that was open is lost; Xen: all are free",
        (Reset,),
        _reset,
    ),
    Divergence(
        "close-of-a-closed-port-loses-it",
        "close of a closed port: EINVAL as in Xen, but then the port is lost",
        (Close,),
        _close,
    ),
    Divergence(
        "lost-port",
        "a new port when the first free one is lost: EBUSY, now and ever after; Xen: the port",
        (AllocUnbound, BindInterdomain, BindIpi, BindVirq),
        _given_a_lost_port,
    ),
    Divergence(
        "send-to-a-virq",
        "send on a port that is bound to a VIRQ: 0, and nothing comes; Xen: EINVAL",
        (Send,),
        _send_to_virq,
    ),
    Divergence(
        "bind-vcpu-port-before-vcpu",
        "bind_vcpu with neither such a port nor such a vCPU: EINVAL; Xen: ENOENT",
        (BindVcpu,),
        _port_before_vcpu,
    ),
)
_BY_OPERATION: dict[type[Operation], list[Divergence]] = {
    operation: [each for each in TABLE if operation in each.operations]
    for operation in {operation for each in TABLE for operation in each.operations}
}
