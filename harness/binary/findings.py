# SPDX-License-Identifier: GPL-2.0-or-later
"""What is found of one copy of a lock function, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.binary.events import Barrier, Effect, Kind
from harness.binary.values import Value
from harness.model.explore.program import AtomicStep


@dataclass(frozen=True)
class Departure:
    """Where a copy leaves the model's program."""

    kind: str  # "order", "value" or "path"
    address: int
    instruction: str
    line: str  # of the source
    step: str  # the model's
    binary: str  # what the binary does there
    model: str  # what the model has there
    trace: tuple[str, ...]
    before: bool = False  # of "order": the barrier is missing before the step, not after it
    # Of publication: the access before ``address`` in the program, which the machine may make
    # behind it.  0: it is a call, or the program itself has the wrong order.
    first: int = 0


@dataclass(frozen=True)
class NotCovered:
    """What could not be said of a copy, and why."""

    address: int
    why: str
    line: str = ""


@dataclass
class Refinement:
    """What was found of one copy."""

    function: str
    caller: str
    address: int
    departures: list[Departure] = field(default_factory=list)
    not_covered: list[NotCovered] = field(default_factory=list)
    accesses: set[tuple[int, str]] = field(default_factory=set)  # of the lock word; model's step
    # Which barriers were found before and after each step of the model, on each path.
    before: dict[str, set[frozenset[Barrier]]] = field(default_factory=dict)
    after: dict[str, set[frozenset[Barrier]]] = field(default_factory=dict)
    instructions: int = 0
    understood: int = 0

    @property
    def verdict(self) -> str:
        """ "refuted", "not covered" or "as modelled"."""
        if self.departures:
            return "refuted"
        return "not covered" if self.not_covered else "as modelled"

    def forget(self) -> None:
        """Forget what was found of its order and values, but not where it accesses the word."""
        self.departures, self.not_covered = [], []
        self.before, self.after = {}, {}

    def add(self, other: Refinement) -> None:
        """Add what was found of the same copy in ``other``, which came before."""
        places = {(d.kind, d.step, d.before, d.address) for d in other.departures}
        self.departures = other.departures + [
            d for d in self.departures if (d.kind, d.step, d.before, d.address) not in places
        ]
        self.not_covered = [
            *other.not_covered,
            *(one for one in self.not_covered if one not in other.not_covered),
        ]
        for ours, theirs in ((self.before, other.before), (self.after, other.after)):
            for step, found in theirs.items():
                ours.setdefault(step, set()).update(found)


def told(effect: Effect) -> str:
    match effect.kind:
        case Kind.LOAD:
            return f"reads the lock word, {effect.old:#x}"
        case Kind.STORE:
            return f"writes the lock word, {_number(effect.new)}, with a plain store"
        case Kind.RMW if effect.new is None:
            return f"reads the lock word, {effect.old:#x}, and does not write it"
        case Kind.RMW:
            return f"changes the lock word from {effect.old:#x} to {_number(effect.new)}"
        case Kind.FENCE:
            return f"barrier ({effect.barrier})"
        case Kind.CALL:
            return f"calls {effect.target}" if effect.target else "ends"
        case _:
            return f"accesses {where(effect)}"


def where(effect: Effect) -> str:
    return str(effect.place) if effect.place is not None else "an address that is not known"


def _number(value: Value | None) -> str:
    number = value.low(32) if value is not None else None
    return "what is not known" if number is None else f"{number:#x}"


def has(step: AtomicStep) -> str:
    return f"{step.name}: {step.kind.value}, {step.xen.removeprefix(': ')}"
