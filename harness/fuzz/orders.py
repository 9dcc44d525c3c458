# SPDX-License-Identifier: GPL-2.0-or-later
"""Judges what two sides have done at the same time: is there an order that explains what was seen?

Between two meetings each side makes a few operations.  They are tried in every order that keeps to
each side's own and to the clock, one after the other as the model makes them; an order that gives
other answers than were seen is given up at once.  What is left are the worlds in which they may
meet again.  None: no order explains what was seen.  The sides are two vCPUs of the guest; or its
vCPU 0, and dom0, whose clocks are not compared: then every order is tried.

While both are at work only Xen's answers are compared: a guest looks at memory some time after an
operation.  Where only one vCPU does anything (harness/fuzz/alone.py), the bits in memory are
compared as well.

Undecided is what the guest itself does in several steps meanwhile: events taken, pending bits after
that; which of the free ports FIFO skips; and a poll of many ports.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile

from harness.fuzz.alone import Alone, after_alone
from harness.fuzz.follow import Follower
from harness.fuzz.memory import Interned, Memory
from harness.fuzz.programme import Bit, Seen, What
from harness.fuzz.rounds import NOT_AT_ONCE, Made, Round, answered, grown, plain
from harness.model.evtchn.domain import World
from harness.model.evtchn.operations import StatusReply
from harness.model.evtchn.outcome import AllowedOutcome
from harness.model.evtchn.predict import predict
from harness.model.lock.flavours import Flavour

_SLACK_NS = 2000  # by how much the counters of two vCPUs of a machine may differ
_ANY_SLACK = 1 << 65  # no order is forbidden
_MOST_TRIED = 4000  # predictions for one round; a round that takes more is undecided
_MOST_WORLDS = 32  # after a round; of more, the pending bits are given up, which make most of them

_Worlds = tuple[Interned, ...]


@dataclass(frozen=True)
class Unexplained:
    """A round that no order explains, and what was made since the last reset."""

    round: Round
    since: tuple[Round, ...]  # from the one with that reset on; the last one is ``round``
    before: World  # one in which the round began; of a single vCPU, the wrong step
    step: Made | None = None  # of a single vCPU: the wrong one
    expected: Seen | None = None  # and what had to be seen


@dataclass
class RoundsJudged:
    """What came of a programme's rounds."""

    operations: int = 0  # judged
    concurrent: int = 0  # of them: while the other vCPU made some as well
    undecided: int = 0  # operations
    wrong: Unexplained | None = None  # the first round that nothing explains


@dataclass(frozen=True)
class _Known:
    """What is known where two vCPUs meet: in which worlds they may be; none: nothing is known."""

    worlds: _Worlds
    pending: bool = True  # whether pending bits are known
    from_reset: bool = False  # it is true only once the next round has come to its reset

    def cut(self, memory: Memory) -> _Known:
        """Return it with few worlds."""
        if len(self.worlds) <= _MOST_WORLDS:
            return self
        return _Known(_without_pending(self.worlds, memory), False)


class RoundJudge:
    """Judges rounds of the vCPUs of domain ``domid``, on a Xen with the lock ``flavour``.

    It remembers what it has found: programmes make the same few operations again and again, with
    other delays.
    """

    def __init__(self, domid: int, flavour: Flavour) -> None:
        self._domid = domid
        self._flavour = flavour
        self._memory = Memory()

    def judge(self, found: Iterable[Round], world: World, tick_hz: int | None) -> RoundsJudged:
        """Judge the rounds of a programme, of which the first begins in ``world``.

        ``tick_hz``: of the counter that both sides have; None: each has another one.
        """
        judged = RoundsJudged()
        slack = _ANY_SLACK if tick_hz is None else _SLACK_NS * tick_hz // 1_000_000_000
        self._memory.tidy()
        known = _Known((self._memory.one(plain(world)),))
        left = known.worlds  # the last ones known: a reset leaves what Xen itself remembers
        since: list[Round] = []
        met = True
        for each in found:
            anew = each.begins_anew
            since.append(each)
            # What dom0 has open, no reset of the guest tells.
            if not known.worlds and anew and met and len(left[0].world.domains) == 1:
                known = _Known(left, False, from_reset=True)
            after = self._after(each, known, slack) if known.worlds and each.met else None
            if after is not None and not after.worlds:
                judged.wrong = self._unexplained(each, tuple(since), known)
                return judged
            hidden = each.operations if after is None else _hidden(each, known)
            if after is None:
                seen = [(m.step, m.seen) for m in _both(each) if m.domid == self._domid]
                last = known.worlds or left
                worlds = (self._memory.one(grown(one.world, seen)) for one in last)
                left = tuple(dict.fromkeys(worlds))
            judged.undecided += hidden
            judged.operations += each.operations - hidden
            if each.alone is None:
                judged.concurrent += each.operations - hidden
            known = after.cut(self._memory) if after is not None else _Known(())
            met = each.met
            since = [each] if anew else since
        return judged

    def _after(self, each: Round, known: _Known, slack: int) -> _Known | None:
        """Return what is known after a round; no world: nothing explains it; None: it cannot be
        told."""
        key = known.worlds, known.pending, known.from_reset, _key(each, slack)
        return self._memory.remembered(key, partial(self._searched, each, known, slack))

    def _searched(self, each: Round, known: _Known, slack: int) -> _Known | None:
        vcpu = each.alone
        if vcpu is not None:
            done = self._alone(each.made[vcpu], known)
            return _Known(done.worlds, done.pending)
        made = _both(each)
        if any(one.step.what in NOT_AT_ONCE - {What.TAKE} for one in made):
            return None
        domain = known.worlds[0].world.domains[0]
        worlds, pending = known.worlds, known.pending
        if pending and any(_hides_pending(one, domain.fifo) for one in made):
            worlds, pending = _without_pending(worlds, self._memory), False
        search = _Search(each, self._flavour, slack, pending, self._memory)
        for world in worlds:
            search.from_world(world)
        if search.tried > _MOST_TRIED:
            return None
        return _Known(tuple(search.after), pending)

    def _unexplained(self, each: Round, since: tuple[Round, ...], known: _Known) -> Unexplained:
        if each.alone is None:
            return Unexplained(each, since, known.worlds[0].world)
        done = self._alone(each.made[each.alone], known)
        return Unexplained(each, since, done.before, done.wrong, done.expected)

    def _alone(self, made: Sequence[Made], known: _Known) -> Alone:
        judged = made[len(_before_reset(made)) :] if known.from_reset else made
        return after_alone(judged, known.worlds, known.pending, self._memory)


def _both(each: Round) -> list[Made]:
    return [*each.made[0], *each.made[1]]


def _without_pending(worlds: _Worlds, memory: Memory) -> _Worlds:
    known = (memory.one(plain(each.world, pending=False)) for each in worlds)
    return tuple(dict.fromkeys(known))


def _before_reset(made: Sequence[Made]) -> list[Made]:
    return list(takewhile(lambda one: one.step.what != What.BEGIN, made))


def _hidden(each: Round, known: _Known) -> int:
    """Return of how many operations of a round nothing is said, when so much is ``known``."""
    if each.alone is None:
        return sum(part.outline.unjudged for part in each.parts)
    before = each.parts[each.alone].outline.before_reset
    return before if known.from_reset and before is not None else 0


def _hides_pending(made: Made, fifo: bool) -> bool:
    """Say whether pending bits are not known after ``made``: a guest takes events in several steps,
    and FIFO's unmask sets PENDING anew after it has looked at it."""
    step = made.step
    cleared = step.what == What.CLEAR_BIT and step.number == Bit.PENDING
    return step.what == What.TAKE or (fifo and cleared)


def _key(each: Round, slack: int) -> object:
    """Return all of a round that its judgement depends on."""
    vcpu = each.alone
    if vcpu is not None:
        part = each.parts[vcpu]
        return vcpu, part.steps, part.untimed
    first, second = each.parts
    one, other = first.times, second.times
    return (
        first.steps,
        first.answers,
        second.steps,
        second.answers,
        tuple([other_ret + slack >= call for call, _ in one for _, other_ret in other]),
        tuple([ret + slack >= other_call for _, ret in one for other_call, _ in other]),
    )


def _answer(made: Made) -> tuple[int, ...]:
    seen = made.seen.seen
    if made.step.what == What.STATUS and seen.result == 0:
        return seen.result, seen.told, seen.detail
    return (seen.result,)


def _may_precede(one: Made, other: Made, slack: int) -> bool:
    """Say whether the clock allows that ``one`` is before ``other``, of another vCPU."""
    return other.seen.ret + slack >= one.seen.call


@dataclass
class _Search:
    each: Round
    flavour: Flavour
    slack: int  # ticks
    pending: bool  # whether pending bits are known
    memory: Memory
    tried: int = 0
    after: dict[Interned, None] = field(default_factory=dict)  # in which the round may end
    known: set[tuple[int, int, Interned]] = field(default_factory=set)

    def from_world(self, world: Interned) -> None:
        """Find every world in which the round may end if it began in ``world``."""
        made = self.each.made
        todo = [(0, 0, world)]
        while todo and self.tried <= _MOST_TRIED:
            state = todo.pop()
            if state in self.known:
                continue
            self.known.add(state)
            at, world = state[:2], state[2]
            if at == (len(made[0]), len(made[1])):
                self.after[world] = None
                continue
            for vcpu in range(2):
                if self._may_be_next(at, vcpu):
                    one = (at[0] + (vcpu == 0), at[1] + (vcpu == 1))
                    todo += [(*one, then) for then in self._then(world, made[vcpu][at[vcpu]])]

    def _may_be_next(self, at: tuple[int, int], vcpu: int) -> bool:
        """Say whether the clock allows that the next operation of ``vcpu`` is before the next one
        of the other."""
        made, other = self.each.made, 1 - vcpu
        if at[vcpu] == len(made[vcpu]):
            return False
        if at[other] == len(made[other]):
            return True
        return _may_precede(made[vcpu][at[vcpu]], made[other][at[other]], self.slack)

    def _then(self, world: Interned, made: Made) -> Iterable[Interned]:
        """Return every world after ``made``, if it is made in ``world`` with the answer seen."""
        self.tried += 1
        if made.unjudged or made.step.what == What.LOOK:
            return (world,)
        inside = self._writer_inside(made)
        key = "step", world, made.domid, made.vcpu, made.step, _answer(made), inside, self.pending
        find = partial(self._found, world.world, made, writer_inside=inside)
        return self.memory.remembered(key, find)

    def _found(self, world: World, made: Made, *, writer_inside: bool) -> tuple[Interned, ...]:
        after = self._after(world, made, writer_inside=writer_inside)
        return tuple(self.memory.one(plain(each, pending=self.pending)) for each in after)

    def _after(self, world: World, made: Made, *, writer_inside: bool) -> Iterator[World]:
        if made.operation is None:
            follower = Follower(world, made.domid, made.vcpu)
            if follower.follow(made.step).seen.result == made.seen.seen.result:
                yield follower.world
            return
        outcomes = predict(
            answered(world, made),
            made.operation,
            flavour=self.flavour,
            writer_inside=writer_inside,
        )
        if made.step.what == What.POLL:  # that it was refused tells what the port was
            if made.seen.seen.result == 0 or any(_fits(each, made) for each in outcomes):
                yield world
            return
        for outcome in outcomes:
            if _fits(outcome, made):
                yield outcome.world

    def _writer_inside(self, made: Made) -> bool:
        """Say whether a writer of the other vCPU may have been inside of some channel's lock."""
        return any(
            other.writes
            and _may_precede(made, other, self.slack)
            and _may_precede(other, made, self.slack)
            for other in self.each.made[1 - made.vcpu]
        )


def _fits(outcome: AllowedOutcome, made: Made) -> bool:
    result, seen = outcome.result, made.seen.seen
    if result.code != seen.result:
        return False
    if result.status is None:
        return True
    told = seen.told
    return result.status == StatusReply(told & 0xFF, told >> 8 & 0xFF, told >> 16, seen.detail)
