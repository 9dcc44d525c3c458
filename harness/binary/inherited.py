# SPDX-License-Identifier: GPL-2.0-or-later
"""What the copy of a lock function has from its caller: constants in registers, and barriers.

Compilers load a constant once for several copies, and make their common barrier before the branch
to either of them.  A register has a constant at an address if each way back from there, through
the caller's code, comes to an instruction that loads it; so with a barrier, if each way back comes
to one before it comes to an access of memory.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Mapping

import capstone

from harness.binary.copies import Text, branch_target
from harness.binary.events import Barrier, Kind
from harness.binary.machine import NotUnderstoodError, State, successors
from harness.binary.tables import Table
from harness.binary.values import Value
from harness.hypervisor.dwarf.inlined import Copy
from harness.hypervisor.dwarf.units import Range

_BREAKS = ("call", "bl", "blr", "br", "jmp", "ret", "brk", "ud2")
_ENDS = ("ret", "b", "jmp", "brk", "ud2")
_TRAPS = ("brk", "ud2")


def inherited(text: Text, copy: Copy, entry: int, table: Table) -> tuple[tuple[str, Value], ...]:
    """Return the registers that hold a known number at ``entry``, and the number."""
    caller = _caller(text, copy, entry, table)
    found = {name: caller.at(entry, name) for name in caller.constants()}
    return tuple(sorted((name, value) for name, value in found.items() if value is not None))


def barriers(text: Text, copy: Copy, entry: int, table: Table) -> frozenset[Barrier]:
    """Return the barriers that always come between the caller's last access and ``entry``."""
    return _caller(text, copy, entry, table).barriers(entry, copy.ranges)


def prelude(text: Text, copy: Copy, entry: int, table: Table) -> State:
    """Return the CPU at ``entry``, after the instructions that always come right before it.

    So it is known which registers hold the same address.
    """
    span = text.whole(copy, entry)
    targets = text.targets(span)
    block: list[capstone.CsInsn] = []
    for instruction in text.between(span[0], entry):
        if instruction.address in targets:
            block = []
        block.append(instruction)
        if branch_target(instruction) is not None or instruction.mnemonic in _BREAKS:
            block = []
    if entry in targets:
        block = []
    state = State(block[0].address if block else entry)
    for instruction in block:
        try:
            ways = list(
                successors(table, instruction, state, lambda *_: False, lambda _: (), lambda _: "")
            )
        except NotUnderstoodError:
            return State(entry)
        if len(ways) != 1 or ways[0].state is None:
            return State(entry)
        state = ways[0].state
    return State(state.pc, state.registers)


def _caller(text: Text, copy: Copy, entry: int, table: Table) -> _Caller:
    return _kept(text, text.elf.stat().st_mtime_ns, text.parts(copy, entry), table)


@functools.lru_cache(maxsize=8)  # a function often has several copies, one after the other
def _kept(text: Text, _mtime: int, parts: tuple[tuple[int, int], ...], table: Table) -> _Caller:
    return _Caller(text, parts, table)


class _Caller:
    def __init__(self, text: Text, parts: tuple[tuple[int, int], ...], table: Table) -> None:
        self.starts = {low for low, _ in parts if text.begins(low)}
        self.before: dict[int, list[int]] = {}
        self.written: dict[int, Mapping[str, Value]] = {}
        self.unknown: set[int] = set()  # instructions that may do anything
        self.fences: dict[int, frozenset[Barrier]] = {}
        self.accesses: set[int] = set()
        self.behind_traps: set[int] = set()  # WARN() goes on there
        self.jumps_anywhere = False
        for instruction in (one for part in parts for one in text.between(*part)):
            after, address = instruction.address + instruction.size, instruction.address
            mnemonic = instruction.mnemonic.split()[-1]  # "notrack jmp"
            if mnemonic not in _ENDS:
                self.before.setdefault(after, []).append(address)
            elif mnemonic in _TRAPS:
                self.behind_traps.add(after)
            target = branch_target(instruction)
            if target is not None:
                self.before.setdefault(target, []).append(address)
            elif mnemonic in ("br", "jmp"):
                self.jumps_anywhere = True
            state = State(address)
            try:
                ways = list(
                    successors(
                        table, instruction, state, lambda *_: False, lambda _: (), lambda _: ""
                    )
                )
            except NotUnderstoodError:
                self.unknown.add(address)
                continue
            effects = [effect for way in ways for effect in way.effects]
            self.fences[address] = frozenset(e.barrier for e in effects if e.barrier is not None)
            if any(effect.kind is not Kind.FENCE for effect in effects):
                self.accesses.add(address)
            registers = [dict(way.state.registers) for way in ways if way.state is not None]
            self.written[address] = {
                name: value for found in registers for name, value in found.items()
            }

    def constants(self) -> frozenset[str]:
        """Return the registers that some instruction loads with a number."""
        return frozenset(
            name
            for written in self.written.values()
            for name, value in written.items()
            if value.number is not None and " " not in name  # a place on the stack
        )

    def at(self, address: int, register: str) -> Value | None:
        """Return the number that ``register`` has at ``address``, whichever way leads there."""
        found = set[Value]()
        seen, waiting = {address}, deque([address])
        while waiting:
            place = waiting.popleft()
            ways = self.before.get(place, [])
            if not ways or place in self.starts:
                return None
            for earlier in ways:
                if earlier in self.unknown:
                    return None
                value = self.written.get(earlier, {}).get(register)
                if value is not None:
                    found.add(value)
                elif earlier not in seen:
                    seen.add(earlier)
                    waiting.append(earlier)
        (only,) = found if len(found) == 1 else (None,)
        return only if only is not None and only.number is not None else None

    def barriers(self, entry: int, copy: tuple[Range, ...]) -> frozenset[Barrier]:
        """Return the barriers that come after the last access before ``entry`` on every way.

        A way from within the copy is a try once more: what was ordered before the first one is.
        """
        if self.jumps_anywhere:
            return frozenset()
        found: frozenset[Barrier] | None = None
        seen, waiting = set[tuple[int, frozenset[Barrier]]](), [(entry, frozenset[Barrier]())]
        while waiting:
            place, since = waiting.pop()
            ways = self.before.get(place, [])
            if not ways or place in self.starts or place in self.behind_traps:
                found = since if found is None else found & since
            for earlier in ways:
                if place == entry and any(max(entry, low) <= earlier < high for low, high in copy):
                    continue
                if earlier in self.unknown or earlier in self.accesses:
                    found = since if found is None else found & since
                elif (way := (earlier, since | self.fences[earlier])) not in seen:
                    seen.add(way)
                    waiting.append(way)
        return found or frozenset()
