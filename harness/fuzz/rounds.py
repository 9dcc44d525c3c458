# SPDX-License-Identifier: GPL-2.0-or-later
"""What two sides have made between their meetings, and what is known of the world there.

The sides are two vCPUs of the guest; or its vCPU 0, and dom0.  In a world the guest is the first
domain.  Of dom0 (``dom0_of``) only those ports are known that it has opened in a programme.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter

from harness.fuzz.follow import Follower
from harness.fuzz.programme import (
    DOM0,
    NEW_PORT,
    NO_OPERATION,
    SEEN,
    STEP,
    TIMED,
    Flag,
    Step,
    TimedSeen,
    What,
    decode,
    decode_timed,
    encode,
)
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.changed import replace
from harness.model.evtchn.domain import (
    BUCKET,
    DEFAULT_PRIORITY,
    INT_MAX,
    PORT_0,
    Channel,
    Domain,
    GuestKind,
    SharedBits,
    Vcpu,
    World,
)
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
        What.CLOSE_ALL,
    }
)
_OF_SLOT = int(Flag.PORT_OF_SLOT | Flag.VALUE_OF_SLOT)
_LINKED = SharedBits(linked=True)
_BY_PORT = itemgetter(0)
_WORD = 8  # bytes
_UNTIMED_WORDS = (0, 1, 4)  # of TIMED: all but the times


@dataclass(frozen=True, slots=True)
class Made:
    """One step that a vCPU has made, and what was answered."""

    step: Step  # with the port and the value that were in its slots
    operation: Operation | None  # None: it is none of the model's
    seen: TimedSeen
    vcpu: int  # 1: the second side, also if that is dom0
    domid: int

    @property
    def in_dom0(self) -> bool:
        """Say whether dom0 has made it."""
        return self.domid == DOM0

    @property
    def writes(self) -> bool:
        """Say whether it takes a channel's lock as a writer."""
        return CALL_SITE.get(type(self.operation)) is Site.WRITER

    @property
    def unjudged(self) -> bool:
        """Say whether nothing can be said of it while the other vCPU is at work."""
        return _unjudged(self.step)


@dataclass(frozen=True, slots=True)
class Outline:
    """What the steps of one vCPU between two meetings tell, whatever is answered."""

    operations: int  # how many they are, without what only looks at memory
    unjudged: int  # of how many nothing can be said while the other vCPU is at work
    before_reset: int | None  # how many operations are made before a reset; None: there is none


@dataclass(slots=True)
class Part:
    """What one vCPU has made between two meetings: bytes, decoded only where they are new."""

    domid: int
    vcpu: int
    steps: bytes
    timed: bytes  # what was seen
    untimed: tuple[bytes, ...]  # the same without the times
    outline: Outline
    _made: tuple[Made, ...] | None = None

    @property
    def made(self) -> tuple[Made, ...]:
        """What it has made, step by step; delays are left out."""
        if self._made is None:
            self._made = tuple(self._decoded())
        return self._made

    @property
    def answers(self) -> tuple[tuple[int, ...], ...]:
        """What Xen has answered to each step, and what was in its slots; not what was in memory."""
        whats = self.steps[:: STEP.size]
        return tuple(
            [
                (result, told, detail, port, value)
                if what == What.STATUS and result == 0
                else (result, port, value)
                for what, (result, _, told, detail, _, _, port, value) in zip(
                    whats, TIMED.iter_unpack(self.timed), strict=True
                )
            ]
        )

    @property
    def times(self) -> list[tuple[int, int]]:
        """When each step began and ended, in ticks."""
        return [each[4:6] for each in TIMED.iter_unpack(self.timed)]

    def _decoded(self) -> Iterator[Made]:
        # It only reads a step's operands.
        follower = Follower(World((Domain(self.domid),)), self.domid, self.vcpu)
        for step, now in zip(decode(self.steps), decode_timed(self.timed), strict=True):
            if step.what != What.DELAY:
                flags = step.flags & ~_OF_SLOT
                own = step._replace(flags=flags, port=now.port, value=now.value)
                yield Made(own, follower.operation(own), now, self.vcpu, self.domid)


@dataclass(frozen=True, slots=True)
class Round:
    """What both vCPUs have made between two meetings."""

    parts: tuple[Part, Part]
    met: bool  # both have come to the meeting after it; else it runs into the next round
    steps: tuple[slice, slice]  # of each vCPU's steps, without the meeting after them

    @property
    def made(self) -> tuple[tuple[Made, ...], tuple[Made, ...]]:
        """What each has made."""
        return self.parts[0].made, self.parts[1].made

    @property
    def operations(self) -> int:
        """How many operations it has."""
        return self.parts[0].outline.operations + self.parts[1].outline.operations

    @property
    def alone(self) -> int | None:
        """Return the only vCPU that has done more than look; vCPU 0 if none has; None: both."""
        first, second = (part.outline.operations for part in self.parts)
        return (None if first else 1) if second else 0

    @property
    def begins_anew(self) -> bool:
        """Say whether it has a reset after which all is known."""
        vcpu = self.alone
        return vcpu is not None and self.parts[vcpu].outline.before_reset is not None


def rounds(
    steps: tuple[Sequence[Step], Sequence[Step]],
    seen: tuple[bytes, bytes],
    domid: int,
    second: int | None = None,
) -> Iterator[Round]:
    """Yield, from meeting to meeting, what both sides have made and ``seen`` (TIMED).

    They are vCPUs of ``domid``; with ``second``, the second side is that domain.
    """
    domids = domid, domid if second is None else second
    parts = [_parts(steps[v], seen[v], domids[v], v) for v in range(2)]
    while True:
        both = [next(part, None) for part in parts]
        if both == [None, None]:
            return
        one, other = (
            each or (_part(b"", b"", (), domids[v], v), True, slice(len(steps[v]), len(steps[v])))
            for v, each in enumerate(both)
        )
        yield Round((one[0], other[0]), one[1] and other[1], (one[2], other[2]))


def _parts(
    steps: Sequence[Step], seen: bytes, domid: int, vcpu: int
) -> Iterator[tuple[Part, bool, slice]]:
    """Yield what ``vcpu`` has made up to each meeting, whether the other one came there, and which
    of its steps they are."""
    encoded = encode(steps)
    words = memoryview(seen).cast("Q")
    untimed = [words[at :: TIMED.size // _WORD].tobytes() for at in _UNTIMED_WORDS]
    begin = 0
    meets = [at for at, what in enumerate(encoded[:: STEP.size]) if what == What.MEET]
    for end in (*meets, len(steps)):
        bytes_ = tuple(each[begin * _WORD : end * _WORD] for each in untimed)
        timed = seen[begin * TIMED.size : end * TIMED.size]
        part = _part(encoded[begin * STEP.size : end * STEP.size], timed, bytes_, domid, vcpu)
        met = end == len(steps) or SEEN.unpack_from(seen, end * TIMED.size)[0] == 0
        yield part, met, slice(begin, end)
        begin = end + 1


def _part(steps: bytes, timed: bytes, untimed: tuple[bytes, ...], domid: int, vcpu: int) -> Part:
    return Part(domid, vcpu, steps, timed, untimed, _outline(steps))


@lru_cache(maxsize=1 << 14)
def _outline(steps: bytes) -> Outline:
    decoded = decode(steps)
    resets = (at for at, step in enumerate(decoded) if step.what == What.BEGIN)
    reset = next(resets, None)
    return Outline(
        _operations(decoded),
        sum(map(_unjudged, decoded)),
        None if reset is None else _operations(decoded[:reset]),
    )


def _operations(steps: Iterable[Step]) -> int:
    return sum(step.what not in NO_OPERATION for step in steps)


def _unjudged(step: Step) -> bool:
    return step.what == What.TAKE or (step.what == What.POLL and step.number != 1)


def plain(world: World, *, pending: bool = True) -> World:
    """Return ``world`` without what is not known while two vCPUs run: FIFO's queues, what the vCPUs
    are told of events, priorities; and without the pending bits, if these are not known either."""
    return World(tuple([_plain_domain(each, pending) for each in world.domains]), world.rules)


def _plain_domain(domain: Domain, pending: bool) -> Domain:
    if domain.domid == DOM0:
        own = [(n, _bare(c)) for n, c in domain.ports if c.usable]
        return replace(domain, ports=((0, PORT_0), *own))
    ports = tuple(
        [(n, k) for n, c in domain.ports if (k := _plain(c, pending)).state or k != _FREE]
    )
    vcpus = tuple(Vcpu(control_block=v.control_block) for v in domain.vcpus)
    return replace(domain, ports=ports, vcpus=vcpus)


def _bare(c: Channel) -> Channel:
    """Return of ``c`` what EVTCHNOP_status tells: nobody looks at dom0's memory."""
    return Channel(c.state, c.remote_dom, c.remote_port, c.number, c.vcpu)


_FREE = Channel()


def _plain(c: Channel, pending: bool) -> Channel:
    bits, word = c.bits, c.word
    told = c.queue is not None or c.priority != DEFAULT_PRIORITY or bits.linked or word.linked
    if not told and (pending or not (bits.pending or word.pending)):
        return c
    return Channel(
        c.state,
        c.remote_dom,
        c.remote_port,
        c.number,
        c.vcpu,
        consumer=c.consumer,
        saved=c.saved,
        bits=SharedBits(bits.pending and pending, bits.masked),
        word=SharedBits(word.pending and pending, word.masked),
    )


def grown(world: World, made: Iterable[tuple[Step, TimedSeen]]) -> World:
    """Return ``world`` with as many ports of the guest as the answers to its steps ``made`` tell: a
    new port, and EVTCHNOP_status of a port that there is."""
    domain = world.domains[0]
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
    which free ports are still linked, so that Xen does not give them; and that dom0 has the port
    that it was given."""
    domain = world.domain(_opens_in(made))
    if domain is None or not domain.fifo:
        return world
    if made.step.what in NEW_PORT:
        return _allocating(world, domain, made)
    # A bind that fails has found a port all the same.  Where linked ones had to be skipped, that
    # can have been the first one of a new bucket.
    return world if made.in_dom0 else grown(world, [(made.step, made.seen)])


def _allocating(world: World, domain: Domain, made: Made) -> World:
    """Return ``world`` so that Xen gives the port of ``domain`` that it has given, if it may."""
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


def _opens_in(made: Made) -> int:
    """Return the domain in which ``made`` opens a port, if it does."""
    owner = made.step.port & 0xFFFF
    if made.step.what == What.ALLOC_UNBOUND and owner != DOMID_SELF:
        return owner
    return made.domid


def dom0_of(kind: GuestKind, vcpus: int) -> Domain:
    """Return dom0 before a programme: none of its ports is known.  Which of the others are free
    only its answers tell, as of ports that are still linked: so it is taken for one with FIFO."""
    return Domain(DOM0, kind, (Vcpu(),) * vcpus, privileged=True, max_port=INT_MAX, fifo=True)
