# SPDX-License-Identifier: GPL-2.0-or-later
"""What a whole function does to memory that CPUs share, on all its ways.

Where ways meet, what is held in registers is joined (``traced.join``): so each instruction is
looked at a few times, however many ways there are.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

import capstone

from harness.arch import Arch
from harness.binary import arm64, arm64_operands, x86, x86_operands
from harness.binary.copies import Text
from harness.binary.events import Barrier
from harness.binary.machine import NotUnderstoodError, State, successors
from harness.binary.publish.jump_table import is_jump, targets
from harness.binary.publish.traced import Access, Origins, TracedMachine, join
from harness.binary.tables import Table
from harness.binary.values import UNKNOWN, Value
from harness.hypervisor.dwarf.inlined import Copy

_KEPT = ("sp", "rsp", "rbp", "x29")  # by an instruction that is not understood
_CLOBBERED = {
    Arch.X86_64: ("rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11"),
    Arch.ARM64: tuple(f"x{number}" for number in (*range(19), 30)),
}
_MOST = 200_000  # runs of one instruction


@dataclass(frozen=True)
class Done:
    """What one instruction does, in order: accesses, barriers, names of functions called."""

    what: tuple[Access | Barrier | str, ...]
    then: tuple[int, ...]  # the instructions that may come next


@dataclass
class Flow:
    """What a function does."""

    entry: int
    origins: Origins
    done: dict[int, Done] = field(default_factory=dict)
    gaps: dict[int, str] = field(default_factory=dict)  # instructions not understood, and why
    harmless: set[int] = field(default_factory=set)  # of them, those that access no memory

    def accesses(self) -> Iterator[Access]:
        for one in self.done.values():
            yield from (what for what in one.what if isinstance(what, Access))


def flow(text: Text, function: Copy, table: Table) -> Flow:
    """Run ``function``, which is one out of line, from its entry on all its ways."""
    start = text.entries(function)[0]
    walk = _Walk(text, function, table, Flow(start, Origins()))
    walk.run(start)
    return walk.found


class _Walk:
    def __init__(self, text: Text, function: Copy, table: Table, found: Flow) -> None:
        self.text, self.function, self.table, self.found = text, function, table, found
        self.clobbered = _CLOBBERED[text.arch]
        self.thunks = x86.RETURN_THUNKS if text.arch is Arch.X86_64 else arm64.RETURN_THUNKS
        self.states: dict[int, State] = {}
        self.waiting: list[int] = []  # instructions to run; a heap: joined before what comes later
        self.noted: list[Access | Barrier | str] = []
        self.jumps: dict[int, tuple[int, ...]] = {}  # through tables, and where they go

    def run(self, entry: int) -> None:
        self._arrives(State(entry))
        count = 0
        while self.waiting or self._jumps_again():
            pc = heapq.heappop(self.waiting)
            for after in self._after(self.states[pc]):
                self._arrives(after)
            count += 1
            if count > _MOST:
                self.found.gaps[pc] = f"more than {_MOST} steps"
                return

    def _arrives(self, state: State) -> None:
        """The CPU comes to an instruction in ``state``; it is run again if that is new there."""
        known = self.states.get(state.pc)
        joined = state if known is None else join(known, state, self.found.origins)
        if joined == known:
            return
        self.states[state.pc] = joined
        if state.pc not in self.waiting:
            heapq.heappush(self.waiting, state.pc)

    def _after(self, state: State) -> list[State]:
        """Run the instruction at ``state``, and remember what it does."""
        instruction = self.text.instruction(state.pc)
        if instruction is None:
            if not self.text.is_trap(state.pc):
                self.found.gaps[state.pc] = "no code there"
            self.found.done[state.pc] = Done((), ())
            return []
        self.noted = []
        self.found.gaps.pop(state.pc, None)
        try:
            after = self._ran(instruction, state)
        except NotUnderstoodError as error:
            after = self._passed(instruction, state, str(error))
        after = [one for one in after if self.text.contains(self.function, one.pc)]
        then = tuple(dict.fromkeys(one.pc for one in after))
        self.found.done[state.pc] = Done(tuple(dict.fromkeys(self.noted)), then)
        return after

    def _ran(self, instruction: capstone.CsInsn, state: State) -> list[State]:
        if _calls_pointer(instruction):
            return self._called_pointer(instruction, state)
        if is_jump(instruction):
            return self._jumped(instruction, state)
        ways = successors(
            self.table,
            instruction,
            state,
            lambda *_: False,
            lambda _: (),
            self.text.function_at,
            made=self._machine,
        )
        return [
            State(way.state.pc, way.state.registers, way.state.flags)
            for way in ways
            if way.state is not None and not way.returned
        ]

    def _machine(self, *arguments: object) -> TracedMachine:
        machine = TracedMachine(*arguments)  # type: ignore[arg-type]
        machine.origins, machine.noted = self.found.origins, self.noted
        return machine

    def _called_pointer(self, instruction: capstone.CsInsn, state: State) -> list[State]:
        after = instruction.address + instruction.size
        machine = self._machine(
            state, lambda *_: False, lambda _: (), self.text.function_at, (), after
        )
        self.noted.append("")
        machine.returned_from("", self.clobbered)
        return [State(after, tuple(sorted(machine.registers.items())))]

    def _jumped(self, instruction: capstone.CsInsn, state: State) -> list[State]:
        places = self.jumps[state.pc] = self._targets(instruction)
        if not places or not all(self.text.contains(self.function, one) for one in places):
            raise NotUnderstoodError(f"{instruction.mnemonic} {instruction.op_str}: goes anywhere")
        return [State(place, state.registers, state.flags) for place in places]

    def _targets(self, jump: capstone.CsInsn) -> tuple[int, ...]:
        others = {one for pc, places in self.jumps.items() if pc != jump.address for one in places}
        return targets(self.text, self.function, jump, self._held, others)

    def _jumps_again(self) -> bool:
        """Have each jump run again that goes elsewhere by what has been learnt since it ran: it
        depends on what registers held before it, and on where others go."""
        for pc, places in self.jumps.items():
            instruction = self.text.instruction(pc)
            if instruction is not None and self._targets(instruction) != places:
                heapq.heappush(self.waiting, pc)
        return bool(self.waiting)

    def _held(self, address: int, register: str) -> Value:
        """Return what ``register`` holds when the instruction at ``address`` begins."""
        state = self.states.get(address)
        return dict(state.registers).get(register, UNKNOWN) if state is not None else UNKNOWN

    def _passed(self, instruction: capstone.CsInsn, state: State, why: str) -> list[State]:
        """Go on behind what is not understood: of memory nothing is known any more, and of all
        registers, if it accesses memory; else of those that it writes."""
        self.found.gaps[state.pc] = why
        if _goes_elsewhere(instruction):
            return []
        registers = dict(state.registers)
        written = set(self._written(instruction))
        if _has_memory(instruction):
            written |= {name for name in registers if " " not in name and name not in _KEPT}
        else:
            self.found.harmless.add(state.pc)
        registers.update({name: UNKNOWN for name in written})
        return [State(instruction.address + instruction.size, tuple(sorted(registers.items())))]

    def _written(self, instruction: capstone.CsInsn) -> frozenset[str]:
        """Return the whole registers that ``instruction`` writes."""
        if self.text.arch is Arch.X86_64:
            return x86_operands.written(instruction)
        return arm64_operands.written(instruction)


def _calls_pointer(instruction: capstone.CsInsn) -> bool:
    if instruction.mnemonic in ("blr", "blraa", "blraaz"):
        return True
    direct = instruction.operands and instruction.operands[0].type == capstone.x86.X86_OP_IMM
    return instruction.mnemonic == "call" and not direct


def _has_memory(instruction: capstone.CsInsn) -> bool:
    memory = (capstone.x86.X86_OP_MEM, capstone.arm64.ARM64_OP_MEM)
    return any(operand.type in memory for operand in instruction.operands)


def _goes_elsewhere(instruction: capstone.CsInsn) -> bool:
    groups = (capstone.CS_GRP_JUMP, capstone.CS_GRP_RET, capstone.CS_GRP_CALL, capstone.CS_GRP_INT)
    return any(instruction.group(group) for group in groups)
