# SPDX-License-Identifier: GPL-2.0-or-later
"""Run a litmus test under the Armv8 model: can its outcome be observed?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from harness.binary import values
from harness.binary.events import Location
from harness.binary.litmus.assembled import assemble
from harness.binary.litmus.condition import Place, Register
from harness.binary.litmus.herd import HerdTest
from harness.binary.litmus.lifted import WORD, LiftedTest, Registers, lift, variable
from harness.binary.litmus.outside import OutsideError
from harness.binary.values import Value
from harness.model.explore.memory_model import MemoryModel
from harness.model.explore.program import Role, System, Variable
from harness.model.explore.search import Limits
from harness.model.explore.weak_memory import explore_weak

_MOST_STATES = 300_000


@dataclass(frozen=True)
class Final:
    """One final state."""

    test: HerdTest
    registers: tuple[Registers, ...]  # by thread
    memory: Mapping[Location, int]
    sizes: Mapping[Location, int]

    def holds(self, place: Place, wanted: int | str) -> bool:
        """Say whether ``place`` holds ``wanted``: a number, or the address of a symbol."""
        if isinstance(place, Register):
            return self._register(place, wanted)
        if isinstance(wanted, str):
            raise OutsideError("an address in memory")
        element = self.test.initial.element.get(place.symbol, 4)
        where = Location(WORD + place.symbol, place.index * element)
        value = self.memory.get(where, 0)
        return not (value - wanted) % (1 << 8 * self.sizes.get(where, element))

    def _register(self, place: Register, wanted: int | str) -> bool:
        held = self.registers[place.thread].get(place.name, values.constant(0))
        if isinstance(wanted, str):
            return held.base == WORD + wanted and held.bits == 0
        if held.base:
            return False
        declared = self.test.initial.width.get((place.thread, place.name), 8)
        value = held.low(8 * declared)
        if value is None:
            raise OutsideError("a result that the table does not compute")
        # Of a register that is not declared, herd shows 32 bits as a signed number, too.
        width = 4 if declared == 8 and value >> 32 == 0 else declared
        return not (value - wanted) % (1 << 8 * width)


@dataclass(frozen=True)
class Ran:
    """All final states of a test."""

    test: HerdTest
    finals: tuple[Final, ...]

    @cached_property
    def observable(self) -> bool:
        """Whether the outcome that the test asks for can be observed (forall: always is)."""
        found = [self.test.formula(final.holds) for final in self.finals]
        return all(found) if self.test.quantifier == "forall" else any(found)


def run(test: HerdTest) -> Ran:
    """Assemble, lift and explore ``test``; OutsideError for what is not covered."""
    initial = _words(test)
    lifted = lift(assemble(test.threads), _registers(test), initial)
    roles = tuple(Role(thread.program, 1) for thread in lifted.threads)
    variables = tuple(Variable(variable(place), value) for place, value in initial.items())
    system = System(test.name, roles, variables)
    explored = explore_weak(system, MemoryModel.ARM, Limits(_MOST_STATES))
    if not explored.exhausted:
        raise OutsideError("too many states")
    finals = []
    for ending in explored.endings:
        memory = {place: ending.memory[variable(place)] for place in initial}
        observed = [frozenset(registers.items()) for _, registers in ending.registers]
        for registers in _ends(lifted, observed):
            finals.append(Final(test, registers, memory, lifted.sizes))
    return Ran(test, tuple(finals))


def _ends(
    lifted: LiftedTest, observed: list[frozenset[tuple[str, int]]]
) -> Iterator[tuple[Registers, ...]]:
    made: list[tuple[Registers, ...]] = [()]
    for thread, seen in zip(lifted.threads, observed, strict=True):
        made = [(*done, end) for done in made for end in thread.ends[seen]]
    yield from made


def _words(test: HerdTest) -> dict[Location, int]:
    words = {symbol: list(numbers) for symbol, numbers in test.initial.words.items()}
    for value in test.initial.registers.values():
        if isinstance(value, str):
            words.setdefault(value, [0])
    made = {}
    for symbol, numbers in words.items():
        size = test.initial.element.get(symbol, 4)
        for index, number in enumerate(numbers):
            place = Location(WORD + symbol, index * size)
            made[place] = number if number >= 0 else number % (1 << 8 * size)
    return made


def _registers(test: HerdTest) -> list[dict[str, Value]]:
    made: list[dict[str, Value]] = [{} for _ in test.threads]
    for (thread, name), value in test.initial.registers.items():
        if thread >= len(made):
            raise OutsideError("a register of a thread that is not there")
        known = values.pointer(WORD + value) if isinstance(value, str) else values.constant(value)
        made[thread][name] = known
    return made
