# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a jump through a table of offsets may go: what compilers make of a switch.

    A64:  cmp w0, #13; b.hi ...; adrp x1, ...; add x1, x1, ...; ldrh w1, [x1, w0, uxtw #1]
          adr x2, ...; add x1, x2, w1, sxth #2; br x1
    x86:  cmp edi, 13; ja ...; mov eax, edi; lea rcx, [rip + ...]; movsxd rax, [rcx + rax*4]
          add rax, rcx; jmp rax

Xen has such tables on x86-64 where clang has built it: gcc gets -fno-jump-tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import capstone
from capstone import arm64_const as arm
from capstone import x86_const as x86

from harness.arch import Arch
from harness.binary.copies import Text
from harness.binary.values import signed
from harness.binary.x86_operands import whole_register, written
from harness.hypervisor.dwarf.inlined import Copy

_BEFORE = 24  # instructions in front of the jump that are looked at
_BYTES = {"ldrb": 1, "ldrsb": 1, "ldrh": 2, "ldrsh": 2, "ldr": 4, "ldrsw": 4}
_SIGNED = (arm.ARM64_EXT_SXTB, arm.ARM64_EXT_SXTH, arm.ARM64_EXT_SXTW)
_X86_BYTES = 4  # of an offset
_FLAGS = "rflags"

Number = Callable[[int, str], int | None]  # what a register holds at an instruction, if known


def is_jump(instruction: capstone.CsInsn) -> bool:
    """Say whether ``instruction`` jumps to where a register or memory tells it."""
    mnemonic = instruction.mnemonic.split()[-1]  # "notrack jmp"
    told = mnemonic == "jmp" and instruction.operands[0].type != x86.X86_OP_IMM
    return bool(mnemonic == "br" or told)


def targets(text: Text, function: Copy, jump: capstone.CsInsn, number: Number) -> tuple[int, ...]:
    """Return where ``jump``, one of ``function``, may go; () if that is not understood.

    ``number`` is asked for the addresses of the table and of what its offsets are added to.
    """
    if text.arch is Arch.ARM64:
        before = text.between(jump.address - 4 * _BEFORE, jump.address)[::-1]
        table = _of_arm(before, jump, number)
    else:
        start, _ = text.whole(function, jump.address)
        before = text.between(start, jump.address)[-_BEFORE:][::-1]
        table = _of_x86(before, jump, number)
    return () if table is None else tuple(dict.fromkeys(table.targets(text)))


@dataclass(frozen=True)
class _Table:
    """The table, and how its offsets lie there."""

    address: int
    base: int  # to which the offsets are added
    count: int
    size: int  # bytes of one offset
    is_signed: bool
    shift: int = 0  # by so many bits each is shifted to the left

    def targets(self, text: Text) -> list[int]:
        """Return where each offset leads; nothing if they are not in constant memory."""
        data = text.constants(self.address, self.count * self.size)
        words = [data[at : at + self.size] for at in range(0, len(data), self.size)]
        numbers = [int.from_bytes(word, "little") for word in words]
        if self.is_signed:
            numbers = [signed(one, 8 * self.size) for one in numbers]
        return [self.base + (one << self.shift) for one in numbers]


# -- A64 -----------------------------------------------------------------------------------


def _of_arm(
    before: Sequence[capstone.CsInsn], jump: capstone.CsInsn, number: Number
) -> _Table | None:
    register = jump.reg_name(jump.operands[0].reg)
    added = _first(before, lambda i: i.mnemonic == "add" and _writes(i, register))
    if added is None or len(added.operands) != 3 or added.operands[2].type != arm.ARM64_OP_REG:
        return None
    offset, base = added.operands[2], number(added.address, added.reg_name(added.operands[1].reg))
    entry = added.reg_name(offset.reg)[1:]
    load = _first(before, lambda i: i.mnemonic in _BYTES and _writes(i, f"w{entry}", f"x{entry}"))
    if load is None or not load.operands[1].mem.index or base is None:
        return None
    table = number(load.address, load.reg_name(load.operands[1].mem.base))
    last = _arm_bound(before)
    if table is None or last is None:
        return None
    is_signed = load.mnemonic.startswith("ldrs") or offset.ext in _SIGNED
    return _Table(table, base, last + 1, _BYTES[load.mnemonic], is_signed, offset.shift.value)


def _arm_bound(before: Sequence[capstone.CsInsn]) -> int | None:
    """Return the highest number that the jump is made with: what the last check lets through."""
    for number, instruction in enumerate(before):
        if instruction.mnemonic not in ("b.hi", "b.ls"):
            continue
        target = int(instruction.operands[0].imm)
        here = instruction.address < target <= before[0].address  # else it goes elsewhere
        passes = here == (instruction.mnemonic == "b.ls")
        compare = _first(before[number:], lambda i: i.mnemonic == "cmp")
        if not passes or compare is None or compare.operands[1].type != arm.ARM64_OP_IMM:
            return None
        return int(compare.operands[1].imm)
    return None


def _writes(instruction: capstone.CsInsn, *names: str) -> bool:
    first = instruction.operands[0] if instruction.operands else None
    return (
        first is not None
        and first.type == arm.ARM64_OP_REG
        and instruction.reg_name(first.reg) in names
    )


# -- x86-64 --------------------------------------------------------------------------------


def _of_x86(
    before: Sequence[capstone.CsInsn], jump: capstone.CsInsn, number: Number
) -> _Table | None:
    ends = before[0].address + before[0].size if before else 0
    if ends != jump.address or jump.operands[0].type != x86.X86_OP_REG:
        return None
    register = whole_register(jump.reg_name(jump.operands[0].reg))
    added = _first(before, lambda i: register in written(i))
    if added is None or added.mnemonic != "add" or added.operands[1].type != x86.X86_OP_REG:
        return None
    base = number(added.address, added.reg_name(added.operands[1].reg))
    before = before[before.index(added) + 1 :]
    load = _first(before, lambda i: register in written(i))
    if load is None or load.mnemonic != "movsxd" or load.operands[1].type != x86.X86_OP_MEM:
        return None
    memory = load.operands[1].mem
    if memory.scale != _X86_BYTES or not memory.index or not memory.base or memory.disp:
        return None
    table = number(load.address, load.reg_name(memory.base))
    before = before[before.index(load) + 1 :]
    last = _x86_bound(before, whole_register(load.reg_name(memory.index)), jump.address)
    if table is None or base is None or last is None:
        return None
    return _Table(table, base, last + 1, _X86_BYTES, is_signed=True)


def _x86_bound(before: Sequence[capstone.CsInsn], index: str, jump: int) -> int | None:
    """Return the highest number that ``index`` has at the end of ``before``: what the last check
    lets through on the way to ``jump``."""
    passed = False
    for instruction in before:
        if instruction.mnemonic in ("ja", "jbe") and not passed:
            here = instruction.address < int(instruction.operands[0].imm) <= jump
            if here != (instruction.mnemonic == "jbe"):
                return None
            passed = True
        elif passed and _FLAGS in map(instruction.reg_name, instruction.regs_access()[1]):
            first, second = instruction.operands
            checks = instruction.mnemonic == "cmp" and second.type == x86.X86_OP_IMM
            return int(second.imm) if checks and _is_of(instruction, first, index) else None
        elif index in written(instruction):
            moved = instruction.operands[-1]
            if instruction.mnemonic not in ("mov", "movzx") or moved.type != x86.X86_OP_REG:
                return None
            index = whole_register(instruction.reg_name(moved.reg))
    return None


def _is_of(instruction: capstone.CsInsn, operand: capstone.x86.X86Op, register: str) -> bool:
    """Say whether ``operand`` is ``register`` or a part of it."""
    if operand.type != x86.X86_OP_REG:
        return False
    return whole_register(instruction.reg_name(operand.reg)) == register


def _first(
    instructions: Sequence[capstone.CsInsn], wanted: Callable[[capstone.CsInsn], bool]
) -> capstone.CsInsn | None:
    return next((one for one in instructions if wanted(one)), None)
