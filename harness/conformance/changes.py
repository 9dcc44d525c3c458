# SPDX-License-Identifier: GPL-2.0-or-later
"""What one operation has changed, and what a world is when nothing is under way in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.model.evtchn.changed import replace
from harness.model.evtchn.domain import Channel, Domain, World


def changed_ports(old: Domain, new: Domain) -> list[int]:
    """Return the ports that differ between ``old`` and ``new``."""
    was, now = dict(old.ports), dict(new.ports)
    changed = (port for port, channel in now.items() if was.get(port) != channel)
    return sorted({*changed, *(was.keys() - now.keys())})


def visibly_changed(old: Domain, new: Domain) -> list[int]:
    """Return the ports of which EVTCHNOP_status tells something else in ``new`` than in ``old``."""
    return [
        port
        for port in changed_ports(old, new)
        if visible(old.port(port)) != visible(new.port(port))
    ]


def visible(channel: Channel, hides_xen_bound: bool = False) -> tuple[int, ...] | str:
    """Return what EVTCHNOP_status shows of a channel."""
    c = channel
    if c.consumer and hides_xen_bound:
        return "Xen's own"
    return (c.state, c.remote_dom, c.remote_port, c.number, c.vcpu)


def settled(world: World, linux: frozenset[int], known: Sequence[Domain] = ()) -> World:
    """Return ``world`` when every hypercall has returned and Linux has handled its upcalls.

    The domains ``known`` are settled already.  The upcall handler of a Linux domain takes an event
    of ours off its FIFO queue at once, and leaves it pending, because Linux does not know the port.
    """
    for domain in world.domains:
        if any(domain is each for each in known):
            continue
        runs_linux = domain.domid in linux
        if any(v.polling is not None or (runs_linux and not v.upcall) for v in domain.vcpus):
            vcpus = (replace(v, polling=None, upcall=v.upcall or runs_linux) for v in domain.vcpus)
            domain = replace(domain, vcpus=tuple(vcpus))
            world = world.with_domain(domain)
        if runs_linux and any(channel.word.linked for _, channel in domain.ports):
            world = world.with_domain(replace(domain, ports=tuple(_unlinked(domain.ports))))
    return world


def _unlinked(ports: Sequence[tuple[int, Channel]]) -> Iterator[tuple[int, Channel]]:
    for port, channel in ports:
        if channel.word.linked:
            channel = replace(channel, word=replace(channel.word, linked=False), queue=None)
        yield port, channel
