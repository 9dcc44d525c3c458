# SPDX-License-Identifier: GPL-2.0-or-later
"""Judges what two vCPUs have done at the same time: is there an order that explains the answers?

Between two meetings each vCPU makes a few operations.  They are tried in every order that keeps to
each vCPU's own and to the clock, one after the other as the model makes them; an order that gives
other answers than were seen is given up at once.  What is left are the worlds in which the vCPUs
may meet again.  None: no order explains what was seen.

Only what Xen answers is compared, and which vCPU a channel is bound to.  Pending bits are left out,
because a guest's own handling of events is no single step; so what depends on them is undecided:
polls, events taken, and with FIFO which of the free ports Xen gives (one that is still linked is
skipped).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from harness.fuzz.follow import Follower
from harness.fuzz.programme import NEW_PORT, Flag, Step, TimedSeen, What
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.changed import replace
from harness.model.evtchn.domain import BUCKET, Channel, Domain, SharedBits, Vcpu, World
from harness.model.evtchn.operations import CALL_SITE, Operation, StatusReply
from harness.model.evtchn.outcome import AllowedOutcome
from harness.model.evtchn.predict import predict
from harness.model.lock.flavours import Flavour, Site

_SLACK_NS = 2000  # by how much the counters of two vCPUs of a machine may differ
_MOST_TRIED = 4000  # predictions for one round; a round that takes more is undecided
_UNJUDGED = frozenset({What.POLL, What.TAKE, What.LOOK, What.SET_BIT, What.CLEAR_BIT})
_ALONE = frozenset({What.MEET, What.DELAY})
_OF_SLOT = int(Flag.PORT_OF_SLOT | Flag.VALUE_OF_SLOT)
_LINKED = SharedBits(linked=True)
_BY_PORT = itemgetter(0)


@dataclass(frozen=True)
class Made:
    """One operation that a vCPU has made, and what was answered."""

    step: Step  # with the port and the value that were in its slots
    operation: Operation
    seen: TimedSeen
    vcpu: int

    @property
    def writes(self) -> bool:
        """Say whether it takes a channel's lock as a writer."""
        return CALL_SITE.get(type(self.operation)) is Site.WRITER


@dataclass
class RoundsJudged:
    """What came of a programme's rounds."""

    operations: int = 0  # judged
    undecided: int = 0  # operations
    wrong: tuple[Made, ...] = ()  # of the first round that nothing explains, by their calls
    before: World | None = None  # a world in which that round began


@dataclass(frozen=True)
class Round:
    """What both vCPUs have made between two meetings."""

    made: tuple[Sequence[Made], Sequence[Made]]
    unjudged: int  # more operations, of which nothing can be said
    met: bool  # both have come to the meeting after it; else it runs into the next round


def rounds(
    steps: tuple[Sequence[Step], Sequence[Step]],
    seen: tuple[Sequence[TimedSeen], Sequence[TimedSeen]],
    domid: int,
) -> Iterator[Round]:
    """Yield, from meeting to meeting, what both vCPUs have made."""
    parts = [_parts(steps[v], seen[v], domid, v) for v in range(2)]
    nothing = _Part()
    while True:
        first, second = (next(part, None) for part in parts)
        if first is None and second is None:
            return
        one, other = first or nothing, second or nothing
        yield Round((one.made, other.made), one.unjudged + other.unjudged, one.met and other.met)


@dataclass
class _Part:
    """One vCPU's part of a round."""

    made: list[Made] = field(default_factory=list)
    unjudged: int = 0
    met: bool = True


def _parts(
    steps: Sequence[Step], seen: Sequence[TimedSeen], domid: int, vcpu: int
) -> Iterator[_Part]:
    follower = Follower(World((Domain(domid),)), domid, vcpu)  # it only reads a step's operands
    part = _Part()
    for step, now in zip(steps, seen, strict=True):
        if step.what == What.MEET:
            part.met = now.seen.result == 0
            yield part
            part = _Part()
        elif step.what in _UNJUDGED:
            part.unjudged += 1
        elif step.what not in _ALONE:
            plain = step._replace(flags=step.flags & ~_OF_SLOT, port=now.port, value=now.value)
            operation = follower.operation(plain)
            assert operation is not None
            part.made.append(Made(plain, operation, now, vcpu))
    yield part


def judge_rounds(
    found: Iterable[Round],
    world: World,
    flavour: Flavour,
    tick_hz: int,
) -> RoundsJudged:
    """Judge rounds, of which the first begins in ``world``."""
    judged = RoundsJudged()
    worlds = [plain(world)]
    for each in found:
        judged.undecided += each.unjudged
        count = sum(map(len, each.made))
        after = _worlds_after(each, worlds, flavour, _SLACK_NS * tick_hz // 1_000_000_000)
        if after is None:  # the world is not known any more, so nothing is said of what follows
            judged.undecided += count
            worlds = []
            continue
        if not after:
            first, second = each.made
            judged.wrong = tuple(sorted((*first, *second), key=lambda made: made.seen.call))
            judged.before = worlds[0]
            return judged
        judged.operations += count
        worlds = after
    return judged


def _worlds_after(
    each: Round, worlds: Sequence[World], flavour: Flavour, slack: int
) -> list[World] | None:
    """Return every world in which a round may end that began in one of ``worlds``.

    None: it cannot be told, because the world before it is not known, because a vCPU did not wait
    at a meeting until the other had come, or because there are too many orders.
    """
    if not worlds or not each.met:
        return None
    search = _Search(each.made, flavour, slack)
    after: list[World] = []
    for before in worlds:
        search.from_world(before, after)
    return None if search.tried > _MOST_TRIED else after


def plain(world: World) -> World:
    """Return ``world`` without what depends on pending bits."""
    (domain,) = world.domains
    ports = tuple((n, _plain(c)) for n, c in domain.ports if c.state)
    vcpus = tuple(Vcpu(control_block=v.control_block) for v in domain.vcpus)
    return World((replace(domain, ports=ports, vcpus=vcpus),), world.rules)


def _plain(channel: Channel) -> Channel:
    c = channel
    return Channel(c.state, c.remote_dom, c.remote_port, c.number, c.vcpu, consumer=c.consumer)


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
    return world.with_domain(replace(domain, valid=valid))


@dataclass
class _Search:
    made: tuple[Sequence[Made], Sequence[Made]]
    flavour: Flavour
    slack: int  # ticks
    tried: int = 0
    known: set[tuple[int, int, World]] = field(default_factory=set)

    def from_world(self, world: World, after: list[World]) -> None:
        """Add to ``after`` every world in which the round may end if it began in ``world``."""
        todo = [(0, 0, world)]
        while todo and self.tried <= _MOST_TRIED:
            state = todo.pop()
            if state in self.known:
                continue
            self.known.add(state)
            at, world = state[:2], state[2]
            if at == (len(self.made[0]), len(self.made[1])):
                after.append(world)
                continue
            for vcpu in range(2):
                if self._may_be_next(at, vcpu):
                    one = (at[0] + (vcpu == 0), at[1] + (vcpu == 1))
                    made = self.made[vcpu][at[vcpu]]
                    todo += [(*one, then) for then in self._after(world, made)]

    def _may_be_next(self, at: tuple[int, int], vcpu: int) -> bool:
        """Say whether the clock allows that the next operation of ``vcpu`` is before the next one
        of the other."""
        other = 1 - vcpu
        if at[vcpu] == len(self.made[vcpu]):
            return False
        if at[other] == len(self.made[other]):
            return True
        rival = self.made[other][at[other]].seen
        return rival.ret + self.slack >= self.made[vcpu][at[vcpu]].seen.call

    def _after(self, world: World, made: Made) -> Iterator[World]:
        """Yield every world after ``made``, if it is made in ``world`` with the answer seen."""
        self.tried += 1
        begin = _begin(world, made)
        outcomes = predict(
            begin, made.operation, flavour=self.flavour, writer_inside=self._writer_inside(made)
        )
        for outcome in outcomes:
            if _fits(outcome, made):
                yield plain(outcome.world)

    def _writer_inside(self, made: Made) -> bool:
        """Say whether a writer of the other vCPU may have been inside of some channel's lock."""
        return any(
            other.writes
            and other.seen.call <= made.seen.ret + self.slack
            and made.seen.call <= other.seen.ret + self.slack
            for other in self.made[1 - made.vcpu]
        )


def _begin(world: World, made: Made) -> World:
    """Return ``world`` with what with FIFO is only known by the answer that ``made`` has got."""
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
    taken = {number for number, _ in domain.ports}
    linked = [(n, Channel(word=_LINKED)) for n in range(1, given) if n not in taken]
    return world.with_domain(
        replace(domain, ports=tuple(sorted((*domain.ports, *linked), key=_BY_PORT)))
    )


def _fits(outcome: AllowedOutcome, made: Made) -> bool:
    result, seen = outcome.result, made.seen.seen
    if result.code != seen.result:
        return False
    if result.status is None:
        return True
    told = seen.told
    return result.status == StatusReply(told & 0xFF, told >> 8 & 0xFF, told >> 16, seen.detail)
