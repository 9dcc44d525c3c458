# SPDX-License-Identifier: GPL-2.0-or-later
"""When QEMU does otherwise than Xen, and what it does then: the functions of ``qemu.TABLE``.

The row of an outcome is left empty: it is the divergence's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.model.evtchn import alloc_bind, delivery, port_ops
from harness.model.evtchn.abi import DOMID_SELF, Errno
from harness.model.evtchn.changed import replace
from harness.model.evtchn.domain import Domain, State, World
from harness.model.evtchn.operations import (
    AllocUnbound,
    BindInterdomain,
    BindPirq,
    BindVcpu,
    BindVirq,
    Status,
)
from harness.model.evtchn.outcome import AllowedOutcome, error, existing_domain, ok

DOMID_QEMU = 0
GUEST = 1  # the guest's domid (QEMU's xen_domid)
PORTS = 4096  # of 2L: QEMU knows them all from the beginning, but for port 0


def caller(world: World, op: Any) -> Domain:
    """The domain that makes the hypercall."""
    return existing_domain(world, op.caller)


def has_vcpu(world: World, op: BindVcpu) -> bool:
    """valid_vcpu()."""
    return op.vcpu < len(caller(world, op).vcpus)


def exists(port: int) -> bool:
    """valid_port()."""
    return 0 < port < PORTS


def is_free(world: World, op: Any) -> bool:
    """QEMU has the port, and it is closed."""
    return exists(op.port) and caller(world, op).port(op.port).state is State.FREE


def is_full(world: World, op: Any) -> bool:
    """No port is left."""
    return not alloc_bind.allocate(world, caller(world, op))[0]


def is_port_0(_world: World, op: Any) -> bool:
    """It is about port 0."""
    return bool(op.port == 0)


def is_foreign(world: World, op: Any) -> bool:
    """It is about another domain, which exists."""
    return op.dom not in (DOMID_SELF, op.caller) and world.domain(op.dom) is not None


def always(_world: World, _op: Any) -> bool:
    """Whatever it is asked."""
    return True


def refused(errno: Errno) -> Callable[[World, Any], AllowedOutcome]:
    """Return what refuses with ``errno`` and changes nothing."""
    return lambda world, _op: error(world, "", errno)


def unknown_port(world: World, op: Status) -> bool:
    """A port of the guest that QEMU has, and for which Xen has never had a bucket."""
    own = op.dom in (DOMID_SELF, op.caller)
    return own and is_free(world, op) and op.port >= caller(world, op).valid


def closed(world: World, op: Status) -> AllowedOutcome:
    """EVTCHNOP_status of such a port."""
    grown = replace(caller(world, op), valid=PORTS)
    (told,) = port_ops.status(world.with_domain(grown), op)
    return replace(told, world=world)


def raises(world: World, op: BindVcpu) -> bool:
    """The port can be moved, is pending, and is not masked."""
    domain = caller(world, op)
    (found,) = port_ops.bind_vcpu(world, op)
    return found.result.rc == 0 and domain.pending(op.port) and not domain.masked(op.port)


def raised(world: World, op: BindVcpu) -> AllowedOutcome:
    """It is moved, and its event is raised on the new vCPU."""
    (moved,) = port_ops.bind_vcpu(world, op)
    after = delivery.select(caller(moved.world, op), op.port, op.vcpu)
    return ok(moved.world.with_domain(after), "")


def bound_pirq(world: World, op: BindPirq) -> bool:
    """The PIRQ has a port."""
    channels = (channel for _, channel in caller(world, op).ports)
    return any(c.state is State.PIRQ and c.number == op.pirq for c in channels)


def bound_virq(world: World, op: BindVirq) -> bool:
    """The VIRQ is bound already, and Xen finds nothing else to refuse."""
    return alloc_bind.bind_virq(world, op)[0].result.rc == -Errno.EEXIST


def loopback(world: World, op: BindInterdomain) -> bool:
    """Xen would bind it."""
    return alloc_bind.bind_interdomain(world, op)[0].result.rc == 0


def quiet(world: World, op: BindInterdomain) -> AllowedOutcome:
    """As Xen, but the new local port gets no event."""
    (bound,) = alloc_bind.bind_interdomain(world, op)
    local = existing_domain(bound.world, op.caller)
    before = caller(world, op)
    port = bound.result.code
    channel = replace(local.port(port), bits=before.port(port).bits)
    local = replace(local.with_port(port, channel), vcpus=before.vcpus)
    return ok(bound.world.with_domain(local), "", port)


def to_dom0(world: World, op: BindInterdomain) -> State | None:
    """The state of the port of domain 0 that the guest binds to; None: it does not."""
    known = op.caller == GUEST and op.remote_dom == DOMID_QEMU and exists(op.remote_port)
    if not known or is_full(world, op):
        return None
    return existing_domain(world, DOMID_QEMU).port(op.remote_port).state


def unbound_for(world: World, op: BindInterdomain) -> int | None:
    """The domain that the guest's port is unbound for; None: it is not unbound."""
    channel = existing_domain(world, GUEST).port(op.remote_port)
    return channel.remote_dom if channel.state is State.UNBOUND else None


def for_dom0(world: World, op: BindInterdomain) -> World:
    """The world in which the guest's port is unbound for domain 0."""
    guest = existing_domain(world, GUEST)
    channel = replace(guest.port(op.remote_port), remote_dom=DOMID_QEMU)
    return world.with_domain(guest.with_port(op.remote_port, channel))


def strange_remote(_world: World, op: AllocUnbound) -> bool:
    """The port shall be for a domain that is neither the guest nor domain 0."""
    own = op.dom in (DOMID_SELF, op.caller)
    return own and op.remote_dom not in (DOMID_SELF, op.caller, DOMID_QEMU)
