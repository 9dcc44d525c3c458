# SPDX-License-Identifier: GPL-2.0-or-later
"""Lock order: which lock is taken while another one is held, and the cycles that can deadlock.

Sources: docs/spec/lock.md, "Lock order"; evtchn_close(), send_guest_*_virq(),
double_evtchn_lock() in xen/common/event_channel.c; commit 1376ef90d31c, since which Xen's own
consumers are called without the channel's lock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.model.lock.flavours import FLAVOURS, Acquire, Site


@dataclass(frozen=True)
class Edge:
    """A CPU that holds ``held`` takes ``wanted``."""

    held: str
    wanted: str
    waits: bool  # False: it only tries, and so takes no part in a deadlock
    where: str  # the function in Xen


@dataclass(frozen=True)
class XenTree:
    """Properties of a Xen tree that matter to the lock order."""

    callback_under_lock: bool  # Xen's consumers are: so before 1376ef90d31c (4.15)
    by_address: bool = True  # of two channels or domains, the lower address is locked first
    irqs_off: bool = True  # spinlock only: it is taken with interrupts disabled


NEW_TREE = XenTree(callback_under_lock=False)
OLD_TREE = XenTree(callback_under_lock=True)

EVENT, EVENT2 = "event_lock(d)", "event_lock(d')"
CHANNEL, CHANNEL2 = "channel lock", "peer's channel lock"
VIRQ, VM_EVENT = "virq_lock", "vm_event lock"


def edges(flavour: str, tree: XenTree) -> tuple[Edge, ...]:
    """Return the lock-order edges of ``flavour`` on ``tree``."""
    sites = FLAVOURS[flavour].sites
    virq_waits = sites[Site.VIRQ] is not Acquire.TRY
    found = [
        Edge(EVENT, EVENT2, True, "evtchn_bind_interdomain: both domains"),
        Edge(EVENT, CHANNEL, True, "evtchn_close: write side"),
        Edge(EVENT2, CHANNEL, True, "evtchn_close: write side"),
        Edge(CHANNEL, CHANNEL2, True, "double_evtchn_lock"),
        Edge(EVENT, VIRQ, True, "evtchn_close: waits until no VIRQ is being sent"),
        Edge(VIRQ, CHANNEL, virq_waits, "send_guest_vcpu_virq, send_guest_global_virq"),
    ]
    if not tree.by_address:
        found.append(Edge(EVENT2, EVENT, True, "the other domain, the other way round"))
        found.append(Edge(CHANNEL2, CHANNEL, True, "the other end, the other way round"))
    if tree.callback_under_lock:
        found.append(Edge(CHANNEL, VM_EVENT, True, "evtchn_send: monitor_notification"))
        found.append(Edge(VM_EVENT, EVENT, True, "vm_event_disable: free_xen_event_channel"))
    spin = sites[Site.SEND] is Acquire.EXCLUSIVE
    if virq_waits and not (spin and tree.irqs_off):
        found.append(Edge(CHANNEL, CHANNEL, True, "a VIRQ interrupts the holder on its own CPU"))
    return tuple(found)


def deadlocks(found: Iterable[Edge]) -> tuple[tuple[Edge, ...], ...]:
    """Return every elementary cycle in which each CPU waits for the next, the shortest first."""
    waiting = [edge for edge in found if edge.waits]
    cycles: dict[frozenset[Edge], tuple[Edge, ...]] = {}

    def walk(path: tuple[Edge, ...]) -> None:
        for edge in waiting:
            if edge.held != path[-1].wanted:
                continue
            if edge.wanted == path[0].held:
                cycle = (*path, edge)
                cycles.setdefault(frozenset(cycle), cycle)
            elif all(edge.wanted != before.held for before in path):
                walk((*path, edge))

    for edge in waiting:
        if edge.held == edge.wanted:
            cycles.setdefault(frozenset((edge,)), (edge,))
        else:
            walk((edge,))
    return tuple(sorted(cycles.values(), key=lambda c: (len(c), [e.held for e in c])))
