# SPDX-License-Identifier: GPL-2.0-or-later
"""A system compiled for exploration: states as whole numbers, transitions as additions.

A state says how many threads of each role are at each step, and what the variables are.  It is
packed into one whole number, the key, in a mixed radix.  A transition adds a constant to the key.

A variable needs no digit in the key when each of its changes goes with a move of a thread from
one step to another.  Then it is a weighted sum of the counts, whatever the number of threads.
Such weights prove an invariant (of the counter: L = W * writers + readers), so they are kept,
and shown to the user.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.model.explore.formula import compile_numpy, names_of
from harness.model.explore.program import BUSY, DONE, AtomicStep, Branch, System, Variable

Keys = NDArray[np.int64]
Column = NDArray[np.int64]
Mask = NDArray[np.bool_]
_NO_COLUMN: Column = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Transition:
    """A thread of one role takes one branch of its step."""

    role: int
    source: int  # column of the step that is taken
    target: int  # column of the step after it
    step: AtomicStep
    branch: Branch
    delta: int  # what it adds to the key, but for the variables that the branch sets
    adds: tuple[tuple[str, int], ...]  # (variable, number)


@dataclass(frozen=True)
class Place:
    """One column of a view: the threads of ``role`` that are at step ``name``.

    A role of several threads has a digit for each step but the first: all others are there.  A
    role of one thread has a single digit: at which step the thread is.
    """

    role: int
    name: str
    stride: int  # what is added to the key for one thread here
    base: int  # values of the digit
    unit: int  # role of one thread: what its digit counts in; else 0


@dataclass(frozen=True)
class Digit:
    """The digit of a variable in the key."""

    variable: Variable
    stride: int
    base: int


@dataclass(frozen=True)
class Sum:
    """A variable that has no digit: a weighted sum of columns."""

    initial: int
    weights: tuple[tuple[int, int], ...]  # (column, weight)


@dataclass
class View(Mapping[str, Any]):
    """Many states, decoded: the columns, and the values of the names in formulas."""

    space: StateSpace
    columns: list[Column]
    digits: dict[str, Column]
    known: dict[str, Any] = field(default_factory=dict)  # values that were asked for before

    def __getitem__(self, name: str) -> Any:
        if name not in self.known:
            self.known[name] = self.space.value(name, self)
        return self.known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)

    def holds(self, text: str) -> Mask:
        """Return in which states the formula holds."""
        if text not in self.known:
            value = compile_numpy(text)(self)
            shape = self.columns[0].shape
            self.known[text] = np.broadcast_to(np.asarray(value, dtype=bool), shape)
        result: Mask = self.known[text]
        return result


class StateSpace:
    """One ``System``, compiled.  Raises ValueError when a state does not fit 62 bits."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._tags: dict[str, list[int]] = {}
        self.places: list[Place] = []
        self.index: dict[tuple[int, str], int] = {}
        self._layout: list[tuple[int, int, bool]] = []  # by role: first column, columns, lone
        stride = self._lay_out_places()
        self.sums: dict[str, Sum] = {}
        self.digits: dict[str, Digit] = {}
        for variable in system.variables:
            found = self._as_sum(variable)
            if found is not None:
                self.sums[variable.name] = found
                continue
            base = variable.high - variable.low + 1
            self.digits[variable.name] = Digit(variable, stride, base)
            stride *= base
        if stride >= 1 << 62:
            raise ValueError(f"{system.name}: a state does not fit 62 bits")
        self.size = stride
        self.transitions = tuple(self._transitions())
        self.initial = sum(
            (digit.variable.initial - digit.variable.low) * digit.stride
            for digit in self.digits.values()
        )

    def _lay_out_places(self) -> int:
        stride = 1
        for number, role in enumerate(self.system.roles):
            places = role.program.places
            lone = role.count == 1
            first = stride
            self._layout.append((len(self.places), len(places), lone))
            for position, name in enumerate(places):
                self.index[number, name] = len(self.places)
                for tag in role.program.tags_of(name):
                    self._tags.setdefault(tag, []).append(len(self.places))
                if position and name != DONE:
                    self._tags.setdefault(BUSY, []).append(len(self.places))
                if lone:
                    place = Place(number, name, position * first, len(places), first)
                else:
                    place = Place(number, name, stride if position else 0, role.count + 1, 0)
                    stride *= role.count + 1 if position else 1
                self.places.append(place)
            if lone:
                stride *= len(places)
        return stride

    def _moves(self) -> Iterator[tuple[int, int, int, AtomicStep, Branch]]:
        for number, role in enumerate(self.system.roles):
            for step in role.program.steps:
                source = self.index[number, step.name]
                for branch in step.branches:
                    yield number, source, self.index[number, branch.then], step, branch

    def _as_sum(self, variable: Variable) -> Sum | None:
        """Find weights that make the variable a sum of counts, or None when there are none."""
        weight = {self.index[n, r.program.places[0]]: 0 for n, r in enumerate(self.system.roles)}
        moves = []
        for _, source, target, _, branch in self._moves():
            if any(name == variable.name for name, _ in branch.sets):
                return None
            added = sum(self.system.constant(v) for n, v in branch.adds if n == variable.name)
            moves.append((source, target, added))
        changed = True
        while changed:
            changed = False
            for source, target, added in moves:
                if source in weight and target not in weight:
                    weight[target] = weight[source] + added
                    changed = True
        if any(
            source in weight and weight[target] != weight[source] + added
            for source, target, added in moves
        ):
            return None
        return Sum(variable.initial, tuple((c, w) for c, w in sorted(weight.items()) if w))

    def _transitions(self) -> Iterator[Transition]:
        for number, source, target, step, branch in self._moves():
            delta = self.places[target].stride - self.places[source].stride
            adds = tuple((name, self.system.constant(value)) for name, value in branch.adds)
            for name, value in adds:
                if name in self.digits:
                    delta += value * self.digits[name].stride
            yield Transition(number, source, target, step, branch, delta, adds)

    def tagged(self, tag: str) -> tuple[int, ...]:
        """Return the columns of the steps that carry ``tag``."""
        return tuple(self._tags.get(tag, ()))

    def invariant(self, name: str) -> str:
        """Return a variable that is a sum as text: "L = 1 * #send.undo + 8192 * #writer.leave"."""
        parts = []
        for column, weight in self.sums[name].weights:
            place = self.places[column]
            parts.append(f"{weight} * #{self.system.roles[place.role].name}.{place.name}")
        return f"{name} = {' + '.join(parts) or self.sums[name].initial}"

    def is_busy(self, column: int) -> bool:
        """Say whether a thread at this column is neither at its first step nor done."""
        return column in self._tags.get(BUSY, ())

    # -- states ----------------------------------------------------------------------------

    def view(self, keys: Keys) -> View:
        """Return the states of ``keys``, decoded."""
        left = keys
        digits: dict[str, Column] = {}
        for name, digit in reversed(self.digits.items()):
            value = left // digit.stride  # cheaper than a remainder, most significant first
            left = left - value * digit.stride
            digits[name] = value + digit.variable.low
        columns = [_NO_COLUMN] * len(self.places)
        for first, count, lone in reversed(self._layout):
            if lone:
                place = left // self.places[first].unit
                left = left - place * self.places[first].unit
                for position in range(count):
                    columns[first + position] = (place == position).astype(np.int64)
                continue
            implied = np.full(keys.shape, self.system.roles[self.places[first].role].count)
            for column in range(first + count - 1, first, -1):
                here = left // self.places[column].stride
                left = left - here * self.places[column].stride
                implied -= here
                columns[column] = here
            columns[first] = implied
        return View(self, columns, digits)

    def value(self, name: str, view: View) -> Any:
        """Return what ``name`` stands for in a formula."""
        if name in view.digits:
            return view.digits[name]
        if name in self.sums:
            total: Any = self.sums[name].initial
            for column, weight in self.sums[name].weights:
                total = total + view.columns[column] * weight
            return total
        if name in self._tags:
            return sum(view.columns[column] for column in self._tags[name])
        constants = dict(self.system.constants)
        return constants.get(name, 0)  # a tag that no program of this system carries

    def enabled(self, transition: Transition, view: View) -> Mask:
        """Return in which states a thread is at the transition's step and its condition holds."""
        here: Mask = view.columns[transition.source] > 0
        return here & view.holds(transition.branch.when) if transition.branch.when else here

    def successors(
        self, transition: Transition, keys: Keys, view: View, mask: Mask
    ) -> tuple[Keys, NDArray[np.intp]]:
        """Return the states after ``transition``, and the positions in ``keys`` they come from.

        It is taken in the states of ``mask``.  A successor in which a variable would leave its
        range is left out.
        """
        chosen = np.flatnonzero(mask)
        after = keys[chosen] + transition.delta
        inside: Mask | None = None
        for name, value in transition.adds:
            digit = self.digits.get(name)
            if digit is not None:
                new = view.digits[name][chosen] + value
                kept = (new >= digit.variable.low) & (new <= digit.variable.high)
                inside = kept if inside is None else inside & kept
        for name, value in transition.branch.sets:
            digit = self.digits[name]
            after = after + (value - view.digits[name][chosen]) * digit.stride
        return (after, chosen) if inside is None else (after[inside], chosen[inside])

    def predecessors(self, transition: Transition, keys: Keys, view: View) -> Iterator[Keys]:
        """Yield the states from which ``transition`` leads to one of ``keys``.

        They may be states that the system never reaches.
        """
        came: Mask = view.columns[transition.target] > 0
        for priors in _priors(self, transition):
            back = keys - transition.delta
            mask = came
            for (name, value), prior in zip(transition.branch.sets, priors, strict=True):
                mask = mask & (view.digits[name] == value)
                back = back - (value - prior) * self.digits[name].stride
            if transition.branch.when:
                earlier = self._earlier(transition, view, priors)
                holds = compile_numpy(transition.branch.when)(earlier)
                mask = mask & np.asarray(holds, dtype=bool)
            yield back[mask]

    def _earlier(
        self, transition: Transition, view: View, priors: tuple[int, ...]
    ) -> dict[str, Any]:
        """Return the values that the names in the transition's condition had before it."""
        overwritten = dict(zip((name for name, _ in transition.branch.sets), priors, strict=True))
        adds = dict(transition.adds)
        values: dict[str, Any] = {}
        for name in names_of(transition.branch.when):
            values[name] = overwritten.get(name, view[name])
            if name in adds:
                values[name] = values[name] - adds[name]
            if name in self._tags:
                columns = self._tags[name]
                lost, won = transition.source in columns, transition.target in columns
                values[name] = values[name] + lost - won
        return values


def _priors(space: StateSpace, transition: Transition) -> Iterator[tuple[int, ...]]:
    """Yield every combination of values that the variables may have had before they were set."""

    def extend(chosen: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(chosen) == len(transition.branch.sets):
            yield chosen
            return
        variable = space.digits[transition.branch.sets[len(chosen)][0]].variable
        for value in range(variable.low, variable.high + 1):
            yield from extend((*chosen, value))

    return extend(())
