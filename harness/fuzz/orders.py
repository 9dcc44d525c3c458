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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from harness.fuzz.follow import Follower
from harness.fuzz.programme import NEW_PORT, Step, TimedSeen, What
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


def rounds(
    steps: tuple[Sequence[Step], Sequence[Step]],
    seen: tuple[Sequence[TimedSeen], Sequence[TimedSeen]],
    domid: int,
) -> Iterator[tuple[list[Made], list[Made], int]]:
    """Yield, from meeting to meeting, what both vCPUs have made, and how many operations of it
    nothing can be said of."""
    parts = [_parts(steps[v], seen[v], domid, v) for v in range(2)]
    while True:
        first, second = (next(part, None) for part in parts)
        if first is None and second is None:
            return
        made = [part[0] if part else [] for part in (first, second)]
        unjudged = sum(part[1] for part in (first, second) if part)
        yield made[0], made[1], unjudged


def _parts(
    steps: Sequence[Step], seen: Sequence[TimedSeen], domid: int, vcpu: int
) -> Iterator[tuple[list[Made], int]]:
    follower = Follower(World((Domain(domid),)), domid, vcpu)  # it only reads a step's operands
    made: list[Made] = []
    unjudged = 0
    for step, now in zip(steps, seen, strict=True):
        if step.what == What.MEET:
            yield made, unjudged
            made, unjudged = [], 0
        elif step.what in _UNJUDGED:
            unjudged += 1
        elif step.what not in _ALONE:
            plain = step._replace(flags=0, port=now.port, value=now.value)
            operation = follower.operation(plain)
            assert operation is not None
            made.append(Made(plain, operation, now, vcpu))
    yield made, unjudged


def judge_rounds(
    found: Iterator[tuple[list[Made], list[Made], int]],
    world: World,
    flavour: Flavour,
    tick_hz: int,
) -> RoundsJudged:
    """Judge rounds, of which the first begins in ``world``."""
    judged = RoundsJudged()
    worlds = [plain(world)]
    for first, second, unjudged in found:
        count = len(first) + len(second)
        judged.undecided += unjudged
        if not worlds:
            judged.undecided += count
            continue
        search = _Search((first, second), flavour, _SLACK_NS * tick_hz // 1_000_000_000)
        after: list[World] = []
        for before in worlds:
            search.from_world(before, after)
        if search.tried > _MOST_TRIED:
            judged.undecided += count
            worlds = []  # it is not known any more
            continue
        if not after:
            judged.wrong = tuple(sorted((*first, *second), key=lambda made: made.seen.call))
            judged.before = worlds[0]
            return judged
        judged.operations += count
        worlds = after
    return judged


def plain(world: World) -> World:
    """Return ``world`` without what depends on pending bits."""
    (domain,) = world.domains
    ports = tuple((n, _plain(c)) for n, c in domain.ports if c.state)
    vcpus = tuple(Vcpu(control_block=v.control_block) for v in domain.vcpus)
    return World((replace(domain, ports=ports, vcpus=vcpus),), world.rules)


def _plain(channel: Channel) -> Channel:
    c = channel
    return Channel(c.state, c.remote_dom, c.remote_port, c.number, c.vcpu, consumer=c.consumer)


def grown(world: World, buckets: Sequence[TimedSeen]) -> World:
    """Return ``world`` with as many ports as the answers of EVTCHNOP_status for the first port of
    each of ``buckets`` tell."""
    (domain,) = world.domains
    valid = domain.valid
    for asked in buckets:
        if asked.seen.result == 0:
            valid = max(valid, asked.port + BUCKET)
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
        begin = _allocating(world, made) if made.step.what in NEW_PORT else world
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


def _allocating(world: World, made: Made) -> World:
    """Return ``world`` so that Xen gives the port that it has given, if with FIFO it may."""
    (domain,) = world.domains
    given = made.seen.seen.result
    if not domain.fifo or given <= 0:
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
