# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutual exclusion for any number of threads: a proof by induction, from the invariants.

The search proves a property for so many threads.  This proves mutual exclusion for any number.

The lock word is a sum of weights, one for each thread, and a thread's weight depends on the step
at which it is (see ``state_space``); no weight is negative.  A thread enters one side by a step
whose condition bounds the word from above.  If another thread is on the other side, the weights
of the two alone may already exceed that bound: then the step cannot be taken.  If that is so for
every step by which a side can be entered, then no step of a run brings threads to both sides.
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
    """One step by which a side is entered, while a thread is on the other side."""

    thread: str
    step: str
    bound: int | None  # the largest word with which the step can be taken; None: no bound
    least: int  # the smallest word with this thread at its step and one at ``against``
    against: str  # a step of the other side

    @property
    def excluded(self) -> bool:
        """Whether the step cannot be taken then."""
        return self.bound is not None and self.bound < self.least


def entry_conditions(system: System, word: str, one: str, other: str) -> tuple[EntryCondition, ...]:
    """Return each step that leads to one tagged ``one``, against each step tagged ``other``.

    ``word`` is the variable of the lock.  Raises ValueError when it is no sum of non-negative
    weights: then the proof has no invariant to start from.
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
    """Return the largest ``word`` that satisfies the transition's condition; None: no bound."""
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
    """Say whether writers exclude readers and other writers, whatever the number of threads.

    How many threads the roles of ``system`` have makes no difference.
    """
    sides = (("writing", "reading"), ("reading", "writing"), ("writing", "writing"))
    found = [entry for one, other in sides for entry in entry_conditions(system, word, one, other)]
    return bool(found) and all(entry.excluded for entry in found)
