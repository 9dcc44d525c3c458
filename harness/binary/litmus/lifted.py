# SPDX-License-Identifier: GPL-2.0-or-later
"""The threads of a litmus test as programs of the model.

The lifter runs each thread once for every value that a load may find: a load is a step with a
branch for each value, and the program is a tree.  What the values decide is not taken from the
branches but from the lifter's taint: ``Dependencies``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.arch import Arch
from harness.binary import values
from harness.binary.events import Barrier, Effect, Kind, Location
from harness.binary.litmus.assembled import Code
from harness.binary.litmus.chosen import Chosen
from harness.binary.litmus.outside import OutsideError
from harness.binary.machine import NotUnderstoodError, State, successors
from harness.binary.tables import table_of
from harness.binary.values import Taint, Value
from harness.model.explore.program import (
    DONE,
    AccessKind,
    AtomicStep,
    Branch,
    Dependencies,
    Fence,
    Program,
)
from harness.model.explore.weak_memory import WINDOW

WORD = "&"  # a pointer to the word x has the base "&x"
_MOST_STEPS = 4000  # of one thread's tree
_MOST_VALUES = 12  # that one word can hold

Registers = Mapping[str, Value]
Observed = frozenset[tuple[str, int]]  # (step, the value that it read)


@dataclass(frozen=True)
class LiftedThread:
    """A thread as a program, and its registers at the end of each of its ways."""

    program: Program
    ends: Mapping[Observed, Sequence[Registers]]


@dataclass(frozen=True)
class LiftedTest:
    """All threads; ``sizes``: of each word that they access, in bytes."""

    threads: tuple[LiftedThread, ...]
    sizes: Mapping[Location, int]


def lift(
    codes: Sequence[Code],
    registers: Sequence[Mapping[str, Value]],
    initial: Mapping[Location, int],
) -> LiftedTest:
    """Lift ``codes``; OutsideError for what the lifter does not understand.

    ``registers``: what each thread's registers hold at first; the others hold 0.
    """
    found = {place: {value} for place, value in initial.items()}
    sizes: dict[Location, int] = {}
    rounds, writers = 0, set[tuple[int, int]]()
    # Each round finds what a store makes of the values of the round before.  Each store is made
    # once: after as many rounds as there are stores, no value is new that can be there.
    while True:
        words = {place: tuple(sorted(some)) for place, some in found.items()}
        lifts = [_Lift(number, code, words, sizes) for number, code in enumerate(codes)]
        threads = tuple(one.run(start) for one, start in zip(lifts, registers, strict=True))
        for one in lifts:
            for place, value in one.stored:
                found[place].add(value)
        known = len(writers)
        rounds += 1
        writers |= {writer for one in lifts for writer in one.writers}
        ended = rounds > len(writers) == known
        if ended or all(set(words[place]) == some for place, some in found.items()):
            return LiftedTest(threads, sizes)
        if any(len(some) > _MOST_VALUES for some in found.values()):
            raise OutsideError("a word that may hold too many values")


def variable(place: Location) -> str:
    """Return the name of the variable in the model that stands for the word at ``place``."""
    return f"{place.base.removeprefix(WORD)}_{place.offset}"


@dataclass(frozen=True)
class _Way:
    """One way on: the state, and what the CPU did on the way to it and is not written yet."""

    state: State
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True)
class _Past:
    """What has been written on the way so far."""

    steps: Mapping[int, str] = field(default_factory=dict)  # by the address of the instruction
    observed: Observed = frozenset()
    chosen: Chosen = field(default_factory=Chosen)


class _Lift:
    def __init__(
        self,
        number: int,
        code: Code,
        words: Mapping[Location, tuple[int, ...]],
        sizes: dict[Location, int],
    ) -> None:
        self.number = number
        self.code = code
        self.words = words
        self.sizes = sizes
        self.table = table_of(Arch.ARM64)
        self.steps: dict[str, AtomicStep | None] = {}
        self.ends: dict[Observed, list[Registers]] = {}
        self.stored: set[tuple[Location, int]] = set()
        self.writers: set[tuple[int, int]] = set()  # (thread, instruction)

    def run(self, registers: Mapping[str, Value]) -> LiftedThread:
        start = {f"x{number}": values.constant(0) for number in range(31)} | dict(registers)
        state = State(self.code.start, tuple(sorted(start.items())))
        self._from([_Way(state)], _Past())
        steps = tuple(step for step in self.steps.values() if step is not None)
        return LiftedThread(Program(f"P{self.number}", steps), self.ends)

    # -- the tree of steps -----------------------------------------------------------------

    def _from(self, ways: Sequence[_Way], past: _Past) -> str:
        """Write what comes after ``past``, which ends in all of ``ways``; return the first step."""
        ways = [after for way in ways for after in self._until_effect(way)]
        kinds: dict[object, list[_Way]] = {}
        for way in ways:
            kinds.setdefault(_signature(way), []).append(way)
        if len(kinds) == 1:
            return self._group(ways, past)
        name = self._name()
        thens = [self._group(group, past) for group in kinds.values()]
        self.steps[name] = AtomicStep(
            name, AccessKind.LOCAL, "", tuple(Branch("", then) for then in thens), ""
        )
        return name

    def _group(self, ways: Sequence[_Way], past: _Past) -> str:
        if not ways[0].effects:
            self.ends.setdefault(past.observed, []).extend(dict(w.state.registers) for w in ways)
            if self.steps:
                return DONE
            name = self._name()
            self.steps[name] = AtomicStep(name, AccessKind.LOCAL, "", (Branch("", DONE),), "")
            return name
        effect = ways[0].effects[0]
        if effect.barrier is not None:
            after = [_Way(way.state, way.effects[1:]) for way in ways]
            return self._fence(effect, after, past)
        if effect.kind not in _KINDS or effect.place is None:
            raise OutsideError("a call" if effect.kind is Kind.CALL else "memory without a name")
        return self._access(ways, past)

    def _fence(self, effect: Effect, after: Sequence[_Way], past: _Past) -> str:
        assert effect.barrier is not None
        name = self._name()
        step = AtomicStep(
            name, AccessKind.LOCAL, "", (Branch("", DONE),), "",
            before=_FENCES[effect.barrier], depends=self._depends(effect, past),
        )  # fmt: skip
        step, chosen = past.chosen.then(step, frozenset(), frozenset())
        then = self._from(after, replace(past, chosen=chosen))
        self.steps[name] = replace(step, branches=(Branch("", then),))
        return name

    def _access(self, ways: Sequence[_Way], past: _Past) -> str:
        effect = ways[0].effects[0]
        place = effect.place
        assert place is not None
        if len(past.chosen.line) > WINDOW - 2:  # one more may be a read and a write
            raise OutsideError("more accesses than the explorer keeps in flight")
        if effect.address in past.steps:
            raise OutsideError("a loop: an instruction accesses memory twice")
        name, word, kind = self._name(), variable(place), _KINDS[effect.kind]
        past = replace(past, steps={**past.steps, effect.address: name})
        reads = kind is not AccessKind.STORE
        step = AtomicStep(
            name, kind, word, (), "", _tags(effect),
            observe=name if reads else "", depends=self._depends(effect, past),
        )  # fmt: skip
        branches = []
        for old in sorted({way.effects[0].old for way in ways}):
            same = [way for way in ways if way.effects[0].old == old]
            sets = () if kind is AccessKind.LOAD else self._written(place, same[0].effects[0])
            branch = Branch(f"{word} == {old}" if reads else "", DONE, sets=sets)
            made, chosen = past.chosen.then(
                replace(step, branches=(branch,)),
                _steps(effect.address_needs, past, picked=True),
                _steps(effect.needs - effect.address_needs, past, picked=True),
            )
            observed = past.observed | {(name, old)} if reads else past.observed
            after = [_Way(way.state, way.effects[1:]) for way in same]
            then = self._from(after, replace(past, observed=observed, chosen=chosen))
            branches.append(replace(branch, then=then))
        self.steps[name] = replace(made, branches=tuple(branches))
        return name

    def _written(self, place: Location, effect: Effect) -> tuple[tuple[str, int], ...]:
        if effect.new is None:
            return ()
        value = effect.new.low(self.sizes[place] * 8)
        if value is None:
            raise OutsideError("a store of what is not known")
        self.stored.add((place, value))
        self.writers.add((self.number, effect.address))
        return ((variable(place), value),)

    def _depends(self, effect: Effect, past: _Past) -> Dependencies:
        return Dependencies(
            address=_steps(effect.address_needs, past),
            data=_steps(effect.needs - effect.address_needs, past),
            way=_steps(effect.decided_by, past),
            picked=_steps(effect.needs | effect.decided_by, past, picked=True),
        )

    def _name(self) -> str:
        name = f"s{len(self.steps)}"
        self.steps[name] = None  # its place, the first one the first, is kept
        if len(self.steps) > _MOST_STEPS:
            raise OutsideError("too many ways")
        return name

    # -- running it ------------------------------------------------------------------------

    def _until_effect(self, way: _Way) -> Iterator[_Way]:
        """Yield every way on from ``way`` to the next effects, or to the end of the thread."""
        waiting = [way]
        while waiting:
            way = waiting.pop()
            if way.effects:
                yield way
            elif way.state.pc == self.code.end:
                yield self._ended(way.state)
            else:
                waiting += reversed(list(self._next(way.state)))

    def _ended(self, state: State) -> _Way:
        """The thread has ended; a load-exclusive without a store is now an access of its own."""
        if state.exclusive is None:
            return _Way(state)
        opened = state.exclusive
        effect = Effect(
            Kind.RMW,
            opened.address,
            opened.old,
            after=opened.after,
            place=opened.place,
            needs=opened.needs,
            address_needs=opened.needs,
        )
        return _Way(replace(state, exclusive=None), (effect,))

    def _next(self, state: State) -> Iterator[_Way]:
        instruction = self.code.instructions.get(state.pc)
        if instruction is None:
            raise OutsideError("a jump out of the thread")
        try:
            outcomes = list(
                successors(
                    self.table, instruction, state, self._is_word, self._values, hex,
                    names_values=False, tries_again=False,
                )
            )  # fmt: skip
        except NotUnderstoodError as error:
            raise OutsideError(f"not in the table: {instruction.mnemonic}") from error
        exclusive = {outcome.state.exclusive for outcome in outcomes if outcome.state is not None}
        if len(outcomes) > 1 and len(exclusive) == 1 and not outcomes[0].effects:
            raise OutsideError("a branch on what is not known")
        for outcome in outcomes:
            if outcome.state is None or outcome.returned:
                raise OutsideError("a trap or a return")
            yield _Way(outcome.state, outcome.effects)

    def _is_word(self, place: Location, size: int) -> bool:
        if not place.base.startswith(WORD):
            return False
        if place not in self.words:
            raise OutsideError("memory beside the named words")
        if self.sizes.setdefault(place, size) != size:
            raise OutsideError("accesses of different sizes")
        return True

    def _values(self, place: Location) -> tuple[int, ...]:
        return self.words[place]


def _signature(way: _Way) -> object:
    """Return what is the same of two ways whose next step is the same, whatever value it finds."""
    if not way.effects:
        return None
    return replace(way.effects[0], old=0, new=None), way.effects[0].new is None


def _steps(taint: Taint, past: _Past, picked: bool = False) -> frozenset[str]:
    return frozenset(past.steps[~one if picked else one] for one in taint if (one < 0) is picked)


def _tags(effect: Effect) -> tuple[str, ...]:
    tags = []
    if effect.after is Barrier.ACQUIRE or effect.after is Barrier.FULL:
        tags.append("acquire")
    if effect.after is Barrier.ACQUIRE_PC:
        tags.append("acquire-pc")
    if effect.before in (Barrier.RELEASE, Barrier.FULL):
        tags.append("release")
    if effect.after is Barrier.FULL:
        tags.append("full")
    if effect.unread:
        tags.append("unread")
    return tuple(tags)


_KINDS = {
    Kind.LOAD: AccessKind.LOAD,
    Kind.STORE: AccessKind.STORE,
    Kind.RMW: AccessKind.RMW,
}
_FENCES = {
    Barrier.FULL: Fence.FULL,
    Barrier.READ: Fence.READ,
    Barrier.WRITE: Fence.WRITE,
    Barrier.STORES: Fence.STORES,
    Barrier.INSTRUCTIONS: Fence.INSTRUCTIONS,
}
