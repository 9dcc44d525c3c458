"""Mutual exclusion for any number of threads, from the invariants: an argument, checked.

Exploration proves a property up to so many threads.  This proves it for all: the lock word is a
sum of non-negative weights over the steps threads are at (see state_space).  If no thread can
enter one side while another thread is on the other - because the condition of its step bounds
the word from above, and the weights of the two already exceed that bound - then by induction
over the steps of any run the two sides are never occupied together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.model.explore.formula import compile_numpy, names_of
from harness.model.explore.program import System
from harness.model.explore.state_space import StateSpace, Transition


@dataclass(frozen=True)
class EntryCondition:
    """One way into a side, and why it is shut while the other side is occupied."""

    thread: str
    step: str
    bound: int | None  # the most the word can be where the step is taken; None: no bound
    least: int  # what the word is at least with this thread here and one on the other side
    against: str  # the nearest step of the other side

    @property
    def excluded(self) -> bool:
        return self.bound is not None and self.bound < self.least


def entry_conditions(system: System, word: str, one: str, other: str) -> tuple[EntryCondition, ...]:
    """Return every way into the steps tagged ``one`` while a thread is at one tagged ``other``.

    ``word`` is the variable that guards them.  Raises ValueError when it is no sum of
    non-negative weights: then there is no invariant to argue from.
    """
    space = StateSpace(system)
    if word not in space.sums or any(weight < 0 for _, weight in space.sums[word].weights):
        raise ValueError(f"{system.name}: {word} is no sum of non-negative weights")
    return tuple(_entries(space, word, one, other))


def _entries(space: StateSpace, word: str, one: str, other: str) -> Iterator[EntryCondition]:
    weights = dict(space.sums[word].weights)
    inside, across = space.tagged(one), space.tagged(other)
    for transition in space.transitions:
        if transition.target not in inside or transition.source in inside:
            continue
        bound = _bound(space, transition, word)
        for column in across:
            least = weights.get(transition.source, 0) + weights.get(column, 0)
            role = space.system.roles[transition.role].name
            yield EntryCondition(
                role, transition.step.name, bound, least, space.places[column].name
            )


def _bound(space: StateSpace, transition: Transition, word: str) -> int | None:
    """Return the largest value of ``word`` that satisfies the transition's condition."""
    when = transition.branch.when
    constants = dict(space.system.constants)
    if set(names_of(when)) - set(constants) != {word}:
        return None
    top = 4 * max(constants.values(), default=1)
    values = np.arange(top + 1)
    allowed = values[np.asarray(compile_numpy(when)(constants | {word: values}), dtype=bool)]
    if not allowed.size or allowed[-1] == top:
        return None
    return int(allowed[-1])


def excludes(system: System, word: str) -> bool:
    """Say whether readers and writers exclude each other, and writers one another, for any number.

    Of the programs only matters what they are, not how many threads run them.
    """
    ways = (("writing", "reading"), ("reading", "writing"), ("writing", "writing"))
    found = [entry for one, other in ways for entry in entry_conditions(system, word, one, other)]
    return bool(found) and all(entry.excluded for entry in found)
