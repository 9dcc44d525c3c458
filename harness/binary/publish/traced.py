# SPDX-License-Identifier: GPL-2.0-or-later
"""A CPU that notes where each pointer came from, and each access of memory that CPUs share.

An address may be known exactly ("what register x0 held, + 0x100"), or only in part: an element of
an array, whose number is not known.  Then it is known at least which pointers it was made from:
``Value.taint`` has their numbers, which ``Origins`` gives out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from harness.binary import values
from harness.binary.events import Barrier, Effect, Kind, Location
from harness.binary.machine import Machine, State
from harness.binary.values import MASK, PER_CPU, STACK, Taint, Value

_OWN = (STACK, "rbp", "x29")  # memory that no other CPU looks at
_NOT_NOTED = (*_OWN, PER_CPU, "")  # nor at these; "": variables of Xen's own, at a fixed address


class Did(StrEnum):
    """What an access does."""

    READS = "reads"
    WRITES = "writes"
    CHANGES = "changes"  # both, atomically


@dataclass(frozen=True)
class Access:
    """One access of memory that CPUs share."""

    address: int  # of the instruction
    did: Did
    size: int  # bytes
    place: Location | None  # None: not known exactly
    around: frozenset[str]  # the pointers that the address was made from
    before: Barrier | None = None
    after: Barrier | None = None


@dataclass(frozen=True)
class Source:
    """Where a pointer came from: a register at the entry, memory, a call, or several of them."""

    register: str = ""
    loaded: Access | None = None
    returned_by: str = ""
    joined: frozenset[str] = frozenset()


@dataclass
class Origins:
    """The pointers of one function."""

    sources: dict[str, Source] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)
    _names: list[str] = field(default_factory=list)

    def pointer(self, name: str, source: Source, offset: int = 0) -> Value:
        """Return the pointer that is called ``name``, and remember its ``source``."""
        if name not in self._numbers:
            self._numbers[name] = len(self._names)
            self._names.append(name)
        known = self.sources.get(name)
        joined = (known.joined if known is not None else frozenset()) | source.joined
        self.sources[name] = source if not joined else Source(joined=joined)
        return Value(offset, MASK, name, frozenset({self._numbers[name]}))

    def names(self, taint: Taint) -> frozenset[str]:
        return frozenset(self._names[number] for number in taint)


class TracedMachine(Machine):
    """One instruction's run; ``noted`` are its accesses, in their order."""

    origins: Origins
    noted: list[Access | Barrier | str]  # an access, a barrier, the name of a function called

    def get(self, register: str) -> Value:
        value = super().get(register)
        if register not in self.registers and value.base == register:
            return self.origins.pointer(register, Source(register=register))
        return value

    def load(
        self, address: Value, size: int, after: Barrier | None = None, atomic: bool = False
    ) -> Value:
        return self._read(address, size, Did.READS, None, after)

    def store(self, address: Value, size: int, value: Value, release: bool = False) -> None:
        place = self._place(address)
        if place is None or place.base not in _NOT_NOTED:
            self._note(address, size, Did.WRITES, Barrier.RELEASE if release else None, None)
        elif place.base == STACK:
            self._forget(place, size)
            # A callee may change a number; pointers, and what is made of them, are only spilled.
            if (value.base or value.taint) and size == 8:
                self.registers[_slot(place)] = value if value.base else Value(taint=value.taint)

    def atomic(
        self,
        address: Value,
        size: int,
        change: Callable[[Value], Value | None],
        order: tuple[Barrier | None, Barrier | None],
        unread: bool = False,
    ) -> Value:
        read = self._read(address, size, Did.CHANGES, *order)
        change(read)
        return read

    def fence(self, barrier: Barrier) -> None:
        self.noted.append(barrier)

    def emit(self, effect: Effect) -> None:
        if effect.kind is Kind.CALL:
            self.noted.append(effect.target)

    def branch(self, condition: bool | None, taint: Taint, target: int) -> None:
        super().branch(condition, frozenset(), target)

    def decide(self, condition: bool | None) -> bool:
        flags = self.flags
        if flags is not None and (flags.a.base or flags.b.base):
            condition = None  # two elements of one array have the same name
        return super().decide(condition)

    def compared(self) -> Taint:
        return frozenset()  # no address is made from what it was chosen by

    def either(self, a: Value, b: Value) -> Value:
        return Value(taint=a.taint | b.taint)

    def call(self, target: int, clobbered: Sequence[str]) -> None:
        super().call(target, clobbered)
        self.returned_from(self.names(target), clobbered)

    def returned_from(self, function: str, clobbered: Sequence[str]) -> None:
        """Give what a call may have changed new names."""
        result = "rax" if "rax" in clobbered else "x0"
        for register in clobbered:
            source = Source(returned_by=function if register == result else "?")
            self.registers[register] = self.origins.pointer(f"{register}@{self.pc:#x}", source)

    def _read(
        self,
        address: Value,
        size: int,
        did: Did,
        before: Barrier | None,
        after: Barrier | None,
    ) -> Value:
        place = self._place(address)
        number = Value(0, MASK & ~((1 << size * 8) - 1)) if size < 8 else values.UNKNOWN
        if place is not None and place.base in _OWN:
            return self.registers.get(_slot(place), number) if size == 8 else number
        access = self._note(address, size, did, before, after)
        if size < 8:
            return number
        name = f"[{place}]" if place is not None else f"[?@{self.pc:#x}]"
        return self.origins.pointer(name, Source(loaded=access))

    def _note(
        self,
        address: Value,
        size: int,
        did: Did,
        before: Barrier | None,
        after: Barrier | None,
    ) -> Access:
        around = self.origins.names(address.taint)
        access = Access(self.pc, did, size, self._place(address), around, before, after)
        if access.place is None or access.place.base not in _NOT_NOTED:
            self.noted.append(access)
        return access

    def _forget(self, place: Location, size: int) -> None:
        """A store to the stack: what was there is gone."""
        for offset in range(place.offset - 7, place.offset + size):
            self.registers.pop(_slot(Location(STACK, offset & MASK)), None)

    def _name_values(self) -> None:
        """Nothing is named here: a name without an origin says nothing."""


def _slot(place: Location) -> str:
    return f"{place} 8"


def join(state: State, other: State, origins: Origins) -> State:
    """Return what is true of both states, which are at the same instruction."""
    ours, theirs = dict(state.registers), dict(other.registers)
    registers = {}
    for name in {*ours, *theirs}:
        stack = " " in name
        if stack and (name not in ours or name not in theirs):
            continue
        a, b = _held(ours, name, origins), _held(theirs, name, origins)
        registers[name] = a if a == b else _either(a, b, f"{name}@{state.pc:#x}", origins)
    flags = state.flags if state.flags == other.flags else None
    return State(state.pc, tuple(sorted(registers.items())), flags)


def _held(registers: dict[str, Value], name: str, origins: Origins) -> Value:
    if name in registers:
        return registers[name]
    if name in ("sp", "rsp"):
        return values.pointer(STACK)
    return origins.pointer(name, Source(register=name))


def _either(a: Value, b: Value, name: str, origins: Origins) -> Value:
    """Return what is one value or the other: whole pointers are one that came from either."""
    taint = a.taint | b.taint
    if not a.base and not b.base:
        known = a.known & b.known & ~(a.bits ^ b.bits)
        return Value(a.bits & known, known, taint=taint)
    bases = frozenset(value.base for value in (a, b) if value.base)
    whole = all(not value.bits for value in (a, b) if value.base)
    if not whole or STACK in bases:
        return Value(taint=taint)
    made = origins.pointer(name, Source(joined=bases - {name} or frozenset({"?"})))
    return Value(0, MASK, name, taint | made.taint)
