# SPDX-License-Identifier: GPL-2.0-or-later
"""EVTCHNOP_close and EVTCHNOP_reset."""

from __future__ import annotations

from harness.model.evtchn import delivery
from harness.model.evtchn.abi import Errno
from harness.model.evtchn.changed import replace
from harness.model.evtchn.changed_rules import Rule
from harness.model.evtchn.domain import FREE, Domain, SharedBits, State, World
from harness.model.evtchn.operations import Close, Reset
from harness.model.evtchn.outcome import (
    AllowedOutcome,
    addressed_domain,
    error,
    existing_domain,
    may_act_on,
    ok,
    valid,
)


def close(world: World, op: Close) -> list[AllowedOutcome]:
    """EVTCHNOP_close."""
    domain = existing_domain(world, op.caller)
    channel = domain.port(op.port)
    if not valid(world, domain, op.port):
        return [error(world, "close: EINVAL not valid", Errno.EINVAL)]
    if channel.consumer:
        return [error(world, "close: EINVAL Xen-bound", Errno.EINVAL)]
    if channel.state in (State.FREE, State.RESERVED):
        return [error(world, "close: EINVAL FREE or RESERVED", Errno.EINVAL)]
    interdomain = channel.state is State.INTERDOMAIN
    row = "close: FREE, peer UNBOUND for the closer" if interdomain else "close: FREE"
    return [ok(closed(world, op.caller, op.port), row)]


def closed(world: World, domid: int, port: int) -> World:
    """evtchn_close() after its checks: pending is cleared, vCPU is 0; the mask and the priority
    stay as they are."""
    channel = existing_domain(world, domid).port(port)
    if channel.state is State.INTERDOMAIN:
        remote = world.domain(channel.remote_dom)
        if remote is not None:
            peer = remote.port(channel.remote_port)
            peer = replace(peer, state=State.UNBOUND, remote_dom=domid, remote_port=0)
            world = world.with_domain(remote.with_port(channel.remote_port, peer))
    domain = delivery.clear_pending(existing_domain(world, domid), port)
    left = domain.port(port)
    freed = replace(
        FREE,
        priority=left.priority,
        saved=left.saved,
        bits=left.bits,
        word=left.word,
        queue=left.queue,
    )
    return world.with_domain(domain.with_port(port, freed))


def reset(world: World, op: Reset) -> list[AllowedOutcome]:
    """EVTCHNOP_reset and reset_cont, to their end.

    Xen's EAGAIN is left out: it needs a port that another CPU allocates meanwhile.
    """
    if op.resume and not world.rules.holds(Rule.RESET_CAN_BE_RESUMED):
        return [error(world, "any: ENOSYS unknown command", Errno.ENOSYS)]
    domain = addressed_domain(world, op.caller, op.dom)
    if domain is None:
        return [error(world, "reset: ESRCH", Errno.ESRCH)]
    if not may_act_on(world, op.caller, domain):
        return [error(world, "reset: EPERM", Errno.EPERM)]
    if domain.domid != op.caller and not domain.paused:
        return [error(world, "reset: EINVAL other domain not paused", Errno.EINVAL)]
    if domain.resetting is not op.resume:
        return [error(world, "reset: EBUSY", Errno.EBUSY)]
    for port, channel in domain.ports:
        if channel.usable:
            world = closed(world, domain.domid, port)
    cleared = existing_domain(world, domain.domid)
    if cleared.fifo:
        cleared = _back_to_2l(cleared)
    world = world.with_domain(replace(cleared, resetting=False))
    return [ok(world, "reset: all closed but Xen-bound, back to 2L")]


def _back_to_2l(domain: Domain) -> Domain:
    """evtchn_fifo_destroy(): the arrays are gone, and the old bits in shared_info count again."""
    for port, channel in domain.ports:
        domain = domain.with_port(port, replace(channel, word=SharedBits(), queue=None))
    vcpus = tuple(replace(v, ready=frozenset(), control_block=False) for v in domain.vcpus)
    return replace(domain, fifo=False, array_pages=0, vcpus=vcpus)
