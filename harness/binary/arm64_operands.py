# SPDX-License-Identifier: GPL-2.0-or-later
"""The operands of Armv8's (A64) instructions: registers, shifted and extended, and addresses.

Arm ARM, C1.2.  They come from capstone.
"""

from __future__ import annotations

from collections.abc import Callable

import capstone
from capstone import arm64_const as arm

from harness.binary import values
from harness.binary.machine import Machine, NotUnderstoodError
from harness.binary.values import Value

_NAMES = {"fp": "x29", "lr": "x30", "wsp": "sp"}
_BYTES = {"b": 1, "h": 2, "w": 4}

Operation = Callable[[Machine, capstone.CsInsn], None]


def register(i: capstone.CsInsn, number: int) -> str:
    """Return what the architecture calls capstone's register ``number``: x29, not fp."""
    found = str(i.reg_name(number))
    return _NAMES.get(found, found)


def whole(i: capstone.CsInsn, number: int) -> str:
    """Return the register of 64 bits that capstone's register ``number`` is, or is a part of."""
    name = register(i, number)
    return f"x{name[1:]}" if name[0] == "w" and name[1:].isdigit() else name


def lowest(i: capstone.CsInsn, number: int) -> int:
    """Return how many of the lowest bits of ``whole`` the register ``number`` is."""
    return 32 if i.reg_name(number)[0] == "w" else 64


def written(i: capstone.CsInsn) -> frozenset[str]:
    """Return the whole registers that ``i`` writes, or a part of which, by capstone's list.

    For capstone a comparison writes its first operand, too.
    """
    if i.mnemonic in ("cmp", "cmn", "tst"):
        return frozenset({"nzcv"})
    return frozenset(whole(i, one) for one in i.regs_access()[1])


def get(m: Machine, name: str) -> Value:
    if name in ("wzr", "xzr"):
        return values.constant(0)
    if name[0] == "w" and name[1:].isdigit():
        return values.zero_extend(m.get(f"x{name[1:]}"), 32)
    if name != "sp" and not (name[0] == "x" and name[1:].isdigit()):
        raise NotUnderstoodError(f"register {name}")
    return m.get(name)


def put(m: Machine, name: str, value: Value) -> None:
    if name in ("wzr", "xzr"):
        return
    if name[0] == "w" and name[1:].isdigit():
        m.set(f"x{name[1:]}", values.zero_extend(value, 32))
    elif name == "sp" or name[0] == "x":
        m.set(name, value)
    else:
        raise NotUnderstoodError(f"register {name}")


def read(m: Machine, i: capstone.CsInsn, number: int) -> Value:
    """Return operand ``number``, extended and shifted as it says."""
    operand = i.operands[number]
    if operand.type == arm.ARM64_OP_IMM:
        value = values.constant(operand.imm)
        bits = width(i)
    else:
        name = register(i, operand.reg)
        value = get(m, name)
        bits = 32 if name[0] == "w" else 64
    return _modified(i, value, bits, operand)


def _modified(
    i: capstone.CsInsn, value: Value, width: int, operand: capstone.arm64.Arm64Op
) -> Value:
    if operand.ext:
        extended = _EXTENDED.get(operand.ext)
        if extended is None:
            raise NotUnderstoodError(f"{i.mnemonic} {i.op_str}: how it is extended")
        value, width = extended(value), 64
    kind, count = operand.shift.type, operand.shift.value
    if kind == arm.ARM64_SFT_LSL:
        return values.zero_extend(values.shift_left(value, count), width)
    if kind == arm.ARM64_SFT_LSR:
        return values.shift_right(value, count)
    if kind:
        raise NotUnderstoodError(f"{i.mnemonic} {i.op_str}: how it is shifted")
    return value


_EXTENDED: dict[int, Callable[[Value], Value]] = {
    arm.ARM64_EXT_UXTB: lambda v: values.zero_extend(v, 8),
    arm.ARM64_EXT_UXTH: lambda v: values.zero_extend(v, 16),
    arm.ARM64_EXT_UXTW: lambda v: values.zero_extend(v, 32),
    arm.ARM64_EXT_UXTX: lambda v: v,
    arm.ARM64_EXT_SXTB: lambda v: values.sign_extend(v, 8),
    arm.ARM64_EXT_SXTH: lambda v: values.sign_extend(v, 16),
    arm.ARM64_EXT_SXTW: lambda v: values.sign_extend(v, 32),
    arm.ARM64_EXT_SXTX: lambda v: v,
}


def width(i: capstone.CsInsn) -> int:
    first = i.operands[0]
    is_word = first.type == arm.ARM64_OP_REG and i.reg_name(first.reg)[0] == "w"
    return 32 if is_word else 64


def address(m: Machine, i: capstone.CsInsn) -> Value:
    """Return the address that the instruction accesses; do its write-back, if it has one."""
    number, operand = next((n, o) for n, o in enumerate(i.operands) if o.type == arm.ARM64_OP_MEM)
    base = register(i, operand.mem.base)
    start = get(m, base)
    address = values.add(start, values.constant(operand.mem.disp))
    if operand.mem.index:
        index_name = register(i, operand.mem.index)
        address = values.add(address, _modified(i, get(m, index_name), 64, operand))
    after = i.operands[number + 1] if number + 1 < len(i.operands) else None
    if after is not None and after.type == arm.ARM64_OP_IMM:  # [x0], #16
        put(m, base, values.add(start, values.constant(after.imm)))
    elif i.op_str.endswith("!"):
        put(m, base, address)
    return address


def size(i: capstone.CsInsn, number: int, suffix: str) -> int:
    if suffix:
        return _BYTES[suffix]
    return 4 if register(i, i.operands[number].reg)[0] == "w" else 8
