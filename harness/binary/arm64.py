# SPDX-License-Identifier: GPL-2.0-or-later
"""What the instructions of Armv8 (A64) mean that lock functions are made of.

Arm ARM, C6; of order, B2.3.  Operands come from capstone; which of them an instruction reads and
writes is said here, by the mnemonic: capstone's own lists are wrong for the atomic ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import capstone
from capstone import arm64_const as arm

from harness.binary import values
from harness.binary.events import Barrier, Effect, Kind
from harness.binary.machine import Exclusive, Machine, NotUnderstoodError
from harness.binary.values import MASK, PER_CPU, Flags, Value

ARGUMENT, SECOND, RESULT = "x0", "x1", "x0"
RETURN_THUNKS: tuple[str, ...] = ()

_CLOBBERED = tuple(f"x{number}" for number in (*range(19), 30))
_NAMES = {"fp": "x29", "lr": "x30", "wsp": "sp"}
_BYTES = {"b": 1, "h": 2, "w": 4}

Operation = Callable[[Machine, capstone.CsInsn], None]


class Arm64Table:
    """The meaning of each mnemonic that is understood."""

    def __init__(self) -> None:
        self.meanings: dict[str, Operation] = dict(_MEANINGS)

    def run(self, machine: Machine, instruction: capstone.CsInsn) -> None:
        """Do what ``instruction`` does; NotUnderstoodError if its meaning is not known."""
        meaning = self.meanings.get(instruction.mnemonic)
        if meaning is None:
            raise NotUnderstoodError(f"{instruction.mnemonic} {instruction.op_str}".strip())
        meaning(machine, instruction)

    def understands(self, instruction: capstone.CsInsn) -> bool:
        return instruction.mnemonic in self.meanings


# -- operands ------------------------------------------------------------------------------


def _name(i: capstone.CsInsn, register: int) -> str:
    name = str(i.reg_name(register))
    return _NAMES.get(name, name)


def _get(m: Machine, name: str) -> Value:
    if name in ("wzr", "xzr"):
        return values.constant(0)
    if name[0] == "w" and name[1:].isdigit():
        return values.zero_extend(m.get(f"x{name[1:]}"), 32)
    if name != "sp" and not (name[0] == "x" and name[1:].isdigit()):
        raise NotUnderstoodError(f"register {name}")
    return m.get(name)


def _put(m: Machine, name: str, value: Value) -> None:
    if name in ("wzr", "xzr"):
        return
    if name[0] == "w" and name[1:].isdigit():
        m.set(f"x{name[1:]}", values.zero_extend(value, 32))
    elif name == "sp" or name[0] == "x":
        m.set(name, value)
    else:
        raise NotUnderstoodError(f"register {name}")


def _read(m: Machine, i: capstone.CsInsn, number: int) -> Value:
    """Return operand ``number``, extended and shifted as it says."""
    operand = i.operands[number]
    if operand.type == arm.ARM64_OP_IMM:
        value = values.constant(operand.imm)
        width = _width(i)
    else:
        name = _name(i, operand.reg)
        value = _get(m, name)
        width = 32 if name[0] == "w" else 64
    return _modified(i, value, width, operand)


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


def _width(i: capstone.CsInsn) -> int:
    first = i.operands[0]
    is_word = first.type == arm.ARM64_OP_REG and i.reg_name(first.reg)[0] == "w"
    return 32 if is_word else 64


def _address(m: Machine, i: capstone.CsInsn) -> Value:
    """Return the address that the instruction accesses; do its write-back, if it has one."""
    number, operand = next((n, o) for n, o in enumerate(i.operands) if o.type == arm.ARM64_OP_MEM)
    base = _name(i, operand.mem.base)
    start = _get(m, base)
    address = values.add(start, values.constant(operand.mem.disp))
    if operand.mem.index:
        index_name = _name(i, operand.mem.index)
        address = values.add(address, _modified(i, _get(m, index_name), 64, operand))
    after = i.operands[number + 1] if number + 1 < len(i.operands) else None
    if after is not None and after.type == arm.ARM64_OP_IMM:  # [x0], #16
        _put(m, base, values.add(start, values.constant(after.imm)))
    elif i.op_str.endswith("!"):
        _put(m, base, address)
    return address


def _size(i: capstone.CsInsn, number: int, suffix: str) -> int:
    if suffix:
        return _BYTES[suffix]
    return 4 if _name(i, i.operands[number].reg)[0] == "w" else 8


# -- memory --------------------------------------------------------------------------------


def _load(suffix: str, sign: bool = False, after: Barrier | None = None) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        if i.operands[1].type != arm.ARM64_OP_MEM:
            raise NotUnderstoodError(f"{i.mnemonic} {i.op_str}")
        size = _size(i, 0, suffix)
        value = m.load(_address(m, i), size, after)
        _put(m, _name(i, i.operands[0].reg), _signed(value, size) if sign else value)

    return run


def _signed(value: Value, size: int) -> Value:
    return values.sign_extend(value, size * 8)


def _store(suffix: str, release: bool = False) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        value = _get(m, _name(i, i.operands[0].reg))
        m.store(_address(m, i), _size(i, 0, suffix), value, release)

    return run


def _pair(m: Machine, i: capstone.CsInsn) -> None:
    size = _size(i, 0, "")
    names = [_name(i, operand.reg) for operand in i.operands[:2]]
    stored = [_get(m, name) for name in names] if i.mnemonic == "stp" else []
    address = _address(m, i)
    for number, name in enumerate(names):
        at = values.add(address, values.constant(number * size))
        if stored:
            m.store(at, size, stored[number])
        else:
            _put(m, name, m.load(at, size))


def _load_exclusive(suffix: str, acquire: bool) -> Operation:
    """The first half of an atomic access, which is one effect when its store has been made."""

    def run(m: Machine, i: capstone.CsInsn) -> None:
        size, address = _size(i, 0, suffix), _address(m, i)
        after = Barrier.ACQUIRE if acquire else None
        if m.exclusive is not None and m.exclusive.failed and m.tries_again:
            if m.exclusive.address != i.address:
                raise NotUnderstoodError("after a failed store-exclusive comes another load")
            m.repeated = True
            return
        m.abandon()
        place = m.lock_at(address, size)
        if place is None:
            _put(m, _name(i, i.operands[0].reg), m.load(address, size, after, atomic=True))
            return
        old = m.word(place)
        m.exclusive = Exclusive(i.address, place, old, after, address.taint)
        _put(m, _name(i, i.operands[0].reg), m.part(old, size))

    return run


def _store_exclusive(suffix: str, release: bool) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        size, address = _size(i, 1, suffix), _address(m, i)
        value = values.zero_extend(_get(m, _name(i, i.operands[1].reg)), size * 8)
        status = _name(i, i.operands[0].reg)
        place = m.lock_at(address, size)
        if place is None:
            m.store(address, size, value, release)
            _put(m, status, values.UNKNOWN)
            return
        opened = m.exclusive
        if opened is None or opened.place != place or opened.failed:
            raise NotUnderstoodError("a store-exclusive without its load")
        if m.decide(None):
            m.exclusive = replace(opened, failed=True)
            _put(m, status, values.constant(1))
            return
        before = Barrier.RELEASE if release else None
        located = address.taint | opened.needs
        m.exclusive = None
        m.emit(
            Effect(
                Kind.RMW, opened.address, opened.old, value, before, opened.after, size=size,
                place=place, needs=located | value.taint, address_needs=located,
            )
        )  # fmt: skip
        _put(m, status, values.constant(0))

    return run


def _lse(name: str, acquire: bool, release: bool, suffix: str) -> Operation:
    """An atomic access in one instruction (Armv8.1); with both orders it is a full barrier.

    Where the value read goes to no register there is no acquire, whatever the name says.
    """

    def run(m: Machine, i: capstone.CsInsn) -> None:
        size = _size(i, 0, suffix)
        operand = _get(m, _name(i, i.operands[0].reg))
        target = None if name.startswith("st") else _name(i, i.operands[1].reg)
        kept = _name(i, i.operands[0].reg) if name == "cas" else target
        unread = kept in (None, "wzr", "xzr")
        full = acquire and release and not unread
        before = Barrier.FULL if full else Barrier.RELEASE if release else None
        after = Barrier.FULL if full else Barrier.ACQUIRE if acquire and not unread else None

        swapped = False

        def new(old: Value) -> Value | None:
            nonlocal swapped
            if name == "cas":
                wanted = values.zero_extend(operand, size * 8)
                same = m.decide(Flags("sub", wanted, old, size * 8).zero())
                if not same:
                    return None
                swapped = True
                value = _get(m, target or "")
                return replace(value, taint=value.taint | values.chosen(operand.taint))
            return values.zero_extend(_CHANGES[name[2:]](old, operand), size * 8)

        read = m.atomic(_address(m, i), size, new, (before, after), unread)
        if name == "cas":
            if swapped and m.decide(None):  # what is equal may also be kept, and nothing be read
                taint = operand.taint | values.chosen(read.taint)
                read = replace(read, taint=taint)
            _put(m, _name(i, i.operands[0].reg), read)
        elif target is not None:
            _put(m, target, read)

    return run


_CHANGES: dict[str, Callable[[Value, Value], Value]] = {
    "add": values.add,
    "clr": lambda old, v: values.conjunction(old, values.invert(v)),
    "set": values.disjunction,
    "eor": values.exclusive,
    "p": lambda _, v: v,  # swp
}


# -- arithmetic ----------------------------------------------------------------------------


def _nothing(_m: Machine, _i: capstone.CsInsn) -> None:
    pass


def _mov(m: Machine, i: capstone.CsInsn) -> None:
    _put(m, _name(i, i.operands[0].reg), _read(m, i, 1))


def _mvn(m: Machine, i: capstone.CsInsn) -> None:
    _put(m, _name(i, i.operands[0].reg), values.invert(_read(m, i, 1)))


def _movk(m: Machine, i: capstone.CsInsn) -> None:
    name, operand = _name(i, i.operands[0].reg), i.operands[1]
    shift = operand.shift.value
    kept = values.conjunction(_get(m, name), values.constant(~(0xFFFF << shift)))
    _put(m, name, values.disjunction(kept, values.constant(operand.imm << shift)))


def _computed(change: Callable[[Value, Value], Value], flags: str = "") -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        a, b, width = _read(m, i, 1), _read(m, i, 2), _width(i)
        result = change(a, b)
        _flag(m, flags, a, b, result, width)
        _put(m, _name(i, i.operands[0].reg), result)

    return run


def _compared(change: Callable[[Value, Value], Value], flags: str) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        a, b = _read(m, i, 0), _read(m, i, 1)
        _flag(m, flags, a, b, change(a, b), _width(i))

    return run


def _flag(m: Machine, flags: str, a: Value, b: Value, result: Value, width: int) -> None:
    if flags == "and":
        m.flags = Flags("and", result, result, width)
    elif flags:
        m.flags = Flags(flags, a, b, width)


def _neg(m: Machine, i: capstone.CsInsn) -> None:
    _put(m, _name(i, i.operands[0].reg), values.negate(_read(m, i, 1)))


def _shift(change: Callable[[Value, int], Value]) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        count = _read(m, i, 2).low(6)
        if count is None:
            raise NotUnderstoodError(f"{i.mnemonic} {i.op_str}: by how much is not known")
        _put(m, _name(i, i.operands[0].reg), change(_read(m, i, 1), count % _width(i)))

    return run


def _bit_field(m: Machine, i: capstone.CsInsn) -> None:
    low, width = i.operands[2].imm, i.operands[3].imm
    value = values.shift_right(_read(m, i, 1), low)
    _put(m, _name(i, i.operands[0].reg), values.zero_extend(value, width))


def _result_unknown(m: Machine, i: capstone.CsInsn) -> None:
    """An operation whose result no lock depends on."""
    taint = frozenset[int]()
    for operand in i.operands[1:]:
        if operand.type == arm.ARM64_OP_REG and (name := _name(i, operand.reg)) != "nzcv":
            taint |= _get(m, name).taint
    _put(m, _name(i, i.operands[0].reg), Value(taint=taint))


def _extend(change: Callable[[Value, int], Value], width: int) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        _put(m, _name(i, i.operands[0].reg), change(_read(m, i, 1), width))

    return run


# -- control, order ------------------------------------------------------------------------


def _barrier(m: Machine, i: capstone.CsInsn) -> None:
    """dmb, dsb; one for the non-shareable domain orders nothing for other CPUs."""
    name = i.op_str.strip().lower()
    if name in ("ish", "sy", "osh"):
        m.fence(Barrier.FULL)
    elif name in ("ishld", "ld", "oshld"):
        m.fence(Barrier.READ)
    elif name in ("ishst", "st", "oshst"):
        m.fence(Barrier.STORES if i.mnemonic == "dsb" else Barrier.WRITE)
    elif not name.startswith("nsh"):
        raise NotUnderstoodError(f"{i.mnemonic} {i.op_str}")


def _system(m: Machine, i: capstone.CsInsn) -> None:
    _put(m, _name(i, i.operands[0].reg), _special(i.op_str))


def _special(operands: str) -> Value:
    return values.pointer(PER_CPU) if "tpidr" in operands else values.UNKNOWN


def _jump(m: Machine, i: capstone.CsInsn) -> None:
    m.jump(_target(i))


def _call(m: Machine, i: capstone.CsInsn) -> None:
    m.call(_target(i), _CLOBBERED)


def _target(i: capstone.CsInsn) -> int:
    return int(i.operands[-1].imm) & MASK


def _return(m: Machine, _i: capstone.CsInsn) -> None:
    m.returned = True


def _trap(m: Machine, _i: capstone.CsInsn) -> None:
    m.trapped = True


def _if_zero(wanted: bool) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        value, width = _read(m, i, 0), _width(i)
        zero = Flags("and", value, value, width).zero()
        m.branch(None if zero is None else zero == wanted, value.taint, _target(i))

    return run


def _if_bit(wanted: bool) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        value, bit = _read(m, i, 0), i.operands[1].imm
        known = not value.base and value.known >> bit & 1
        is_set = bool(value.bits >> bit & 1) if known else None
        m.branch(None if is_set is None else is_set == wanted, value.taint, _target(i))

    return run


def _condition(m: Machine, name: str) -> bool | None:
    flags = m.flags
    if flags is None:
        return None
    if name in _OPPOSITE:
        answer = _condition(m, _OPPOSITE[name])
        return None if answer is None else not answer
    match name:
        case "eq":
            return flags.zero()
        case "mi":
            return flags.negative()
        case "vs":
            return flags.overflow()
        case "lo":
            return _no_carry(flags)
        case "ls":
            return values.either(_no_carry(flags), flags.zero())
        case "lt":
            return values.differ(flags.negative(), flags.overflow())
        case "le":
            return values.either(flags.zero(), values.differ(flags.negative(), flags.overflow()))
        case _:
            return None


def _no_carry(flags: Flags) -> bool | None:
    """Arm's carry of a subtraction is set where nothing was borrowed."""
    carry = flags.carry()
    return carry if carry is None or flags.operation == "sub" else not carry


_OPPOSITE = {
    "ne": "eq", "pl": "mi", "vc": "vs", "hs": "lo", "hi": "ls", "ge": "lt", "gt": "le",
}  # fmt: skip
_CONDITIONS = (*_OPPOSITE, *_OPPOSITE.values())
_BY_CODE = {getattr(arm, f"ARM64_CC_{name.upper()}"): name for name in _CONDITIONS}


def _conditional(name: str) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        m.branch(_condition(m, name), _taint(m), _target(i))

    return run


def _select(change: Callable[[Value], Value]) -> Operation:
    """csel and its like: the second operand, or what ``change`` makes of the third."""

    def run(m: Machine, i: capstone.CsInsn) -> None:
        condition = _condition(m, _BY_CODE[i.cc])
        if condition is None and _read(m, i, 1).base and _read(m, i, 2).base:
            value = values.UNKNOWN  # one address or the other
        elif m.decide(condition):
            value = _read(m, i, 1)
        else:
            value = change(_read(m, i, 2))
        tainted = replace(value, taint=value.taint | values.chosen(_taint(m)))
        _put(m, _name(i, i.operands[0].reg), tainted)

    return run


def _set(number: int) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        taken = m.decide(_condition(m, _BY_CODE[i.cc]))
        taint = values.chosen(_taint(m))
        value = replace(values.constant(number if taken else 0), taint=taint)
        _put(m, _name(i, i.operands[0].reg), value)

    return run


def _if_compare(m: Machine, i: capstone.CsInsn) -> None:
    if m.decide(_condition(m, _BY_CODE[i.cc])):
        m.flags = Flags("sub", _read(m, i, 0), _read(m, i, 1), _width(i))
    else:
        m.flags = None


def _taint(m: Machine) -> values.Taint:
    return m.flags.taint if m.flags is not None else frozenset()


def _and_not(a: Value, b: Value) -> Value:
    return values.conjunction(a, values.invert(b))


_MEANINGS: dict[str, Operation] = {
    **{name: _load("") for name in ("ldr", "ldur")},
    **{f"ld{u}r{size}": _load(size) for u in ("", "u") for size in "bh"},
    **{f"ld{u}rs{size}": _load(size, sign=True) for u in ("", "u") for size in "bhw"},
    **{f"ldar{size}": _load(size, after=Barrier.ACQUIRE) for size in ("", "b", "h")},
    **{f"ldapr{size}": _load(size, after=Barrier.ACQUIRE_PC) for size in ("", "b", "h")},
    **{f"st{u}r{size}": _store(size) for u in ("", "u") for size in ("", "b", "h")},
    **{f"stlr{size}": _store(size, release=True) for size in ("", "b", "h")},
    "ldp": _pair,
    "stp": _pair,
    **{f"ld{a}xr{s}": _load_exclusive(s, bool(a)) for a in ("", "a") for s in ("", "b", "h")},
    **{f"st{r}xr{s}": _store_exclusive(s, bool(r)) for r in ("", "l") for s in ("", "b", "h")},
    "clrex": lambda m, _: m.abandon(),
    **{
        f"{name}{a}{r}{s}": _lse(name, bool(a), bool(r), s)
        for name in ("ldadd", "ldclr", "ldset", "ldeor", "swp", "cas")
        for a in ("", "a")
        for r in ("", "l")
        for s in ("", "b", "h")
    },
    **{
        f"{name}{r}{s}": _lse(name, False, bool(r), s)
        for name in ("stadd", "stclr", "stset")
        for r in ("", "l")
        for s in ("", "b", "h")
    },
    **dict.fromkeys(("mov", "movz", "adr", "adrp"), _mov),
    "movk": _movk,
    "mvn": _mvn,
    "neg": _neg,
    "add": _computed(values.add),
    "adds": _computed(values.add, "add"),
    "sub": _computed(values.subtract),
    "subs": _computed(values.subtract, "sub"),
    "and": _computed(values.conjunction),
    "ands": _computed(values.conjunction, "and"),
    "bic": _computed(_and_not),
    "bics": _computed(_and_not, "and"),
    "orr": _computed(values.disjunction),
    "eor": _computed(values.exclusive),
    "cmp": _compared(values.subtract, "sub"),
    "cmn": _compared(values.add, "add"),
    "tst": _compared(values.conjunction, "and"),
    "lsl": _shift(values.shift_left),
    "lsr": _shift(values.shift_right),
    "ubfx": _bit_field,
    "uxtb": _extend(values.zero_extend, 8),
    "uxth": _extend(values.zero_extend, 16),
    "sxtb": _extend(values.sign_extend, 8),
    "sxth": _extend(values.sign_extend, 16),
    "sxtw": _extend(values.sign_extend, 32),
    **dict.fromkeys(("ubfiz", "sbfiz", "sbfx", "bfi", "bfxil", "asr", "ror"), _result_unknown),
    **dict.fromkeys(("mul", "madd", "msub", "smull", "umull", "udiv", "sdiv"), _result_unknown),
    **dict.fromkeys(("ngc", "orn", "eon", "csneg", "cinc", "clz", "rbit"), _result_unknown),
    "dmb": _barrier,
    "dsb": _barrier,
    "isb": lambda m, _: m.fence(Barrier.INSTRUCTIONS),
    **dict.fromkeys(("nop", "yield", "wfe", "sev", "sevl", "msr", "hint", "bti"), _nothing),
    **dict.fromkeys(("prfm", "paciasp", "autiasp", "csdb"), _nothing),
    "mrs": _system,
    "b": _jump,
    "bl": _call,
    "ret": _return,
    "brk": _trap,
    "udf": _trap,
    "cbz": _if_zero(True),
    "cbnz": _if_zero(False),
    "tbz": _if_bit(False),
    "tbnz": _if_bit(True),
    **{f"b.{name}": _conditional(name) for name in _CONDITIONS},
    "csel": _select(lambda v: v),
    "csinc": _select(lambda v: values.add(v, values.constant(1))),
    "csinv": _select(values.invert),
    "cset": _set(1),
    "csetm": _set(MASK),
    "ccmp": _if_compare,
}
