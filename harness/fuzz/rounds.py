# SPDX-License-Identifier: GPL-2.0-or-later
"""What two vCPUs have made between their meetings, and what is known of the world there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from harness.fuzz.follow import Follower
from harness.fuzz.programme import NEW_PORT, NO_OPERATION, Flag, Step, TimedSeen, What
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.changed import replace
from harness.model.evtchn.domain import BUCKET, Channel, Domain, SharedBits, Vcpu, World
from harness.model.evtchn.operations import CALL_SITE, Operation
from harness.model.lock.flavours import Site

# Each is many steps for Xen or for the guest: it is judged only where no other vCPU does anything.
NOT_AT_ONCE = frozenset(
    {
        What.BEGIN,
        What.RESET,
        What.RESET_CONT,
        What.INIT_CONTROL,
        What.EXPAND_ARRAY,
        What.TAKE,
    }
)
_NOTHING = frozenset({What.MEET, What.DELAY})
_OF_SLOT = int(Flag.PORT_OF_SLOT | Flag.VALUE_OF_SLOT)
_LINKED = SharedBits(linked=True)
_BY_PORT = itemgetter(0)


@dataclass(frozen=True)
class Made:
    """One step that a vCPU has made, and what was answered."""

    step: Step  # with the port and the value that were in its slots
    operation: Operation | None  # None: it is none of the model's
    seen: TimedSeen
    vcpu: int

    @property
    def writes(self) -> bool:
        """Say whether it takes a channel's lock as a writer."""
        return CALL_SITE.get(type(self.operation)) is Site.WRITER

    @property
    def counts(self) -> bool:
        """Say whether it is an operation, not only a look at memory."""
        return self.step.what not in NO_OPERATION


@dataclass(frozen=True)
class Round:
    """What both vCPUs have made between two meetings."""

    made: tuple[Sequence[Made], Sequence[Made]]
    met: bool  # both have come to the meeting after it; else it runs into the next round
    steps: tuple[slice, slice]  # of each vCPU's steps, without the meeting after them

    @property
    def operations(self) -> int:
        """How many operations it has."""
        return sum(made.counts for part in self.made for made in part)

    @property
    def alone(self) -> int | None:
        """Return the only vCPU that has done more than look; vCPU 0 if none has; None: both."""
        busy = [v for v in range(2) if any(made.counts for made in self.made[v])]
        return None if len(busy) == 2 else (busy or [0])[0]


def rounds(
    steps: tuple[Sequence[Step], Sequence[Step]],
    seen: tuple[Sequence[TimedSeen], Sequence[TimedSeen]],
    domid: int,
) -> Iterator[Round]:
    """Yield, from meeting to meeting, what both vCPUs have made."""
    parts = [_parts(steps[v], seen[v], domid, v) for v in range(2)]
    ends = [_Part(len(steps[v]), len(steps[v])) for v in range(2)]
    while True:
        first, second = (next(part, None) for part in parts)
        if first is None and second is None:
            return
        both = first or ends[0], second or ends[1]
        yield Round(
            made=(both[0].made, both[1].made),
            met=both[0].met and both[1].met,
            steps=(slice(both[0].begin, both[0].end), slice(both[1].begin, both[1].end)),
        )


@dataclass
class _Part:
    """One vCPU's part of a round."""

    begin: int
    end: int = 0
    made: list[Made] = field(default_factory=list)
    met: bool = True


def _parts(
    steps: Sequence[Step], seen: Sequence[TimedSeen], domid: int, vcpu: int
) -> Iterator[_Part]:
    follower = Follower(World((Domain(domid),)), domid, vcpu)  # it only reads a step's operands
    part = _Part(0)
    for at, (step, now) in enumerate(zip(steps, seen, strict=True)):
        if step.what == What.MEET:
            part.met, part.end = now.seen.result == 0, at
            yield part
            part = _Part(at + 1)
        elif step.what not in _NOTHING:
            own = step._replace(flags=step.flags & ~_OF_SLOT, port=now.port, value=now.value)
            part.made.append(Made(own, follower.operation(own), now, vcpu))
    part.end = len(steps)
    yield part


def plain(world: World, *, pending: bool = True) -> World:
    """Return ``world`` without what is not known while two vCPUs run: FIFO's queues, what the vCPUs
    are told of events, priorities; and without the pending bits, if these are not known either."""
    (domain,) = world.domains
    ports = tuple((n, known) for n, c in domain.ports if (known := _plain(c, pending)) != _FREE)
    vcpus = tuple(Vcpu(control_block=v.control_block) for v in domain.vcpus)
    return World((replace(domain, ports=ports, vcpus=vcpus),), world.rules)


_FREE = Channel()


def _plain(c: Channel, pending: bool) -> Channel:
    return Channel(
        c.state,
        c.remote_dom,
        c.remote_port,
        c.number,
        c.vcpu,
        consumer=c.consumer,
        saved=c.saved,
        bits=SharedBits(c.bits.pending and pending, c.bits.masked),
        word=SharedBits(c.word.pending and pending, c.word.masked),
    )


def grown(world: World, made: Iterable[tuple[Step, TimedSeen]]) -> World:
    """Return ``world`` with as many ports as the answers to the steps ``made`` tell: a new port,
    and EVTCHNOP_status of a port that there is."""
    (domain,) = world.domains
    valid = domain.valid
    for step, now in made:
        result = now.seen.result
        if step.what in NEW_PORT and result > 0:
            valid = max(valid, (result // BUCKET + 1) * BUCKET)
        elif step.what == What.STATUS and result == 0 and now.value == DOMID_SELF:
            valid = max(valid, (now.port // BUCKET + 1) * BUCKET)
    return world if valid == domain.valid else world.with_domain(replace(domain, valid=valid))


def answered(world: World, made: Made) -> World:
    """Return ``world``, in which ``made`` is made, with what with FIFO is only known by its answer:
    which free ports are still linked, so that Xen does not give them."""
    (domain,) = world.domains
    if not domain.fifo:
        return world
    if made.step.what in NEW_PORT:
        return _allocating(world, made)
    # A bind that fails has found a port all the same.  Where linked ones had to be skipped, that
    # can have been the first one of a new bucket.
    return grown(world, [(made.step, made.seen)])


def _allocating(world: World, made: Made) -> World:
    """Return ``world`` so that Xen gives the port that it has given, if it may."""
    (domain,) = world.domains
    given = made.seen.seen.result
    if given <= 0:
        return world
    known = dict(domain.ports)
    for port in range(1, given):
        channel = known.get(port)
        if channel is None:
            known[port] = Channel(word=_LINKED)
        elif not channel.state:
            known[port] = replace(channel, word=replace(channel.word, linked=True))
    return world.with_domain(replace(domain, ports=tuple(sorted(known.items(), key=_BY_PORT))))
