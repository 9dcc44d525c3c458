# SPDX-License-Identifier: GPL-2.0-or-later
"""Operations on a bound port: send, status, bind_vcpu, unmask, set_priority, and SCHEDOP_poll.

And the guest's own writes to the bits in shared memory, which need no hypercall: mask, consume.
"""

from __future__ import annotations

from harness.model.evtchn import delivery
from harness.model.evtchn.abi import ChannelState, Errno
from harness.model.evtchn.changed import replace
from harness.model.evtchn.changed_rules import Rule
from harness.model.evtchn.domain import (
    LOWEST_PRIORITY,
    Channel,
    Domain,
    State,
    Vcpu,
    World,
    global_virq,
)
from harness.model.evtchn.operations import (
    BindVcpu,
    Consume,
    Mask,
    Poll,
    Result,
    Send,
    SetPriority,
    Status,
    StatusReply,
    Unmask,
)
from harness.model.evtchn.outcome import (
    AllowedOutcome,
    addressed_domain,
    error,
    existing_domain,
    may_act_on,
    ok,
    valid,
)

MAX_POLL_PORTS = 128


def send(world: World, op: Send) -> list[AllowedOutcome]:
    """EVTCHNOP_send."""
    domain = existing_domain(world, op.caller)
    channel = domain.port(op.port)
    if not valid(world, domain, op.port):
        return [error(world, "send: EINVAL not valid", Errno.EINVAL)]
    if channel.consumer:
        return [error(world, "send: EINVAL Xen-bound", Errno.EINVAL)]
    if channel.state is State.INTERDOMAIN:
        return [to_peer(world, channel, "send: peer pending")]
    if channel.state is State.IPI:
        after = delivery.set_pending(domain, op.port, world.rules)
        return [ok(world.with_domain(after), "send: own port pending (IPI)")]
    if channel.state is State.UNBOUND:
        return [ok(world, "send: dropped: UNBOUND")]
    return [error(world, "send: EINVAL state has no peer", Errno.EINVAL)]


def to_peer(world: World, channel: Channel, row: str) -> AllowedOutcome:
    """Deliver to the other end: it becomes pending, or Xen, its consumer, is called."""
    remote = world.domain(channel.remote_dom)
    if remote is None:  # only this end is known
        return ok(world, row)
    if remote.port(channel.remote_port).consumer:
        return ok(world, "send: Xen consumer called")
    after = delivery.set_pending(remote, channel.remote_port, world.rules)
    return ok(world.with_domain(after), row)


def status(world: World, op: Status) -> list[AllowedOutcome]:
    """EVTCHNOP_status."""
    domain = addressed_domain(world, op.caller, op.dom)
    if domain is None:
        return [error(world, "status: ESRCH", Errno.ESRCH)]
    if not valid(world, domain, op.port):
        return [error(world, "status: EINVAL not valid", Errno.EINVAL)]
    channel = domain.port(op.port)
    if channel.consumer and world.rules.holds(Rule.STATUS_HIDES_XEN_BOUND):
        return [error(world, "status: EACCES Xen-bound", Errno.EACCES)]
    if not may_act_on(world, op.caller, domain):
        return [error(world, "status: EPERM", Errno.EPERM)]
    closed = channel.state in (State.FREE, State.RESERVED)
    row = "status: closed" if closed else "status: reply"
    return [AllowedOutcome(Result(status=_reply(channel)), world, (row,))]


def _reply(channel: Channel) -> StatusReply:
    vcpu = channel.vcpu
    match channel.state:
        case State.UNBOUND:
            return StatusReply(int(ChannelState.UNBOUND), vcpu, dom=channel.remote_dom)
        case State.INTERDOMAIN:
            remote = channel.remote_dom, channel.remote_port
            return StatusReply(int(ChannelState.INTERDOMAIN), vcpu, *remote)
        case State.PIRQ:
            return StatusReply(int(ChannelState.PIRQ), vcpu, detail=channel.number)
        case State.VIRQ:
            return StatusReply(int(ChannelState.VIRQ), vcpu, detail=channel.number)
        case State.IPI:
            return StatusReply(int(ChannelState.IPI), vcpu)
        case _:
            return StatusReply(int(ChannelState.CLOSED), vcpu)


def bind_vcpu(world: World, op: BindVcpu) -> list[AllowedOutcome]:
    """EVTCHNOP_bind_vcpu."""
    domain = existing_domain(world, op.caller)
    if not 0 <= op.vcpu < len(domain.vcpus):
        return [error(world, "bind_vcpu: ENOENT vcpu", Errno.ENOENT)]
    if not valid(world, domain, op.port):
        return [error(world, "bind_vcpu: EINVAL not valid", Errno.EINVAL)]
    channel = domain.port(op.port)
    if channel.consumer:
        return [error(world, "bind_vcpu: EINVAL Xen-bound", Errno.EINVAL)]
    movable = channel.state in (State.UNBOUND, State.INTERDOMAIN, State.PIRQ)
    if not movable and not (channel.state is State.VIRQ and global_virq(channel.number)):
        return [error(world, "bind_vcpu: EINVAL state or per-vCPU VIRQ", Errno.EINVAL)]
    after = domain.with_port(op.port, replace(channel, vcpu=op.vcpu))
    return [ok(world.with_domain(after), "bind_vcpu: notify vCPU moved, pending stays")]


def unmask(world: World, op: Unmask) -> list[AllowedOutcome]:
    """EVTCHNOP_unmask."""
    domain = existing_domain(world, op.caller)
    if not valid(world, domain, op.port):
        return [error(world, "unmask: EINVAL not valid", Errno.EINVAL)]
    untouched = world.rules.holds(Rule.UNUSABLE_PORT_UNTOUCHED)
    if untouched and not domain.port(op.port).usable:
        return [ok(world, "unmask: no-op, not usable")]
    pending = domain.pending(op.port)
    row = "unmask: unmasked, redelivered" if pending else "unmask: unmasked, nothing pending"
    return [ok(world.with_domain(delivery.unmask(domain, op.port, world.rules)), row)]


def set_priority(world: World, op: SetPriority) -> list[AllowedOutcome]:
    """EVTCHNOP_set_priority."""
    domain = existing_domain(world, op.caller)
    channel = domain.port(op.port)
    if not valid(world, domain, op.port):
        return [error(world, "set_priority: EINVAL not valid", Errno.EINVAL)]
    if not domain.fifo:
        return [error(world, "set_priority: ENOSYS 2L", Errno.ENOSYS)]
    if not channel.usable and world.rules.holds(Rule.UNUSABLE_PORT_UNTOUCHED):
        return [error(world, "set_priority: EACCES not usable", Errno.EACCES)]
    if not 0 <= op.priority <= LOWEST_PRIORITY:
        return [error(world, "set_priority: EINVAL priority", Errno.EINVAL)]
    after = domain.with_port(op.port, replace(channel, priority=op.priority))
    return [ok(world.with_domain(after), "set_priority: priority for future events")]


def poll(world: World, op: Poll) -> list[AllowedOutcome]:
    """SCHEDOP_poll."""
    domain = existing_domain(world, op.caller)
    if len(op.ports) > MAX_POLL_PORTS:
        return [error(world, "poll: EINVAL more than 128 ports", Errno.EINVAL)]
    outcomes: list[AllowedOutcome] = []
    if domain.vcpus[op.vcpu].upcall:  # deliverable, unless the vCPU has disabled upcalls
        outcomes.append(ok(world, "poll: 0 at once, upcall deliverable"))
    for port in op.ports:
        if not _may_poll(world, domain, port):
            return [*outcomes, error(world, "poll: EINVAL not valid", Errno.EINVAL)]
        usable = domain.port(port).usable
        if not usable and world.rules.holds(Rule.POLL_REJECTS_UNUSABLE):
            return [*outcomes, error(world, "poll: EINVAL not usable", Errno.EINVAL)]
        counts = usable or not world.rules.holds(Rule.UNUSABLE_PORT_UNTOUCHED)
        if counts and domain.pending(port):
            return [*outcomes, ok(world, "poll: 0 at once, pending")]
    return [*outcomes, _asleep(world, domain, op)]


def _may_poll(world: World, domain: Domain, port: int) -> bool:
    """Say whether do_poll() goes on to look at the state of ``port``."""
    if world.rules.holds(Rule.POLL_CHECKS_VALID):
        return valid(world, domain, port)
    return 0 <= port < domain.limit


def _asleep(world: World, domain: Domain, op: Poll) -> AllowedOutcome:
    """The vCPU sleeps until an event, its time-out, or a wake for no reason; the answer is 0."""
    if not domain.partial:
        vcpu: Vcpu = replace(domain.vcpus[op.vcpu], polling=op.ports)
        world = world.with_domain(domain.with_vcpu(op.vcpu, vcpu))
    return AllowedOutcome(Result(blocked=True), world, ("poll: blocks",))


def mask(world: World, op: Mask) -> list[AllowedOutcome]:
    """The guest sets MASKED."""
    after = delivery.mask(existing_domain(world, op.dom), op.port)
    return [ok(world.with_domain(after), "guest: mask set")]


def consume(world: World, op: Consume) -> list[AllowedOutcome]:
    """The guest takes the event."""
    after = delivery.consume(existing_domain(world, op.dom), op.port)
    return [ok(world.with_domain(after), "guest: event taken")]
