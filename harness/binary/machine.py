# SPDX-License-Identifier: GPL-2.0-or-later
"""A CPU that runs one instruction at a time, with values that may be not known.

Where an instruction can go on in several ways - the lock word may hold this or that, a condition
depends on what is not known - it is run once for every way: ``successors``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import capstone

from harness.binary import values
from harness.binary.events import Barrier, Effect, Kind, Location
from harness.binary.values import MASK, PER_CPU, STACK, Flags, Taint, Value

# The stack, a frame on it, and variables of Xen's own, at a fixed address: its debug flags.
_PRIVATE = (STACK, PER_CPU, "rbp", "x29", "")
_WIDEST = 16  # bytes of one access


class NotUnderstoodError(Exception):
    """An instruction whose meaning, or a situation whose outcome, is not known."""


class _More(Exception):
    def __init__(self, options: int) -> None:
        self.options = options


@dataclass(frozen=True)
class Exclusive:
    """A load-exclusive whose store has not come yet."""

    address: int  # of the instruction
    place: Location
    old: int
    after: Barrier | None = None
    needs: Taint = frozenset()  # of its address
    failed: bool = False  # the store was refused: only the way back to the load is left


@dataclass(frozen=True)
class State:
    """The registers, and where the CPU is."""

    pc: int
    registers: tuple[tuple[str, Value], ...] = ()
    flags: Flags | None = None
    exclusive: Exclusive | None = None
    decided_by: Taint = frozenset()
    returns: tuple[int, ...] = ()  # where the functions that it was called into go back to


@dataclass(frozen=True)
class Outcome:
    """One way in which an instruction goes on."""

    state: State | None  # None: it trapped, or is repeated
    effects: tuple[Effect, ...]
    atomics: tuple[Location, ...]  # accessed atomically, and no lock word
    stored: tuple[Location, ...]  # written plainly, shared, and no lock word
    returned: bool = False
    trapped: bool = False
    repeated: bool = False  # a failed store-exclusive goes back to its load, as if nothing had been


class Table(Protocol):
    """The meaning of an architecture's instructions."""

    def run(self, machine: Machine, instruction: capstone.CsInsn) -> None:
        """Do what ``instruction`` does; NotUnderstoodError if its meaning is not known."""


@dataclass
class Machine:
    """One instruction's run.  A table's functions read and write it."""

    state: State
    lock: Callable[[Location, int], bool]  # is it the lock word, accessed with so many bytes?
    words: Callable[[Location], Sequence[int]]  # what the lock word there may hold
    names: Callable[[int], str]  # the function at an address
    choices: tuple[int, ...]
    next_pc: int
    names_values: bool = True
    tries_again: bool = True  # after a failed store-exclusive there is only the way to its load
    effects: list[Effect] = field(default_factory=list)
    atomics: list[Location] = field(default_factory=list)
    stored: list[Location] = field(default_factory=list)
    returned: bool = False
    trapped: bool = False
    repeated: bool = False
    _made: int = 0

    def __post_init__(self) -> None:
        self.registers = dict(self.state.registers)
        self.flags = self.state.flags
        self.exclusive = self.state.exclusive
        self.decided_by = self.state.decided_by
        self.pc = self.state.pc

    # -- registers -------------------------------------------------------------------------

    def get(self, register: str) -> Value:
        """Return what ``register`` holds; at first it holds a pointer that has its name."""
        if register in ("sp", "rsp"):
            return self.registers.get(register, values.pointer(STACK))
        return self.registers.get(register, values.pointer(register))

    def set(self, register: str, value: Value) -> None:
        self.registers[register] = value

    # -- memory ----------------------------------------------------------------------------

    def load(
        self, address: Value, size: int, after: Barrier | None = None, atomic: bool = False
    ) -> Value:
        """Read ``size`` bytes, zero-extended."""
        place = self._place(address)
        if place is not None and self.lock(place, size):
            old, needs = self.word(place), address.taint
            self.emit(
                Effect(
                    Kind.LOAD, self.pc, old, after=after, size=size, place=place, needs=needs,
                    address_needs=needs,
                )
            )  # fmt: skip
            return self.part(old, size)
        return self._elsewhere(place, size, address.taint, after=after, atomic=atomic)

    def store(self, address: Value, size: int, value: Value, release: bool = False) -> None:
        place = self._place(address)
        before = Barrier.RELEASE if release else None
        needs = address.taint | value.taint
        if place is not None and self.lock(place, size):
            # A plain store of what was read before is no atomic access: the word may have changed.
            self.emit(
                Effect(
                    Kind.STORE, self.pc, 0, value, before, size=size, place=place, needs=needs,
                    address_needs=address.taint,
                )
            )  # fmt: skip
            return
        self._elsewhere(place, size, needs, before=before)
        if place is not None and place.base not in _PRIVATE:
            self.stored.append(place)
        if place is not None and _is_slot(place):
            self._forget(place, size)
            self.registers[f"{place} {size}"] = values.zero_extend(value, size * 8)

    def _forget(self, place: Location, size: int) -> None:
        """Forget what the stack had where ``size`` bytes are written."""
        for offset in range(1 - _WIDEST, size):
            other = Location(place.base, (place.offset + offset) & MASK)
            for width in (1, 2, 4, 8, _WIDEST):
                if offset + width > 0:
                    self.registers.pop(f"{other} {width}", None)

    def atomic(
        self,
        address: Value,
        size: int,
        change: Callable[[Value], Value | None],
        order: tuple[Barrier | None, Barrier | None],
        unread: bool = False,
    ) -> Value:
        """Read ``size`` bytes and write what ``change`` makes of them (None: nothing).

        ``unread``: the instruction keeps nothing of what it reads.
        """
        place = self._place(address)
        before, after = order
        if place is not None and self.lock(place, size):
            old = self.word(place)
            read = self.part(old, size)
            new = change(read)
            needs = address.taint | (new.taint if new is not None else frozenset())
            self.emit(
                Effect(
                    Kind.RMW, self.pc, old, new, before, after, size=size, place=place,
                    needs=needs, address_needs=address.taint, unread=unread,
                )
            )  # fmt: skip
            return read
        read = self._elsewhere(place, size, address.taint, before, after, atomic=True)
        change(read)
        if place is not None:
            self._forget(place, size)
        return read

    def lock_at(self, address: Value, size: int) -> Location | None:
        """Return the place of the lock word, if it is at ``address``."""
        place = self._place(address)
        return place if place is not None and self.lock(place, size) else None

    def word(self, place: Location) -> int:
        """Return what the lock word holds: each of ``words``, one after the other."""
        words = self.words(place)
        return words[self.choose(len(words))]

    def part(self, word: int, size: int) -> Value:
        mask = (1 << size * 8) - 1
        return Value(word & mask, MASK, taint=frozenset({self.pc}))

    def _place(self, address: Value) -> Location | None:
        if address.known != MASK:
            return None
        return Location(address.base, address.bits)

    def _elsewhere(
        self,
        place: Location | None,
        size: int,
        needs: Taint,
        before: Barrier | None = None,
        after: Barrier | None = None,
        atomic: bool = False,
    ) -> Value:
        """An access of other memory; that of this CPU alone is not told to others."""
        if place is None or place.base not in _PRIVATE:
            effect = Effect(Kind.OTHER, self.pc, before=before, after=after, needs=needs)
            self.emit(replace(effect, place=place, atomic=atomic))
            if atomic and place is not None:
                self.atomics.append(place)
        kept = self.registers.get(f"{place} {size}") if place is not None else None
        if kept is not None:
            return kept
        if place is None or size < 8:
            return Value(0, MASK & ~((1 << size * 8) - 1))
        return values.pointer(f"[{place}]")

    # -- order, control --------------------------------------------------------------------

    def fence(self, barrier: Barrier) -> None:
        self.emit(Effect(Kind.FENCE, self.pc, barrier=barrier))

    def emit(self, effect: Effect) -> None:
        self.abandon()
        self.effects.append(replace(effect, decided_by=self.decided_by))

    def abandon(self) -> None:
        """End a load-exclusive without a store: an atomic access that wrote nothing."""
        opened, self.exclusive = self.exclusive, None
        if opened is None:
            return
        if opened.failed and self.tries_again:
            raise NotUnderstoodError("a failed store-exclusive is not tried again")
        self.emit(
            Effect(
                Kind.RMW, opened.address, opened.old, after=opened.after, place=opened.place,
                needs=opened.needs, address_needs=opened.needs,
            )
        )  # fmt: skip

    def jump(self, target: int) -> None:
        self.next_pc = target

    def branch(self, condition: bool | None, taint: Taint, target: int) -> None:
        """Go to ``target`` if ``condition``; both ways if it is not known."""
        self.decided_by |= taint
        if self.decide(condition):
            self.next_pc = target

    def decide(self, condition: bool | None) -> bool:
        return bool(self.choose(2)) if condition is None else condition

    def compared(self) -> Taint:
        """Return what the condition flags were made from."""
        return self.flags.taint if self.flags is not None else frozenset()

    def either(self, _a: Value, _b: Value) -> Value:
        """Return what is one address or the other, nobody knows which."""
        return values.UNKNOWN

    def call(self, target: int, clobbered: Sequence[str]) -> None:
        self.emit(Effect(Kind.CALL, self.pc, target=self.names(target)))
        for register in clobbered:
            self.registers[register] = values.UNKNOWN
        self.flags = None

    def choose(self, options: int) -> int:
        if self._made == len(self.choices):
            raise _More(options)
        self._made += 1
        return self.choices[self._made - 1]

    def outcome(self) -> Outcome:
        if self.returned or self.trapped:
            self.abandon()
        effects, atomics = tuple(self.effects), tuple(self.atomics)
        if self.trapped or self.repeated:
            stored = tuple(self.stored)
            return Outcome(
                None, effects, atomics, stored, trapped=self.trapped, repeated=self.repeated
            )
        if self.names_values:
            self._name_values()
        registers = tuple(sorted(self.registers.items()))
        state = replace(
            self.state,
            pc=self.next_pc,
            registers=registers,
            flags=self.flags,
            exclusive=self.exclusive,
            decided_by=self.decided_by,
        )
        return Outcome(state, effects, atomics, tuple(self.stored), self.returned)

    def _name_values(self) -> None:
        """Give what nothing is known of a name: it may be the address of the lock."""
        before = dict(self.state.registers)
        for register, value in self.registers.items():
            unknown = not (value.base or value.known or value.taint)
            if unknown and before.get(register) != value:
                self.registers[register] = values.pointer(f"{register}@{self.pc:#x}")


def _is_slot(place: Location) -> bool:
    """Say whether ``place`` is on the stack: relative to it, or to the frame.

    A compiler that leaves the frame pointer out uses rbp for what it likes; a frame's own
    variables are below it.  On arm64 they are above x29.
    """
    below = place.base == "rbp" and values.signed(place.offset, 64) < 0
    return place.base in (STACK, "x29") or below


def successors(
    table: Table,
    instruction: capstone.CsInsn,
    state: State,
    lock: Callable[[Location, int], bool],
    words: Callable[[Location], Sequence[int]],
    names: Callable[[int], str],
    names_values: bool = True,
    tries_again: bool = True,
    made: Callable[..., Machine] = Machine,
) -> Iterator[Outcome]:
    """Yield every way in which ``instruction`` may go on from ``state``.

    ``names_values``: a value of which nothing is known gets a name, for it may be the address of
    the lock.  Without, there are fewer states.  ``tries_again``: what follows a failed
    store-exclusive other than its load is not understood.  ``made`` makes the CPU that runs it.
    """
    after = instruction.address + instruction.size
    waiting: list[tuple[int, ...]] = [()]
    while waiting:
        choices = waiting.pop()
        machine = made(state, lock, words, names, choices, after, names_values, tries_again)
        try:
            table.run(machine, instruction)
        except _More as more:
            waiting += [(*choices, option) for option in reversed(range(more.options))]
        else:
            yield machine.outcome()
