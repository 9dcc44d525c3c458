# SPDX-License-Identifier: GPL-2.0-or-later
"""Operations that allocate a port: get_free_port() and EVTCHNOP_alloc_unbound, bind_*."""

from __future__ import annotations

from harness.model.evtchn import delivery
from harness.model.evtchn.abi import DOMID_SELF, Errno
from harness.model.evtchn.changed import replace
from harness.model.evtchn.changed_rules import Rule
from harness.model.evtchn.domain import (
    BUCKET,
    NR_VIRQS,
    VIRQ_ARGO,
    VIRQ_DOM_EXC,
    Channel,
    Domain,
    GuestKind,
    State,
    World,
    global_virq,
)
from harness.model.evtchn.operations import (
    AllocUnbound,
    BindInterdomain,
    BindIpi,
    BindPirq,
    BindVirq,
    Result,
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
from harness.model.evtchn.rules import Rules

_Allocated = tuple[int, World, Domain]


def allocate(world: World, domain: Domain) -> tuple[list[_Allocated], list[AllowedOutcome]]:
    """get_free_port(): the ports that it may return, and the errors.

    With each port come the world and the domain after the buckets have grown for it.
    """
    if domain.dying:
        return [], [error(world, "alloc: EINVAL domain dying", Errno.EINVAL)]
    errors = []
    if world.scarce:
        errors.append(error(world, "alloc: ENOMEM no bucket", Errno.ENOMEM))
    if domain.partial:
        errors.append(error(world, "alloc: ENOSPC no port below the limits", Errno.ENOSPC))
        candidates = [port for port in range(1, domain.valid) if allocatable(domain, port)]
    else:
        free = _first_free(domain)
        candidates = [] if free is None else [free]
        if free is None:
            return [], [error(world, "alloc: ENOSPC no port below the limits", Errno.ENOSPC)]
        if free < domain.valid:  # no bucket needed
            errors = []
    grown = []
    for port in candidates:
        after = _with_buckets(domain, port, world.rules)
        grown.append((port, world.with_domain(after), after))
    return grown, errors


def _with_buckets(domain: Domain, port: int, rules: Rules) -> Domain:
    """Return ``domain`` with the buckets up to that of ``port``.

    With FIFO their ports have priority 0 until they are bound (evtchn_fifo_init()).  That shows
    only where a port can be unmasked that is not bound.
    """
    valid = max(domain.valid, (port // BUCKET + 1) * BUCKET)
    after = replace(domain, valid=valid)
    if domain.fifo and not rules.holds(Rule.UNUSABLE_PORT_UNTOUCHED):
        for new in range(domain.valid, valid):
            after = after.with_port(new, replace(after.port(new), priority=0))
    return after


def allocatable(domain: Domain, port: int) -> bool:
    """evtchn_allocate_port(): the port is FREE, and under FIFO not busy, that is still linked."""
    return _may_be_given(domain, domain.port(port))


def _may_be_given(domain: Domain, channel: Channel) -> bool:
    return channel.state is State.FREE and not (domain.fifo and channel.word.linked)


def _first_free(domain: Domain) -> int | None:
    top = min(domain.limit, domain.max_port + 1)
    taken = dict(domain.ports)
    for port in range(top):
        if port not in taken or _may_be_given(domain, taken[port]):
            return port
    return None


def _allocation_row(domain: Domain, port: int) -> str:
    """Return the row of the specification by which the allocator gave ``port``."""
    if domain.partial:
        return "alloc: any free port of a partial domain"
    if any(c.state is State.FREE and c.word.linked and n < port for n, c in domain.ports):
        return "alloc: busy port skipped"
    return "alloc: first free port"


def opened(domain: Domain, port: int, channel: Channel) -> Domain:
    """Return the domain with ``port`` newly bound: evtchn_port_init().  Its shared bits stay."""
    old = domain.port(port)
    return domain.with_port(
        port, replace(channel, saved=old.saved, bits=old.bits, word=old.word, queue=old.queue)
    )


def bind(world: World, domain: Domain, row: str, channel: Channel) -> list[AllowedOutcome]:
    """Bind ``channel`` to the port that the allocator gives, or return the allocator's errors."""
    ports, errors = allocate(world, domain)
    bound = []
    for port, after, grown in ports:
        world = after.with_domain(opened(grown, port, channel))
        bound.append(AllowedOutcome(Result(port=port), world, (row, _allocation_row(domain, port))))
    return bound + errors


def alloc_unbound(world: World, op: AllocUnbound) -> list[AllowedOutcome]:
    """EVTCHNOP_alloc_unbound."""
    domain = addressed_domain(world, op.caller, op.dom)
    if domain is None:
        return [error(world, "alloc_unbound: ESRCH", Errno.ESRCH)]
    if not may_act_on(world, op.caller, domain):
        ports, errors = allocate(world, domain)
        row = "alloc_unbound: EPERM not privileged over dom"
        return [error(after, row, Errno.EPERM) for _, after, _ in ports] + errors
    remote = op.caller if op.remote_dom == DOMID_SELF else op.remote_dom
    return bind(world, domain, "alloc_unbound: UNBOUND", Channel(State.UNBOUND, remote))


def bind_interdomain(world: World, op: BindInterdomain) -> list[AllowedOutcome]:
    """EVTCHNOP_bind_interdomain."""
    local = existing_domain(world, op.caller)
    remote_dom = op.caller if op.remote_dom == DOMID_SELF else op.remote_dom
    remote = world.domain(remote_dom)
    if remote is None:
        return [error(world, "bind_interdomain: ESRCH", Errno.ESRCH)]
    ports, outcomes = allocate(world, local)
    for port, after, _ in ports:
        outcomes.append(_connect(after, op.caller, port, remote_dom, op.remote_port))
    return outcomes


def _connect(
    world: World, domid: int, port: int, remote_dom: int, remote_port: int
) -> AllowedOutcome:
    remote = existing_domain(world, remote_dom)
    peer = remote.port(remote_port)
    if not valid(world, remote, remote_port):
        row = "bind_interdomain: EINVAL remote port not valid"
        return error(world, row, Errno.EINVAL)
    if peer.state is not State.UNBOUND or peer.remote_dom != domid:
        row = "bind_interdomain: EINVAL remote port not unbound for the caller"
        return error(world, row, Errno.EINVAL)
    connected = replace(peer, state=State.INTERDOMAIN, remote_dom=domid, remote_port=port)
    world = world.with_domain(remote.with_port(remote_port, connected))
    local = existing_domain(world, domid)
    local = opened(local, port, Channel(State.INTERDOMAIN, remote_dom, remote_port))
    local = delivery.set_pending(local, port, world.rules)
    return ok(world.with_domain(local), "bind_interdomain: both INTERDOMAIN, local pending", port)


def bind_virq(world: World, op: BindVirq) -> list[AllowedOutcome]:
    """EVTCHNOP_bind_virq."""
    domain = existing_domain(world, op.caller)
    if not 0 <= op.virq < NR_VIRQS:
        return [error(world, "bind_virq: EINVAL virq out of range", Errno.EINVAL)]
    if global_virq(op.virq) and op.vcpu != 0:
        return [error(world, "bind_virq: EINVAL global virq on vcpu != 0", Errno.EINVAL)]
    if not 0 <= op.vcpu < len(domain.vcpus):
        return [error(world, "bind_virq: ENOENT vcpu", Errno.ENOENT)]
    if _needs_handler(world, op.virq) and world.virq_handler != op.caller:
        return [error(world, "bind_virq: EBUSY not the handler", Errno.EBUSY)]
    if virq_port(domain, op.virq, op.vcpu) is not None:
        return [error(world, "bind_virq: EEXIST", Errno.EEXIST)]
    outcomes = bind(
        world,
        domain,
        "bind_virq: VIRQ",
        Channel(State.VIRQ, number=op.virq, vcpu=op.vcpu),
    )
    keeps_states = world.rules.holds(Rule.DOM_EXC_KEEPS_STATES)
    if world.scarce and op.virq == VIRQ_DOM_EXC and keeps_states:
        outcomes.append(error(world, "bind_virq: ENOMEM domain states", Errno.ENOMEM))
    return outcomes


def _needs_handler(world: World, virq: int) -> bool:
    if virq == VIRQ_ARGO and world.rules.holds(Rule.ARGO_IS_PER_DOMAIN):
        return False
    return global_virq(virq) and world.rules.holds(Rule.VIRQ_WANTS_HANDLER)


def virq_port(domain: Domain, virq: int, vcpu: int) -> int | None:
    """v->virq_to_evtchn[virq]: that of vCPU 0 for a global VIRQ, whichever its notify vCPU is."""
    for port, channel in domain.ports:
        same = channel.state is State.VIRQ and channel.number == virq
        if same and (global_virq(virq) or channel.vcpu == vcpu):
            return port
    return None


def bind_ipi(world: World, op: BindIpi) -> list[AllowedOutcome]:
    """EVTCHNOP_bind_ipi."""
    domain = existing_domain(world, op.caller)
    if not 0 <= op.vcpu < len(domain.vcpus):
        return [error(world, "bind_ipi: ENOENT vcpu", Errno.ENOENT)]
    return bind(world, domain, "bind_ipi: IPI", Channel(State.IPI, vcpu=op.vcpu))


def bind_pirq(world: World, op: BindPirq) -> list[AllowedOutcome]:
    """EVTCHNOP_bind_pirq."""
    domain = existing_domain(world, op.caller)
    no_pirqs = "bind_pirq: no PIRQs on Arm"
    if domain.kind is GuestKind.ARM and world.rules.holds(Rule.ARM_BIND_PIRQ):
        return [error(world, no_pirqs, Errno.EOPNOTSUPP)]
    if not 0 <= op.pirq < domain.nr_pirqs:
        return [error(world, "bind_pirq: EINVAL pirq out of range", Errno.EINVAL)]
    if domain.kind is GuestKind.PV and op.pirq not in domain.pirqs:
        return [error(world, "bind_pirq: EPERM no access", Errno.EPERM)]
    if domain.kind is GuestKind.ARM:
        ports, errors = allocate(world, domain)
        return [error(after, no_pirqs, Errno.ENOMEM) for _, after, _ in ports] + errors
    if any(c.state is State.PIRQ and c.number == op.pirq for _, c in domain.ports):
        return [error(world, "bind_pirq: EEXIST", Errno.EEXIST)]
    row = "bind_pirq: PIRQ on vcpu 0"
    outcomes = bind(world, domain, row, Channel(State.PIRQ, number=op.pirq))
    after = next((o.world for o in outcomes if o.result.rc == 0), None)
    if after is None:
        return outcomes
    grown = world.with_domain(replace(domain, valid=existing_domain(after, op.caller).valid))
    if world.scarce:
        outcomes.append(error(grown, "bind_pirq: ENOMEM pirq info", Errno.ENOMEM))
    if domain.kind is GuestKind.PV:
        for errno in (Errno.EINVAL, Errno.EBUSY, Errno.ENOMEM):  # pirq_guest_bind()
            outcomes.append(error(grown, "bind_pirq: error from the host irq", errno))
    return outcomes
