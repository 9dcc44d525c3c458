# SPDX-License-Identifier: GPL-2.0-or-later
"""Constants that a caller has in a register when it comes to the copy of a lock function.

Compilers load a constant once for several copies.  A register has it at an address if each way
back from there, through the caller's code, comes to an instruction that loads it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import capstone

from harness.binary.copies import Text, branch_target
from harness.binary.machine import NotUnderstoodError, State, successors
from harness.binary.tables import Table
from harness.binary.values import Value
from harness.hypervisor.dwarf.inlined import Copy

_BREAKS = ("call", "bl", "blr", "br", "jmp", "ret", "brk", "ud2")
_ENDS = ("ret", "b", "jmp", "brk", "ud2")


def inherited(text: Text, copy: Copy, entry: int, table: Table) -> tuple[tuple[str, Value], ...]:
    """Return the registers that hold a known number at ``entry``, and the number."""
    caller = _Caller(text, text.whole(copy, entry), table)
    found = {name: caller.at(entry, name) for name in caller.constants()}
    return tuple(sorted((name, value) for name, value in found.items() if value is not None))


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


class _Caller:
    def __init__(self, text: Text, span: tuple[int, int], table: Table) -> None:
        self.start = span[0]
        self.before: dict[int, list[int]] = {}
        self.written: dict[int, Mapping[str, Value]] = {}
        for instruction in text.between(*span):
            after, address = instruction.address + instruction.size, instruction.address
            if instruction.mnemonic not in _ENDS:
                self.before.setdefault(after, []).append(address)
            target = branch_target(instruction)
            if target is not None:
                self.before.setdefault(target, []).append(address)
            state = State(address)
            try:
                ways = list(
                    successors(
                        table, instruction, state, lambda *_: False, lambda _: (), lambda _: ""
                    )
                )
            except NotUnderstoodError:
                self.written[address] = {}
                self.before.pop(after, None)  # it may write any register: no way back
                continue
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
            if value.number is not None
        )

    def at(self, address: int, register: str) -> Value | None:
        """Return the number that ``register`` has at ``address``, whichever way leads there."""
        found = set[Value]()
        seen, waiting = {address}, deque([address])
        while waiting:
            place = waiting.popleft()
            ways = self.before.get(place, [])
            if not ways or place == self.start:
                return None
            for earlier in ways:
                value = self.written.get(earlier, {}).get(register)
                if value is not None:
                    found.add(value)
                elif earlier not in seen:
                    seen.add(earlier)
                    waiting.append(earlier)
        (only,) = found if len(found) == 1 else (None,)
        return only if only is not None and only.number is not None else None
