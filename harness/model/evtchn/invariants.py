# SPDX-License-Identifier: GPL-2.0-or-later
"""What must hold of event channels whatever happens, checked on every step of the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.model.evtchn.domain import BUCKET, Domain, State, World, global_virq
from harness.model.evtchn.operations import (
    CALL_SITE,
    Close,
    Consume,
    InitControl,
    Operation,
    Reset,
    XenFree,
)
from harness.model.evtchn.outcome import AllowedOutcome
from harness.model.evtchn.predict import predict
from harness.model.lock.flavours import Site

WRITER_RULE = "every writer starts or ends with a FREE or UNBOUND channel"


def world_violations(world: World) -> tuple[str, ...]:
    """Return what is wrong with the state of the channels, in words; nothing if all is right."""
    return tuple(text for domain in world.domains for text in _domain_violations(world, domain))


def _domain_violations(world: World, domain: Domain) -> Iterable[str]:
    virqs: set[tuple[int, int]] = set()
    for port, channel in domain.ports:
        where = f"d{domain.domid} port {port}"
        if (port == 0) != (channel.state is State.RESERVED):
            yield f"{where}: port 0, and only it, is RESERVED"
        if channel.state is State.INTERDOMAIN:
            peer_domain = world.domain(channel.remote_dom)
            peer = peer_domain.port(channel.remote_port) if peer_domain else None
            if peer is None or (peer.state, peer.remote_dom, peer.remote_port) != (
                State.INTERDOMAIN,
                domain.domid,
                port,
            ):
                yield f"{where}: its peer does not point back"
        if channel.state is State.FREE and (channel.vcpu or channel.consumer):
            yield f"{where}: FREE but not reset"
        if channel.state is State.VIRQ:
            key = (channel.number, 0 if global_virq(channel.number) else channel.vcpu)
            if key in virqs:
                yield f"{where}: VIRQ {channel.number} is bound twice"
            virqs.add(key)
        if channel.state is not State.FREE and port >= domain.valid:
            yield f"{where}: in use but not valid"
    if domain.valid % BUCKET:
        yield f"d{domain.domid}: valid_evtchns is no multiple of {BUCKET}"


def step_violations(
    before: World, operation: Operation, outcome: AllowedOutcome
) -> tuple[str, ...]:
    """Return the rules of a single operation that ``outcome`` violates, in words."""
    return tuple(_step_violations(before, operation, outcome))


def _step_violations(before: World, operation: Operation, outcome: AllowedOutcome) -> Iterable[str]:
    changed = list(_changed_states(before, outcome.world))
    faulted = any(row.startswith("any: EFAULT copy-out") for row in outcome.rows)
    if outcome.result.rc != 0 and changed and not faulted:
        yield f"{operation}: failed, and changed {changed}"
    if CALL_SITE.get(type(operation)) is Site.WRITER:
        ends = {State.FREE, State.UNBOUND}
        for where, old, new in changed:
            if old not in ends and new not in ends:
                yield f"{operation}: {where} went {old.name} -> {new.name}: {WRITER_RULE}"
    elif changed:
        yield f"{operation}: no writer, but changed {changed}"
    for where in _events_lost(before, operation, outcome.world):
        yield f"{operation}: {where} is no longer pending, and nobody took the event"
    if outcome.result.port is not None and outcome.result.rc == 0:
        opened = [where for where, old, new in changed if old is State.FREE]
        if len(opened) != 1 or not opened[0].endswith(f"port {outcome.result.port}"):
            yield f"{operation}: returned port {outcome.result.port} but opened {opened}"


def _events_lost(before: World, operation: Operation, after: World) -> Iterable[str]:
    """Yield the ports that are no longer pending, though nothing here may clear the bit.

    Only close, reset, the guest itself and the switch to FIFO may.
    """
    if isinstance(operation, (Close, Consume, InitControl, Reset, XenFree)):
        return
    for old, new in zip(before.domains, after.domains, strict=True):
        for port, _ in old.ports:
            if old.pending(port) and not new.pending(port):
                yield f"d{old.domid} port {port}"


def _changed_states(before: World, after: World) -> Iterable[tuple[str, State, State]]:
    for old, new in zip(before.domains, after.domains, strict=True):
        ports = sorted({port for port, _ in (*old.ports, *new.ports)})
        for port in ports:
            was, now = old.port(port).state, new.port(port).state
            if was is not now:
                yield f"d{old.domid} port {port}", was, now


@dataclass
class WorldExploration:
    """What exploring every state of a small world has found."""

    states: int = 0
    steps: int = 0
    exhausted: bool = True  # every state was visited
    rows: dict[str, int] = field(default_factory=dict)  # how often an outcome rested on each
    violations: list[str] = field(default_factory=list)


def explore_worlds(start: World, operations: tuple[Operation, ...], limit: int) -> WorldExploration:
    """Try every operation in every state that can be reached from ``start``; check every rule.

    At most ``limit`` states are visited.
    """
    result = WorldExploration()
    known = {start}
    queue = deque([start])
    while queue:
        world = queue.popleft()
        result.states += 1
        result.violations += world_violations(world)
        for operation in operations:
            for outcome in predict(world, operation):
                result.steps += 1
                result.violations += step_violations(world, operation, outcome)
                for row in outcome.rows:
                    result.rows[row] = result.rows.get(row, 0) + 1
                if outcome.world not in known:
                    if len(known) >= limit:
                        result.exhausted = False
                        continue
                    known.add(outcome.world)
                    queue.append(outcome.world)
    return result
