# SPDX-License-Identifier: GPL-2.0-or-later
"""What the instructions of x86-64 mean that lock functions are made of.

Intel SDM, volume 2; of order, volume 3, 9.2: a locked access is a full barrier.  Operands come
from capstone; which of them an instruction reads and writes is said here, by the mnemonic.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import capstone
from capstone import x86_const

from harness.binary import values
from harness.binary.events import Barrier
from harness.binary.machine import Machine, NotUnderstoodError
from harness.binary.values import MASK, Flags, Value

ARGUMENT, SECOND, RESULT = "rdi", "rsi", "rax"
RETURN_THUNKS = ("__x86_return_thunk",)

_CLOBBERED = ("rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11")
_LOCKED = (Barrier.FULL, Barrier.FULL)
_LEGACY = ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")
_NUMBERED = re.compile(r"(r\d+)([dwb]?)")
_SIZES = {"": 64, "d": 32, "w": 16, "b": 8}

Operation = Callable[[Machine, capstone.CsInsn], None]


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


def whole_register(name: str) -> str:
    """Return the register of 64 bits that ``name`` is a part of; NotUnderstoodError if none is."""
    return _register(name)[0]


# -- operands ------------------------------------------------------------------------------


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


def _address(m: Machine, i: capstone.CsInsn, operand: capstone.x86.X86Op) -> Value:
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


def _read(m: Machine, i: capstone.CsInsn, number: int) -> Value:
    """Return operand ``number``, zero-extended."""
    operand = i.operands[number]
    if operand.type == x86_const.X86_OP_IMM:
        return values.zero_extend(values.constant(operand.imm), _width(i))
    if operand.type == x86_const.X86_OP_MEM:
        return m.load(_address(m, i, operand), operand.size)
    return _part(m, i.reg_name(operand.reg))


def _part(m: Machine, name: str) -> Value:
    whole, width, lowest = _register(name)
    return values.zero_extend(values.shift_right(m.get(whole), lowest), width)


def _write(m: Machine, i: capstone.CsInsn, number: int, value: Value) -> None:
    operand = i.operands[number]
    if operand.type == x86_const.X86_OP_MEM:
        m.store(_address(m, i, operand), operand.size, value)
    else:
        _put(m, i.reg_name(operand.reg), value)


def _put(m: Machine, name: str, value: Value) -> None:
    whole, width, lowest = _register(name)
    if width >= 32:
        m.set(whole, values.zero_extend(value, width))
        return
    mask = ((1 << width) - 1) << lowest
    rest = values.conjunction(m.get(whole), values.constant(~mask))
    part = values.shift_left(values.zero_extend(value, width), lowest)
    m.set(whole, values.disjunction(rest, part))


def _width(i: capstone.CsInsn) -> int:
    return int(i.operands[0].size) * 8


# -- meanings ------------------------------------------------------------------------------


def _nothing(_m: Machine, _i: capstone.CsInsn) -> None:
    pass


def _mov(m: Machine, i: capstone.CsInsn) -> None:
    _write(m, i, 0, _read(m, i, 1))


def _movsx(m: Machine, i: capstone.CsInsn) -> None:
    _write(m, i, 0, values.sign_extend(_read(m, i, 1), int(i.operands[1].size) * 8))


def _cdqe(m: Machine, _i: capstone.CsInsn) -> None:
    m.set("rax", values.sign_extend(m.get("rax"), 32))


def _lea(m: Machine, i: capstone.CsInsn) -> None:
    _write(m, i, 0, _address(m, i, i.operands[1]))


def _computed(
    flags: str, change: Callable[[Value, Value], Value], writes: bool = True
) -> Operation:
    """An operation on two operands, of which the first takes the result (one: with 1)."""

    def run(m: Machine, i: capstone.CsInsn) -> None:
        width = _width(i)
        b = _read(m, i, 1) if len(i.operands) > 1 else values.constant(1)
        first = i.operands[0]
        if writes and first.type == x86_const.X86_OP_MEM:
            if m.exclusive is not None:
                raise NotUnderstoodError("an exclusive access on x86")
            a = m.load(_address(m, i, first), first.size)
        else:
            a = _read(m, i, 0)
        same = len(i.operands) > 1 and first.type == x86_const.X86_OP_REG
        if same and i.operands[1].type == x86_const.X86_OP_REG and first.reg == i.operands[1].reg:
            result = values.constant(0) if i.mnemonic in ("xor", "sub") else change(a, b)
        else:
            result = change(a, b)
        _flag(m, flags, a, b, result, width)
        if writes:
            _write(m, i, 0, values.zero_extend(result, width))

    return run


def _flag(m: Machine, flags: str, a: Value, b: Value, result: Value, width: int) -> None:
    if flags == "and":
        m.flags = Flags("and", result, result, width)
    elif flags:
        m.flags = Flags(flags, a, b, width)


def _locked(flags: str, change: Callable[[Value, Value], Value]) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        width, first = _width(i), i.operands[0]
        b = _read(m, i, 1) if len(i.operands) > 1 else values.constant(1)

        def new(old: Value) -> Value:
            return values.zero_extend(change(old, b), width)

        a = m.atomic(_address(m, i, first), first.size, new, _LOCKED)
        _flag(m, flags, a, b, change(a, b), width)

    return run


def _xadd(m: Machine, i: capstone.CsInsn) -> None:
    width, first = _width(i), i.operands[0]
    b = _read(m, i, 1)

    def new(old: Value) -> Value:
        return values.zero_extend(values.add(old, b), width)

    a = m.atomic(_address(m, i, first), first.size, new, _LOCKED)
    m.flags = Flags("add", a, b, width)
    _write(m, i, 1, a)


def _xchg(m: Machine, i: capstone.CsInsn) -> None:
    first, b = i.operands[0], _read(m, i, 1)
    if first.type != x86_const.X86_OP_MEM:
        a = _read(m, i, 0)
        _write(m, i, 0, b)
    else:
        a = m.atomic(_address(m, i, first), first.size, lambda _: b, _LOCKED)
    _write(m, i, 1, a)


def _cmpxchg(m: Machine, i: capstone.CsInsn) -> None:
    width, first = _width(i), i.operands[0]
    wanted = values.zero_extend(m.get("rax"), width)
    b = _read(m, i, 1)

    def new(old: Value) -> Value | None:
        return b if m.decide(Flags("sub", wanted, old, width).zero()) else None

    a = m.atomic(_address(m, i, first), first.size, new, _LOCKED)
    m.flags = Flags("sub", wanted, a, width)
    _put(m, {8: "al", 16: "ax", 32: "eax", 64: "rax"}[width], a)


def _shift(change: Callable[[Value, int], Value]) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        width = _width(i)
        count = _read(m, i, 1).low(8) if len(i.operands) > 1 else 1
        if count is None:
            raise NotUnderstoodError(f"{i.mnemonic} {i.op_str}: by how much is not known")
        count %= max(width, 32)
        result = values.zero_extend(change(_read(m, i, 0), count), width)
        if count:
            m.flags = Flags("shift", result, values.constant(0), width)
        _write(m, i, 0, result)

    return run


def _bit(change: Callable[[Value, Value], Value] | None, locked: bool = False) -> Operation:
    """bt, bts, btr and btc: the bit is told by a number, which may be beyond the first operand.

    Of the flags only the carry says something: they are taken for unknown.
    """

    def run(m: Machine, i: capstone.CsInsn) -> None:
        first, number = i.operands[0], _read(m, i, 1)
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
                _write(m, i, 0, values.zero_extend(new(_read(m, i, 0)), width))
            return
        address = _address(m, i, first)
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
    _write(m, i, 0, values.UNKNOWN)


def _multiply(m: Machine, i: capstone.CsInsn) -> None:
    """As ``_result_unknown``; with one operand, the result is in rdx and rax."""
    if len(i.operands) > 1:
        _result_unknown(m, i)
        return
    m.flags = None
    m.set("rax", values.UNKNOWN)
    m.set("rdx", values.UNKNOWN)


def _not(m: Machine, i: capstone.CsInsn) -> None:
    _write(m, i, 0, values.zero_extend(values.invert(_read(m, i, 0)), _width(i)))


def _neg(m: Machine, i: capstone.CsInsn) -> None:
    a, width = _read(m, i, 0), _width(i)
    m.flags = Flags("sub", values.constant(0), a, width)
    _write(m, i, 0, values.zero_extend(values.negate(a), width))


def _push(m: Machine, i: capstone.CsInsn) -> None:
    value = _read(m, i, 0) if i.operands else values.UNKNOWN
    top = values.add(m.get("rsp"), values.constant(-8))
    m.set("rsp", top)
    m.store(top, 8, value)


def _pop(m: Machine, i: capstone.CsInsn) -> None:
    top = m.get("rsp")
    value = m.load(top, 8)
    if i.operands:
        _write(m, i, 0, value)
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
    m.jump(_target(i))


def _call(m: Machine, i: capstone.CsInsn) -> None:
    m.call(_target(i), _CLOBBERED)


def _target(i: capstone.CsInsn) -> int:
    operand = i.operands[0]
    if operand.type != x86_const.X86_OP_IMM:
        raise NotUnderstoodError(f"{i.mnemonic} {i.op_str}: goes where it is told")
    return int(operand.imm) & MASK


def _return(m: Machine, _i: capstone.CsInsn) -> None:
    m.returned = True


def _trap(m: Machine, _i: capstone.CsInsn) -> None:
    m.trapped = True


def _condition(m: Machine, name: str) -> bool | None:
    flags = m.flags
    if flags is None:
        return None
    if name in _OPPOSITE:
        answer = _condition(m, _OPPOSITE[name])
        return None if answer is None else not answer
    match name:
        case "e":
            return flags.zero()
        case "s":
            return flags.negative()
        case "b":
            return flags.carry()
        case "o":
            return flags.overflow()
        case "be":
            return values.either(flags.carry(), flags.zero())
        case "l":
            return values.differ(flags.negative(), flags.overflow())
        case "le":
            return values.either(flags.zero(), values.differ(flags.negative(), flags.overflow()))
        case _:
            return None


_OPPOSITE = {
    "ne": "e", "ns": "s", "ae": "b", "no": "o", "a": "be", "ge": "l", "g": "le",
}  # fmt: skip
_CONDITIONS = (*_OPPOSITE, *_OPPOSITE.values())


def _conditional(name: str) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        m.branch(_condition(m, name), _taint(m), _target(i))

    return run


def _set(name: str) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        answer = values.constant(m.decide(_condition(m, name)))
        _write(m, i, 0, replace(answer, taint=_taint(m)))

    return run


def _move_if(name: str) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        condition = _condition(m, name)
        if condition is None and _read(m, i, 0).base and _read(m, i, 1).base:
            value = values.UNKNOWN  # one address or the other
        else:
            value = _read(m, i, 1 if m.decide(condition) else 0)
        _write(m, i, 0, replace(value, taint=value.taint | _taint(m)))

    return run


def _taint(m: Machine) -> values.Taint:
    return m.flags.taint if m.flags is not None else frozenset()


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
    **{f"j{name}": _conditional(name) for name in _CONDITIONS},
    **{f"set{name}": _set(name) for name in _CONDITIONS},
    **{f"cmov{name}": _move_if(name) for name in _CONDITIONS},
}
