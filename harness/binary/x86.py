# SPDX-License-Identifier: GPL-2.0-or-later
"""What the instructions of x86-64 mean that lock functions are made of.

Intel SDM, volume 2; of order, volume 3, 9.2: a locked access is a full barrier.  Operands come
from capstone; which of them an instruction reads and writes is said here, by the mnemonic.
"""

from __future__ import annotations

from collections.abc import Callable

import capstone
from capstone import x86_const

from harness.binary import values
from harness.binary import x86_conditions as conditions
from harness.binary import x86_operands as operands
from harness.binary.events import Barrier
from harness.binary.machine import Machine, NotUnderstoodError
from harness.binary.values import Flags, Value
from harness.binary.x86_operands import Operation

ARGUMENT, SECOND, RESULT = "rdi", "rsi", "rax"
RETURN_THUNKS = ("__x86_return_thunk",)

_CLOBBERED = ("rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11")
_LOCKED = (Barrier.FULL, Barrier.FULL)


class X86Table:
    """The meaning of each mnemonic that is understood."""

    def __init__(self) -> None:
        self.meanings: dict[str, Operation] = dict(_MEANINGS)

    def run(self, machine: Machine, instruction: capstone.CsInsn) -> None:
        """Do what ``instruction`` does; NotUnderstoodError if its meaning is not known."""
        mnemonic = instruction.mnemonic
        meaning = self.meanings.get(mnemonic)
        if meaning is None:
            raise NotUnderstoodError(f"{mnemonic} {instruction.op_str}".strip())
        meaning(machine, instruction)

    def understands(self, instruction: capstone.CsInsn) -> bool:
        return instruction.mnemonic in self.meanings


# -- meanings ------------------------------------------------------------------------------


def _nothing(_m: Machine, _i: capstone.CsInsn) -> None:
    pass


def _mov(m: Machine, i: capstone.CsInsn) -> None:
    operands.write(m, i, 0, operands.read(m, i, 1))


def _movsx(m: Machine, i: capstone.CsInsn) -> None:
    operands.write(m, i, 0, values.sign_extend(operands.read(m, i, 1), int(i.operands[1].size) * 8))


def _cdqe(m: Machine, _i: capstone.CsInsn) -> None:
    m.set("rax", values.sign_extend(m.get("rax"), 32))


def _lea(m: Machine, i: capstone.CsInsn) -> None:
    operands.write(m, i, 0, operands.address(m, i, i.operands[1]))


def _computed(
    flags: str, change: Callable[[Value, Value], Value], writes: bool = True
) -> Operation:
    """An operation on two operands, of which the first takes the result (one: with 1)."""

    def run(m: Machine, i: capstone.CsInsn) -> None:
        width = operands.width(i)
        b = operands.read(m, i, 1) if len(i.operands) > 1 else values.constant(1)
        first = i.operands[0]
        if writes and first.type == x86_const.X86_OP_MEM:
            if m.exclusive is not None:
                raise NotUnderstoodError("an exclusive access on x86")
            a = m.load(operands.address(m, i, first), first.size)
        else:
            a = operands.read(m, i, 0)
        same = len(i.operands) > 1 and first.type == x86_const.X86_OP_REG
        if same and i.operands[1].type == x86_const.X86_OP_REG and first.reg == i.operands[1].reg:
            result = values.constant(0) if i.mnemonic in ("xor", "sub") else change(a, b)
        else:
            result = change(a, b)
        _flag(m, flags, a, b, result, width)
        if writes:
            operands.write(m, i, 0, values.zero_extend(result, width))

    return run


def _flag(m: Machine, flags: str, a: Value, b: Value, result: Value, width: int) -> None:
    if flags == "and":
        m.flags = Flags("and", result, result, width)
    elif flags:
        m.flags = Flags(flags, a, b, width)


def _locked(flags: str, change: Callable[[Value, Value], Value]) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        width, first = operands.width(i), i.operands[0]
        b = operands.read(m, i, 1) if len(i.operands) > 1 else values.constant(1)

        def new(old: Value) -> Value:
            return values.zero_extend(change(old, b), width)

        a = m.atomic(operands.address(m, i, first), first.size, new, _LOCKED)
        _flag(m, flags, a, b, change(a, b), width)

    return run


def _xadd(m: Machine, i: capstone.CsInsn) -> None:
    width, first = operands.width(i), i.operands[0]
    b = operands.read(m, i, 1)

    def new(old: Value) -> Value:
        return values.zero_extend(values.add(old, b), width)

    a = m.atomic(operands.address(m, i, first), first.size, new, _LOCKED)
    m.flags = Flags("add", a, b, width)
    operands.write(m, i, 1, a)


def _xchg(m: Machine, i: capstone.CsInsn) -> None:
    first, b = i.operands[0], operands.read(m, i, 1)
    if first.type != x86_const.X86_OP_MEM:
        a = operands.read(m, i, 0)
        operands.write(m, i, 0, b)
    else:
        a = m.atomic(operands.address(m, i, first), first.size, lambda _: b, _LOCKED)
    operands.write(m, i, 1, a)


def _cmpxchg(m: Machine, i: capstone.CsInsn) -> None:
    width, first = operands.width(i), i.operands[0]
    wanted = values.zero_extend(m.get("rax"), width)
    b = operands.read(m, i, 1)

    def new(old: Value) -> Value | None:
        return b if m.decide(Flags("sub", wanted, old, width).zero()) else None

    a = m.atomic(operands.address(m, i, first), first.size, new, _LOCKED)
    m.flags = Flags("sub", wanted, a, width)
    operands.put(m, {8: "al", 16: "ax", 32: "eax", 64: "rax"}[width], a)


def _shift(change: Callable[[Value, int], Value]) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        width = operands.width(i)
        count = operands.read(m, i, 1).low(8) if len(i.operands) > 1 else 1
        if count is None:
            raise NotUnderstoodError(f"{i.mnemonic} {i.op_str}: by how much is not known")
        count %= max(width, 32)
        result = values.zero_extend(change(operands.read(m, i, 0), count), width)
        if count:
            m.flags = Flags("shift", result, values.constant(0), width)
        operands.write(m, i, 0, result)

    return run


def _bit(change: Callable[[Value, Value], Value] | None, locked: bool = False) -> Operation:
    """bt, bts, btr and btc: the bit is told by a number, which may be beyond the first operand.

    Of the flags only the carry says something: they are taken for unknown.
    """

    def run(m: Machine, i: capstone.CsInsn) -> None:
        first, number = i.operands[0], operands.read(m, i, 1)
        width = int(first.size) * 8
        known = number.low(_width_of(i.operands[1]))
        bit = None if known is None else values.constant(1 << known % width)

        def new(old: Value) -> Value:
            if bit is None or change is None:
                return Value(taint=old.taint | number.taint)
            return values.zero_extend(change(old, bit), width)

        m.flags = None
        if first.type != x86_const.X86_OP_MEM:
            if change is not None:
                operands.write(m, i, 0, values.zero_extend(new(operands.read(m, i, 0)), width))
            return
        address = operands.address(m, i, first)
        if i.operands[1].type == x86_const.X86_OP_REG:
            beyond = Value(taint=number.taint)
            if known is not None:
                signed = values.signed(known, _width_of(i.operands[1]))
                beyond = values.constant(signed // width * int(first.size))
            address = values.add(address, beyond)
        if locked:
            m.atomic(address, first.size, new, _LOCKED)
        elif change is None:
            m.load(address, first.size)
        else:
            m.store(address, first.size, new(m.load(address, first.size)))

    return run


def _width_of(operand: capstone.x86.X86Op) -> int:
    return int(operand.size) * 8


def _and_not(a: Value, b: Value) -> Value:
    return values.conjunction(a, values.invert(b))


def _result_unknown(m: Machine, i: capstone.CsInsn) -> None:
    """An operation whose result no lock depends on."""
    m.flags = None
    operands.write(m, i, 0, values.UNKNOWN)


def _multiply(m: Machine, i: capstone.CsInsn) -> None:
    """As ``_result_unknown``; with one operand, the result is in rdx and rax."""
    if len(i.operands) > 1:
        _result_unknown(m, i)
        return
    m.flags = None
    m.set("rax", values.UNKNOWN)
    m.set("rdx", values.UNKNOWN)


def _not(m: Machine, i: capstone.CsInsn) -> None:
    operands.write(
        m, i, 0, values.zero_extend(values.invert(operands.read(m, i, 0)), operands.width(i))
    )


def _neg(m: Machine, i: capstone.CsInsn) -> None:
    a, width = operands.read(m, i, 0), operands.width(i)
    m.flags = Flags("sub", values.constant(0), a, width)
    operands.write(m, i, 0, values.zero_extend(values.negate(a), width))


def _push(m: Machine, i: capstone.CsInsn) -> None:
    value = operands.read(m, i, 0) if i.operands else values.UNKNOWN
    top = values.add(m.get("rsp"), values.constant(-8))
    m.set("rsp", top)
    m.store(top, 8, value)


def _pop(m: Machine, i: capstone.CsInsn) -> None:
    top = m.get("rsp")
    value = m.load(top, 8)
    if i.operands:
        operands.write(m, i, 0, value)
    else:
        m.flags = None
    m.set("rsp", values.add(top, values.constant(8)))


def _leave(m: Machine, _i: capstone.CsInsn) -> None:
    frame = m.get("rbp")
    m.set("rbp", m.load(frame, 8))
    m.set("rsp", values.add(frame, values.constant(8)))


def _fence(barrier: Barrier | None) -> Operation:
    def run(m: Machine, _i: capstone.CsInsn) -> None:
        if barrier is not None:
            m.fence(barrier)

    return run


def _jump(m: Machine, i: capstone.CsInsn) -> None:
    m.jump(operands.target(i))


def _call(m: Machine, i: capstone.CsInsn) -> None:
    m.call(operands.target(i), _CLOBBERED)


def _return(m: Machine, _i: capstone.CsInsn) -> None:
    m.returned = True


def _trap(m: Machine, _i: capstone.CsInsn) -> None:
    m.trapped = True


_MEANINGS: dict[str, Operation] = {
    **dict.fromkeys(("mov", "movabs", "movzx"), _mov),
    **dict.fromkeys(("movsx", "movsxd"), _movsx),
    "cdqe": _cdqe,
    "lea": _lea,
    "add": _computed("add", values.add),
    "sub": _computed("sub", values.subtract),
    "inc": _computed("inc", values.add),
    "dec": _computed("dec", values.subtract),
    "and": _computed("and", values.conjunction),
    "or": _computed("and", values.disjunction),
    "xor": _computed("and", values.exclusive),
    "cmp": _computed("sub", values.subtract, writes=False),
    "test": _computed("and", values.conjunction, writes=False),
    "not": _not,
    "neg": _neg,
    "shl": _shift(values.shift_left),
    "shr": _shift(values.shift_right),
    "bt": _bit(None),
    **{
        f"{prefix}{name}": _bit(change, bool(prefix))
        for name, change in (
            ("bts", values.disjunction),
            ("btr", _and_not),
            ("btc", values.exclusive),
        )
        for prefix in ("", "lock ")
    },
    **dict.fromkeys(("sar", "rol", "ror", "sbb", "adc", "bsr", "bsf"), _result_unknown),
    "imul": _multiply,
    "push": _push,
    "pushfq": _push,
    "pop": _pop,
    "popfq": _pop,
    "leave": _leave,
    **dict.fromkeys(("nop", "pause", "endbr64", "cli", "sti", "lfence", "clac", "stac"), _nothing),
    "mfence": _fence(Barrier.FULL),
    "sfence": _fence(None),
    "lock add": _locked("add", values.add),
    "lock sub": _locked("sub", values.subtract),
    "lock inc": _locked("inc", values.add),
    "lock dec": _locked("dec", values.subtract),
    "lock and": _locked("and", values.conjunction),
    "lock or": _locked("and", values.disjunction),
    "lock xadd": _xadd,
    "lock cmpxchg": _cmpxchg,
    "xchg": _xchg,
    "jmp": _jump,
    "call": _call,
    "ret": _return,
    "ud2": _trap,
    "int3": _trap,
    **{f"j{name}": conditions.jump(name) for name in conditions.NAMES},
    **{f"set{name}": conditions.set_to(name) for name in conditions.NAMES},
    **{f"cmov{name}": conditions.move(name) for name in conditions.NAMES},
}
