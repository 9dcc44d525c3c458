# SPDX-License-Identifier: GPL-2.0-or-later
"""Every order in which the threads of a small system can take their steps.

The search merges orders that lead to the same state.  Here each order is handed out as a whole,
for a caller who wants to take it on a real machine.  Every thread must run once and end.

``reduce`` leaves out orders that differ only in the order of independent steps: one of each
Mazurkiewicz trace is kept (sleep sets, Godefroid 1996).  ``preemptions`` bounds how often the
next step is another thread's although the last thread could go on (Musuvathi and Qadeer 2007).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.model.explore.formula import compile_numpy, names_of
from harness.model.explore.program import DONE, AccessKind, AtomicStep, Branch, System


@dataclass(frozen=True)
class ScheduledStep:
    """One thread's turn in an interleaving.

    The thread makes its step; with ``branch`` None it only reads, finds that it has to wait, and
    stays at the step.
    """

    thread: int
    step: AtomicStep
    branch: Branch | None
    values: tuple[tuple[str, int], ...]  # all variables afterwards
    then: str  # the step at which the thread is afterwards, or DONE

    def value(self, name: str) -> int:
        """Return the variable ``name`` as it is afterwards."""
        return dict(self.values)[name]


Interleaving = tuple[ScheduledStep, ...]


@dataclass(frozen=True)
class _State:
    places: tuple[str, ...]
    values: tuple[tuple[str, int], ...]
    looked: frozenset[int] = frozenset()  # threads that found they wait; nothing changed since


def thread_names(system: System) -> tuple[str, ...]:
    """Return the names of the system's threads; ScheduledStep.thread is the position."""
    return tuple(
        role.name if role.count == 1 else f"{role.name} {number + 1}"
        for role in system.roles
        for number in range(role.count)
    )


def initial_state(system: System) -> tuple[tuple[str, ...], Mapping[str, int]]:
    """Return the first step of each thread, and the initial values of the variables."""
    places = tuple(role.program.places[0] for role in system.roles for _ in range(role.count))
    return places, {variable.name: variable.initial for variable in system.variables}


class FormulaValues(dict[str, int]):
    """Values of the names in formulas; a tag that no thread has now is 0."""

    def __missing__(self, _: str) -> int:
        return 0


def formula_values(
    system: System, places: Sequence[str], values: Mapping[str, int]
) -> FormulaValues:
    """Return the values of the names in the system's formulas, with its threads at ``places``."""
    found = FormulaValues(dict(system.constants) | dict(values))
    programs = [role.program for role in system.roles for _ in range(role.count)]
    for program, place in zip(programs, places, strict=True):
        for tag in program.tags_of(place):
            found[tag] = found[tag] + 1
    return found


def interleavings(
    system: System,
    *,
    waits: bool = False,
    reduce: bool = False,
    preemptions: int | None = None,
) -> Iterator[Interleaving]:
    """Yield every order, those that begin with the first thread's steps first.

    ``waits``: a thread that has to wait at a plain read also reads in vain, as a turn of its
    own: once, and again when the variables have changed.
    """
    places, values = initial_state(system)
    walk = _Walk(system, waits, reduce)
    yield from walk.onward((), _State(places, tuple(values.items())), frozenset(), preemptions)


def replay(system: System, order: Iterable[int]) -> Interleaving:
    """Return the interleaving in which the threads have their turns in ``order``.

    A thread that has to wait at a plain read reads in vain.  Raises ValueError when it is the
    turn of a thread that has ended or cannot go on, and when not every thread has ended.
    """
    places, values = initial_state(system)
    walk = _Walk(system, True, False)
    state, done = _State(places, tuple(values.items())), list[ScheduledStep]()
    for thread in order:
        fresh = _State(state.places, state.values)
        turn = next((turn for turn in walk.turns(fresh) if turn.thread == thread), None)
        if turn is None:
            raise ValueError(f"turn {len(done) + 1}: thread {thread} cannot go on")
        done.append(turn)
        state = walk.after(state, turn)
    if any(place != DONE for place in state.places):
        raise ValueError("some threads have not ended")
    return tuple(done)


def final_values(system: System) -> frozenset[tuple[tuple[str, int], ...]]:
    """Return every set of values that the variables can have when all threads have ended."""
    places, values = initial_state(system)
    walk = _Walk(system, False, False)
    left = [_State(places, tuple(values.items()))]
    seen, found = set(left), set[tuple[tuple[str, int], ...]]()
    while left:
        state = left.pop()
        if all(place == DONE for place in state.places):
            found.add(state.values)
        following = {walk.after(state, turn) for turn in walk.turns(state)} - seen
        seen |= following
        left.extend(following)
    return frozenset(found)


class _Walk:
    def __init__(self, system: System, waits: bool, reduce: bool) -> None:
        self._system = system
        self._waits = waits
        self._programs = [role.program for role in system.roles for _ in range(role.count)]
        self._reduce = reduce and not self._looks_at_threads()

    def _looks_at_threads(self) -> bool:
        """Say whether some step depends on where other threads are, and not only on variables."""
        known = {variable.name for variable in self._system.variables}
        known |= {name for name, _ in self._system.constants}
        branches = (b for program in self._programs for s in program.steps for b in s.branches)
        return any(set(names_of(b.when)) - known for b in branches if b.when)

    def onward(
        self, done: Interleaving, state: _State, asleep: frozenset[int], preemptions: int | None
    ) -> Iterator[Interleaving]:
        """Yield every order that begins with ``done``, which leads to ``state``."""
        if all(place == DONE for place in state.places):
            yield done
            return
        turns = {turn.thread: turn for turn in self.turns(state)}
        last = done[-1].thread if done else None
        slept = set(asleep)
        for thread, turn in turns.items():
            if thread in slept:
                continue
            left = preemptions
            if last is not None and thread != last and last in turns and left is not None:
                if turns[last].branch is not None:
                    left -= 1
                if left < 0:
                    continue
            sleepers = (
                frozenset(t for t in slept if t in turns and independent(turns[t].step, turn.step))
                if self._reduce
                else frozenset[int]()
            )
            yield from self.onward((*done, turn), self.after(state, turn), sleepers, left)
            if self._reduce:
                slept.add(thread)

    def turns(self, state: _State) -> Iterator[ScheduledStep]:
        """Yield the turn that each thread could have now."""
        values = dict(state.values)
        now = formula_values(self._system, state.places, values)
        for thread, place in enumerate(state.places):
            if place == DONE:
                continue
            step = self._programs[thread].step(place)
            for branch in step.branches:
                if not branch.when or compile_numpy(branch.when)(now):
                    for name, added in branch.adds:
                        values[name] += self._system.constant(added)
                    values.update(branch.sets)
                    yield ScheduledStep(thread, step, branch, tuple(values.items()), branch.then)
                    values = dict(state.values)
                    break
            else:
                if self._waits and step.kind is AccessKind.LOAD and thread not in state.looked:
                    yield ScheduledStep(thread, step, None, state.values, place)

    def after(self, state: _State, turn: ScheduledStep) -> _State:
        """Return the state after ``turn``."""
        places = list(state.places)
        places[turn.thread] = turn.then
        looked = state.looked | {turn.thread} if turn.branch is None else state.looked
        if turn.values != state.values:
            looked = frozenset()
        return _State(tuple(places), turn.values, looked)


def independent(one: AtomicStep, other: AtomicStep) -> bool:
    """Say whether neither of two steps can change what the other one finds."""
    reads, writes = _footprint(one)
    other_reads, other_writes = _footprint(other)
    return not (writes & (other_reads | other_writes) or other_writes & reads)


def _footprint(step: AtomicStep) -> tuple[frozenset[str], frozenset[str]]:
    """Return the variables that ``step`` reads, and those that it may change."""
    reads = {name for branch in step.branches for name in names_of(branch.when) if branch.when}
    added = {name for branch in step.branches for name, value in branch.adds}
    put = {name for branch in step.branches for name, _ in branch.sets}
    return frozenset(reads | added), frozenset(added | put)
