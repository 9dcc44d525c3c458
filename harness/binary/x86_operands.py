# SPDX-License-Identifier: GPL-2.0-or-later
"""The operands of x86-64's instructions: registers and their parts, and addresses.

Intel SDM, volume 1, 3.4 and 3.7.  They come from capstone.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable

import capstone
from capstone import x86_const

from harness.binary import values
from harness.binary.machine import Machine, NotUnderstoodError
from harness.binary.values import MASK, Value

_LEGACY = ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")
_NUMBERED = re.compile(r"(r\d+)([dwb]?)")
_SIZES = {"": 64, "d": 32, "w": 16, "b": 8}

Operation = Callable[[Machine, capstone.CsInsn], None]


def whole(i: capstone.CsInsn, number: int) -> str:
    """Return the register of 64 bits that capstone's register ``number`` is, or is a part of;
    NotUnderstoodError if there is none."""
    return _register(i.reg_name(number))[0]


def lowest(i: capstone.CsInsn, number: int) -> int:
    """Return how many of the lowest bits of ``whole`` the register ``number`` is; 0: ah, bh, .."""
    _, width, at = _register(i.reg_name(number))
    return width if not at else 0


def written(i: capstone.CsInsn) -> frozenset[str]:
    """Return the whole registers that ``i`` writes, or a part of which, by capstone's list."""
    found = set[str]()
    for one in i.regs_access()[1]:
        with contextlib.suppress(NotUnderstoodError):  # the flags
            found.add(whole(i, one))
    return frozenset(found)


def _register(name: str) -> tuple[str, int, int]:
    """Return the whole register that ``name`` is a part of, the part's width and lowest bit."""
    found = _NUMBERED.fullmatch(name)
    if found is not None:
        return found[1], _SIZES[found[2]], 0
    if name[0] in "re" and name[1:] in _LEGACY:
        return f"r{name[1:]}", 64 if name[0] == "r" else 32, 0
    if name in _LEGACY:
        return f"r{name}", 16, 0
    if name.endswith("h"):
        return f"r{name[0]}x", 8, 8
    if name.endswith("l"):
        return f"r{name[:-1]}" if len(name) == 3 else f"r{name[0]}x", 8, 0
    raise NotUnderstoodError(f"register {name}")


def address(m: Machine, i: capstone.CsInsn, operand: capstone.x86.X86Op) -> Value:
    memory = operand.mem
    if memory.segment not in (0, x86_const.X86_REG_CS, x86_const.X86_REG_DS):
        raise NotUnderstoodError(f"segment in {i.op_str}")
    address = values.constant(memory.disp)
    if memory.base == x86_const.X86_REG_RIP:
        address = values.constant(memory.disp + i.address + i.size)
    elif memory.base:
        address = values.add(address, m.get(_register(i.reg_name(memory.base))[0]))
    if memory.index:
        index = m.get(_register(i.reg_name(memory.index))[0])
        address = values.add(address, values.shift_left(index, memory.scale.bit_length() - 1))
    return address


def read(m: Machine, i: capstone.CsInsn, number: int) -> Value:
    """Return operand ``number``, zero-extended."""
    operand = i.operands[number]
    if operand.type == x86_const.X86_OP_IMM:
        return values.zero_extend(values.constant(operand.imm), width(i))
    if operand.type == x86_const.X86_OP_MEM:
        return m.load(address(m, i, operand), operand.size)
    return _part(m, i.reg_name(operand.reg))


def _part(m: Machine, name: str) -> Value:
    whole, width, lowest = _register(name)
    return values.zero_extend(values.shift_right(m.get(whole), lowest), width)


def write(m: Machine, i: capstone.CsInsn, number: int, value: Value) -> None:
    operand = i.operands[number]
    if operand.type == x86_const.X86_OP_MEM:
        m.store(address(m, i, operand), operand.size, value)
    else:
        put(m, i.reg_name(operand.reg), value)


def put(m: Machine, name: str, value: Value) -> None:
    whole, width, lowest = _register(name)
    if width >= 32:
        m.set(whole, values.zero_extend(value, width))
        return
    mask = ((1 << width) - 1) << lowest
    rest = values.conjunction(m.get(whole), values.constant(~mask))
    part = values.shift_left(values.zero_extend(value, width), lowest)
    m.set(whole, values.disjunction(rest, part))


def width(i: capstone.CsInsn) -> int:
    return int(i.operands[0].size) * 8


def target(i: capstone.CsInsn) -> int:
    """Return where a jump or a call goes; NotUnderstoodError if a register or memory tells it."""
    operand = i.operands[0]
    if operand.type != x86_const.X86_OP_IMM:
        raise NotUnderstoodError(f"{i.mnemonic} {i.op_str}: goes where it is told")
    return int(operand.imm) & MASK
