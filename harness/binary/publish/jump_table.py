# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a jump through a table of offsets may go (A64): what compilers make of a switch.

cmp w0, #13; b.hi ...; adrp x1, ...; add x1, x1, ...; ldrh w1, [x1, w0, uxtw #1]
adr x2, ...; add x1, x2, w1, sxth #2; br x1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import capstone
from capstone import arm64_const as arm

from harness.binary.copies import Text
from harness.binary.values import signed

_BEFORE = 24  # instructions in front of the jump that are looked at
_BYTES = {"ldrb": 1, "ldrsb": 1, "ldrh": 2, "ldrsh": 2, "ldr": 4, "ldrsw": 4}
_SIGNED = (arm.ARM64_EXT_SXTB, arm.ARM64_EXT_SXTH, arm.ARM64_EXT_SXTW)

Number = Callable[[int, str], int | None]  # what a register holds at an instruction, if known


def targets(text: Text, jump: capstone.CsInsn, number: Number) -> tuple[int, ...]:
    """Return where ``jump``, a ``br``, may go; () if it is not through a table that is understood.

    ``number`` is asked for the addresses of the table and of what its offsets are added to.
    """
    before = text.between(jump.address - 4 * _BEFORE, jump.address)[::-1]
    register = jump.reg_name(jump.operands[0].reg)
    added = _first(before, lambda i: i.mnemonic == "add" and _writes(i, register))
    if added is None or len(added.operands) != 3 or added.operands[2].type != arm.ARM64_OP_REG:
        return ()
    offset, base = added.operands[2], number(added.address, added.reg_name(added.operands[1].reg))
    entry = added.reg_name(offset.reg)[1:]
    load = _first(before, lambda i: i.mnemonic in _BYTES and _writes(i, f"w{entry}", f"x{entry}"))
    if load is None or not load.operands[1].mem.index or base is None:
        return ()
    table = number(load.address, load.reg_name(load.operands[1].mem.base))
    last = _bound(before)
    if table is None or last is None:
        return ()
    is_signed = load.mnemonic.startswith("ldrs") or offset.ext in _SIGNED
    shape = _Shape(_BYTES[load.mnemonic], is_signed, offset.shift.value)
    return tuple(dict.fromkeys(base + one for one in shape.offsets(text, table, last + 1)))


@dataclass(frozen=True)
class _Shape:
    """How the offsets lie in the table."""

    size: int  # bytes of one
    is_signed: bool
    shift: int  # by so many bits each is shifted to the left

    def offsets(self, text: Text, table: int, count: int) -> list[int]:
        """Return the ``count`` offsets at ``table``; none if that is no constant memory."""
        data = text.constants(table, count * self.size)
        words = [data[at : at + self.size] for at in range(0, len(data), self.size)]
        numbers = [int.from_bytes(word, "little") for word in words]
        if self.is_signed:
            numbers = [signed(one, 8 * self.size) for one in numbers]
        return [one << self.shift for one in numbers]


def _bound(before: Sequence[capstone.CsInsn]) -> int | None:
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


def _first(
    instructions: Sequence[capstone.CsInsn], wanted: Callable[[capstone.CsInsn], bool]
) -> capstone.CsInsn | None:
    return next((one for one in instructions if wanted(one)), None)


def _writes(instruction: capstone.CsInsn, *names: str) -> bool:
    first = instruction.operands[0] if instruction.operands else None
    return (
        first is not None
        and first.type == arm.ARM64_OP_REG
        and instruction.reg_name(first.reg) in names
    )
