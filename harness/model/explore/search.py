# SPDX-License-Identifier: GPL-2.0-or-later
"""Visits every state that a system can reach, in any interleaving, under sequential consistency.

The search is breadth first, so the first trace that violates a property is a shortest one.  It
takes a whole level of states at a time, in numpy.  A state says how many threads are at each
step, not which: threads that run the same program are interchangeable.
``system.without_symmetry()`` is the same system in which they are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from math import factorial

import numpy as np

from harness.model.explore.program import BUSY, Never, System
from harness.model.explore.state_set import StateSet, empty_state_set
from harness.model.explore.state_space import Keys, Mask, StateSpace, Transition, View
from harness.model.explore.trace import Counterexample, TraceStep

LOCK_FREE_AT_REST = "the lock is free when nobody uses it"


@dataclass(frozen=True)
class Limits:
    """When to give up.  An exploration that gave up is "not exhausted": it proves nothing."""

    states: int | None = None
    memory: int | None = None  # bytes of the exploration's own tables
    stop_at_first: bool = False  # give up at the first violation


@dataclass(frozen=True)
class Progress:
    """How far an exploration has come."""

    states: int
    frontier: int  # states of the latest level
    level: int  # steps from the initial state
    bytes: int


@dataclass
class Exploration:
    """What an exploration has found."""

    system: System
    states: int = 0
    transitions: int = 0
    levels: list[Keys] = field(default_factory=list)  # the states, by steps from the initial one
    exhausted: bool = True  # every state was visited
    counterexamples: list[Counterexample] = field(default_factory=list)  # one for each property
    bytes: int = 0  # of the exploration's own tables

    @property
    def invariants(self) -> tuple[str, ...]:
        """Return, written out, each variable that is a weighted sum over the threads.

        This holds in every state, and for any number of threads.
        """
        space = StateSpace(self.system)
        return tuple(space.invariant(name) for name in sorted(space.sums))

    @property
    def unreduced(self) -> int:
        """How many states there are when threads of one program are told apart."""
        space = StateSpace(self.system)
        return sum(_arrangements(space, keys) for keys in self.levels)


Watch = Callable[[Progress], None]


def lock_free_at_rest(system: System) -> tuple[Never, ...]:
    """Return the property that the lock is free when no thread is active."""
    rest = system.rest
    return (Never(LOCK_FREE_AT_REST, f"{BUSY} == 0 and not ({rest})"),) if rest else ()


def explore(
    system: System, limits: Limits | None = None, watch: Watch | None = None
) -> Exploration:
    """Visit every state that ``system`` can reach; give one counterexample for each false property.

    ``watch`` is called once for each level.
    """
    limits = limits or Limits()
    search = _Search(StateSpace(system))
    search.run(limits, watch)
    result = search.result
    if result.exhausted and system.returns_to_rest:
        stuck = _stuck(search.space, result.levels, search.known, search.at_rest)
        if stuck is not None:
            search.report(system.rest_claim, *stuck)
    return result


class _Search:
    def __init__(self, space: StateSpace) -> None:
        self.space = space
        self.result = Exploration(space.system)
        self.known: StateSet = empty_state_set(space.size)
        self.reported: set[str] = set()
        self.at_rest: list[Keys] = []
        rest = space.system.rest
        self.rest = f"{BUSY} == 0" + (f" and ({rest})" if rest else "")
        self.never = (*space.system.never, *lock_free_at_rest(space.system))

    def run(self, limits: Limits, watch: Watch | None) -> None:
        frontier = self.known.add(np.array([self.space.initial], np.int64))
        result = self.result
        while frontier.size:
            result.levels.append(frontier)
            result.states += frontier.size
            result.bytes = self.known.bytes + 8 * result.states
            if watch:
                watch(Progress(result.states, frontier.size, len(result.levels) - 1, result.bytes))
            view = self.space.view(frontier)
            self._check(frontier, view)
            self.at_rest.append(frontier[view.holds(self.rest)])
            over_states = limits.states is not None and result.states >= limits.states
            over_memory = limits.memory is not None and result.bytes >= limits.memory
            if over_states or over_memory or (limits.stop_at_first and result.counterexamples):
                result.exhausted = False
                return
            frontier = self._expand(frontier, view)

    def _check(self, keys: Keys, view: View) -> None:
        for never in self.never:
            if never.name not in self.reported:
                bad = np.flatnonzero(view.holds(never.formula))
                if bad.size:
                    self.report(never.name, len(self.result.levels) - 1, keys[bad[0]])

    def _expand(self, keys: Keys, view: View) -> Keys:
        new = []
        for transition in self.space.transitions:
            mask = self.space.enabled(transition, view)
            self._check_claim(transition, keys, view, mask)
            after, chosen = self.space.successors(transition, keys, view, mask)
            self.result.transitions += chosen.size
            if chosen.size < np.count_nonzero(mask):  # a variable has left its range
                self.result.exhausted = False
            if transition.branch.sets:  # only then can two states lead to the same one
                after = np.unique(after)
            new.append(self.known.add(after))
        return np.concatenate(new)

    def _check_claim(self, transition: Transition, keys: Keys, view: View, mask: Mask) -> None:
        branch = transition.branch
        if not branch.requires or branch.claim in self.reported:
            return
        bad = np.flatnonzero(mask & ~view.holds(branch.requires))
        if bad.size:
            self.report(branch.claim, len(self.result.levels) - 1, keys[bad[0]], transition)

    def report(self, name: str, level: int, key: np.int64, last: Transition | None = None) -> None:
        """Keep a counterexample: the path to ``key`` on ``level``, and then the step ``last``."""
        path = _path(self.space, self.result.levels[:level], key)
        if last is not None:
            path.append((last, key))
        self.reported.add(name)
        self.result.counterexamples.append(Counterexample(name, _narrate(self.space, path)))


# A path is its transitions, each with the key of the state before it.
_Path = list[tuple[Transition, np.int64]]


def _path(space: StateSpace, levels: list[Keys], key: np.int64) -> _Path:
    """Return a shortest path to ``key``, a state that is one step beyond the last of ``levels``."""
    path: _Path = []
    for keys in reversed(levels):
        transition, key = _predecessor(space, keys, key)
        path.append((transition, key))
    path.reverse()
    return path


def _predecessor(space: StateSpace, keys: Keys, key: np.int64) -> tuple[Transition, np.int64]:
    view = space.view(keys)
    for transition in space.transitions:
        mask = space.enabled(transition, view)
        after, chosen = space.successors(transition, keys, view, mask)
        hits = np.flatnonzero(after == key)
        if hits.size:
            return transition, keys[chosen[hits[0]]]
    raise AssertionError("a state without a predecessor")


def _narrate(space: StateSpace, path: _Path) -> tuple[TraceStep, ...]:
    """Return a path as a trace: threads get names, and the variables are followed."""
    roles = space.system.roles
    at = [[role.program.places[0]] * role.count for role in roles]
    values = {variable.name: variable.initial for variable in space.system.variables}
    trace = []
    for transition, _ in path:
        role = roles[transition.role]
        thread = at[transition.role].index(transition.step.name)
        at[transition.role][thread] = transition.branch.then
        for name, added in transition.adds:
            values[name] += added
        values.update(transition.branch.sets)
        label = role.name if role.count == 1 else f"{role.name} {thread + 1}"
        trace.append(
            TraceStep(
                label,
                transition.step.name,
                describe(transition),
                transition.step.xen,
                transition.branch.then,
                tuple(values.items()),
            )
        )
    return tuple(trace)


def describe(transition: Transition) -> str:
    """Return the access that a transition makes, in words."""
    step, branch = transition.step, transition.branch
    parts = [f"{step.kind.value} {step.word}".strip()]
    parts += [
        f"{name} {'+' if value >= 0 else '-'}= {abs(value)}" for name, value in transition.adds
    ]
    parts += [f"{name} = {value}" for name, value in branch.sets]
    if branch.when:
        parts.append(f"finds {branch.when}")
    return ", ".join(parts)


def _stuck(
    space: StateSpace, levels: list[Keys], known: StateSet, at_rest: list[Keys]
) -> tuple[int, np.int64] | None:
    """Return the first state from which no state at rest can be reached, with its level.

    A state in which every busy thread waits is preferred: it shows who waits for whom.
    """
    _mark_can_rest(space, known, at_rest)
    first: tuple[int, np.int64] | None = None
    for level, keys in enumerate(levels):
        lost = keys[~known.marked(keys)]
        if lost.size:
            first = first or (level, lost[0])
            waiting = lost[_all_wait(space, space.view(lost))]
            if waiting.size:
                return level, waiting[0]
    return first


def _mark_can_rest(space: StateSpace, known: StateSet, at_rest: list[Keys]) -> None:
    """Mark the states from which a state at rest can be reached, going backwards from those."""
    frontier = known.mark(np.concatenate(at_rest))
    while frontier.size:
        view = space.view(frontier)
        new = []
        for transition in space.transitions:
            for earlier in space.predecessors(transition, frontier, view):
                new.append(known.mark(np.unique(earlier) if transition.branch.sets else earlier))
        frontier = np.concatenate(new)


def _all_wait(space: StateSpace, view: View) -> Mask:
    """Return in which states some thread is busy and no busy thread can take a step."""
    waiting = view.holds(f"{BUSY} > 0").copy()
    for transition in space.transitions:
        if space.is_busy(transition.source):
            waiting &= ~space.enabled(transition, view)
    return waiting


def _arrangements(space: StateSpace, keys: Keys) -> int:
    """Return for how many states the states ``keys`` stand when threads are told apart."""
    view = space.view(keys)
    total = np.ones(keys.shape, object)
    for number, role in enumerate(space.system.roles):
        if role.count > 1:
            columns = [c for c, place in enumerate(space.places) if place.role == number]
            ways = [
                _ways(role.count, counts)
                for counts in zip(*(view.columns[c].tolist() for c in columns), strict=True)
            ]
            total = total * np.array(ways, object)
    return int(sum(total))


@cache
def _ways(threads: int, counts: tuple[int, ...]) -> int:
    """Return in how many ways ``threads`` can be placed so that ``counts`` are at each step."""
    ways = factorial(threads)
    for count in counts:
        ways //= factorial(count)
    return ways
