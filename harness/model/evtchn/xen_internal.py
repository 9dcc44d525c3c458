# SPDX-License-Identifier: GPL-2.0-or-later
"""What Xen does with event channels itself: its own senders, and ports whose consumer is Xen."""

from __future__ import annotations

from harness.model.evtchn import delivery
from harness.model.evtchn.alloc_bind import bind, virq_port
from harness.model.evtchn.changed import replace
from harness.model.evtchn.close_reset import closed
from harness.model.evtchn.domain import Channel, State, World
from harness.model.evtchn.operations import RaisePirq, RaiseVirq, XenAlloc, XenFree, XenNotify
from harness.model.evtchn.outcome import AllowedOutcome, existing_domain, ok
from harness.model.evtchn.port_ops import to_peer


def raise_virq(world: World, op: RaiseVirq) -> list[AllowedOutcome]:
    """send_guest_vcpu_virq(), send_guest_global_virq()."""
    domain = world.domain(op.dom)
    port = None if domain is None else virq_port(domain, op.virq, op.vcpu)
    if domain is None or port is None:
        return [ok(world, "raise_virq: not bound")]
    after = delivery.set_pending(domain, port, world.rules)
    return [ok(world.with_domain(after), "raise_virq: pending on the notify vCPU")]


def raise_pirq(world: World, op: RaisePirq) -> list[AllowedOutcome]:
    """send_guest_pirq()."""
    domain = existing_domain(world, op.dom)
    bound = [p for p, c in domain.ports if c.state is State.PIRQ and c.number == op.pirq]
    if not bound:
        return [ok(world, "raise_pirq: not bound")]
    after = delivery.set_pending(domain, bound[0], world.rules)
    return [ok(world.with_domain(after), "raise_pirq: pending on the notify vCPU")]


def xen_alloc(world: World, op: XenAlloc) -> list[AllowedOutcome]:
    """alloc_unbound_xen_event_channel()."""
    channel = Channel(State.UNBOUND, op.remote_dom, vcpu=op.vcpu, consumer=True)
    outcomes = bind(world, existing_domain(world, op.dom), "xen: port allocated", channel)
    return [
        replace(o, rows=("xen: allocation failed", *o.rows)) if o.result.rc else o for o in outcomes
    ]


def xen_free(world: World, op: XenFree) -> list[AllowedOutcome]:
    """free_xen_event_channel()."""
    domain = existing_domain(world, op.dom)
    if domain.dying:
        return [ok(world, "xen: freed nothing, domain dying")]
    released = domain.with_port(op.port, replace(domain.port(op.port), consumer=False))
    return [ok(closed(world.with_domain(released), op.dom, op.port), "xen: port freed")]


def xen_notify(world: World, op: XenNotify) -> list[AllowedOutcome]:
    """notify_via_xen_event_channel()."""
    domain = existing_domain(world, op.dom)
    channel = domain.port(op.port)
    if domain.dying:
        return [ok(world, "xen: notify: domain dying")]
    if channel.state is not State.INTERDOMAIN:
        return [ok(world, "xen: notify: no peer")]
    return [to_peer(world, channel, "xen: peer pending")]
