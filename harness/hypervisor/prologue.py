# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a function of arm64 has put its caller's registers, read from its own first instructions.

Xen for Arm is linked without call frame information (its link script discards .eh_frame), so what
a caller had in the registers that a callee preserves is found as a person would: gcc and clang
store them at the beginning, at fixed distances from the stack pointer.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import capstone
from capstone import arm64_const as a64

from harness.arch import Arch
from harness.hypervisor.code import code

_MOST = 40  # instructions; a prologue that the compiler mixes with other code is longer
_FRAME, _LINK = 29, 30
_PRESERVED = frozenset(range(19, 31))


@dataclass(frozen=True)
class Prologue:
    """The state of a frame at one instruction, in bytes from the stack pointer on entry."""

    stack: int  # where the stack pointer is
    frame: int | None  # where the frame pointer points; None: it is still the caller's
    saved: Mapping[int, int]  # by the register's number: where the caller's value is


@functools.lru_cache(maxsize=256)
def prologue(elf: Path, start: int, address: int) -> Prologue:
    """Return how the function at ``start`` has set up its frame when it is at ``address``."""
    stack, frame, saved = 0, None, dict[int, int]()
    for instruction in code(elf, Arch.ARM64).instructions(start, min(address, start + 4 * _MOST)):
        name, operands = instruction.mnemonic, instruction.operands
        if name in ("stp", "str") and _on_stack(operands):
            at = _store(instruction, stack)
            stack = at if instruction.writeback else stack
            for place, operand in enumerate(operands[:-1]):
                if (register := _number(operand)) in _PRESERVED:
                    saved.setdefault(register, at + 8 * place)
        elif name == "sub" and _is_stack(operands[0]) and _is_stack(operands[1]):
            stack -= _immediate(operands[2])
        elif name == "mov" and _number(operands[0]) == _FRAME and _is_stack(operands[1]):
            frame = stack
        elif name == "add" and _number(operands[0]) == _FRAME and _is_stack(operands[1]):
            frame = stack + _immediate(operands[2])
        elif name == "ret":
            break
    return Prologue(stack, frame, saved)


def _store(instruction: capstone.CsInsn, stack: int) -> int:
    memory = instruction.operands[-1].mem
    return stack + int(memory.disp)


def _on_stack(operands: list[capstone.arm64.Arm64Op]) -> bool:
    last = operands[-1]
    if last.type != a64.ARM64_OP_MEM:
        return False
    return bool(last.mem.base == a64.ARM64_REG_SP and not last.mem.index)


def _is_stack(operand: capstone.arm64.Arm64Op) -> bool:
    return bool(operand.type == a64.ARM64_OP_REG and operand.reg == a64.ARM64_REG_SP)


def _immediate(operand: capstone.arm64.Arm64Op) -> int:
    if operand.type != a64.ARM64_OP_IMM:
        return 0
    shift = operand.shift.value if operand.shift.type else 0
    return int(operand.imm) << shift


def _number(operand: capstone.arm64.Arm64Op) -> int:
    """Return the number of a 64-bit register; -1 for anything else."""
    if operand.type != a64.ARM64_OP_REG:
        return -1
    if operand.reg == a64.ARM64_REG_FP:
        return _FRAME
    if operand.reg == a64.ARM64_REG_LR:
        return _LINK
    if a64.ARM64_REG_X0 <= operand.reg <= a64.ARM64_REG_X28:
        return int(operand.reg - a64.ARM64_REG_X0)
    return -1
