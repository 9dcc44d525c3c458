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

from harness.binary import arm64_memory as memory
from harness.binary import arm64_operands as operands
from harness.binary import values
from harness.binary.arm64_operands import Operation
from harness.binary.events import Barrier
from harness.binary.machine import Machine, NotUnderstoodError
from harness.binary.values import MASK, PER_CPU, Flags, Value

ARGUMENT, SECOND, RESULT = "x0", "x1", "x0"
RETURN_THUNKS: tuple[str, ...] = ()

_SIZES = ("", "b", "h")
_CLOBBERED = tuple(f"x{number}" for number in (*range(19), 30))


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


# -- arithmetic ----------------------------------------------------------------------------


def _nothing(_m: Machine, _i: capstone.CsInsn) -> None:
    pass


def _mov(m: Machine, i: capstone.CsInsn) -> None:
    operands.put(m, operands.register(i, i.operands[0].reg), operands.read(m, i, 1))


def _mvn(m: Machine, i: capstone.CsInsn) -> None:
    operands.put(m, operands.register(i, i.operands[0].reg), values.invert(operands.read(m, i, 1)))


def _movk(m: Machine, i: capstone.CsInsn) -> None:
    name, operand = operands.register(i, i.operands[0].reg), i.operands[1]
    shift = operand.shift.value
    kept = values.conjunction(operands.get(m, name), values.constant(~(0xFFFF << shift)))
    operands.put(m, name, values.disjunction(kept, values.constant(operand.imm << shift)))


def _computed(change: Callable[[Value, Value], Value], flags: str = "") -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        a, b, width = operands.read(m, i, 1), operands.read(m, i, 2), operands.width(i)
        result = change(a, b)
        _flag(m, flags, a, b, result, width)
        operands.put(m, operands.register(i, i.operands[0].reg), result)

    return run


def _compared(change: Callable[[Value, Value], Value], flags: str) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        a, b = operands.read(m, i, 0), operands.read(m, i, 1)
        _flag(m, flags, a, b, change(a, b), operands.width(i))

    return run


def _flag(m: Machine, flags: str, a: Value, b: Value, result: Value, width: int) -> None:
    if flags == "and":
        m.flags = Flags("and", result, result, width)
    elif flags:
        m.flags = Flags(flags, a, b, width)


def _neg(m: Machine, i: capstone.CsInsn) -> None:
    operands.put(m, operands.register(i, i.operands[0].reg), values.negate(operands.read(m, i, 1)))


def _shift(change: Callable[[Value, int], Value]) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        count = operands.read(m, i, 2).low(6)
        if count is None:
            raise NotUnderstoodError(f"{i.mnemonic} {i.op_str}: by how much is not known")
        operands.put(
            m,
            operands.register(i, i.operands[0].reg),
            change(operands.read(m, i, 1), count % operands.width(i)),
        )

    return run


def _bit_field(m: Machine, i: capstone.CsInsn) -> None:
    low, width = i.operands[2].imm, i.operands[3].imm
    value = values.shift_right(operands.read(m, i, 1), low)
    operands.put(m, operands.register(i, i.operands[0].reg), values.zero_extend(value, width))


def _result_unknown(m: Machine, i: capstone.CsInsn) -> None:
    """An operation whose result no lock depends on."""
    taint = frozenset[int]()
    for operand in i.operands[1:]:
        if (
            operand.type == arm.ARM64_OP_REG
            and (name := operands.register(i, operand.reg)) != "nzcv"
        ):
            taint |= operands.get(m, name).taint
    operands.put(m, operands.register(i, i.operands[0].reg), Value(taint=taint))


def _extend(change: Callable[[Value, int], Value], width: int) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        operands.put(
            m, operands.register(i, i.operands[0].reg), change(operands.read(m, i, 1), width)
        )

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
    operands.put(m, operands.register(i, i.operands[0].reg), _special(i.op_str))


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
        value, width = operands.read(m, i, 0), operands.width(i)
        zero = Flags("and", value, value, width).zero()
        m.branch(None if zero is None else zero == wanted, value.taint, _target(i))

    return run


def _if_bit(wanted: bool) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        value, bit = operands.read(m, i, 0), i.operands[1].imm
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
        m.branch(_condition(m, name), m.compared(), _target(i))

    return run


def _select(change: Callable[[Value], Value]) -> Operation:
    """csel and its like: the second operand, or what ``change`` makes of the third."""

    def run(m: Machine, i: capstone.CsInsn) -> None:
        condition = _condition(m, _BY_CODE[i.cc])
        if condition is None and operands.read(m, i, 1).base and operands.read(m, i, 2).base:
            value = m.either(operands.read(m, i, 1), operands.read(m, i, 2))
        elif m.decide(condition):
            value = operands.read(m, i, 1)
        else:
            value = change(operands.read(m, i, 2))
        tainted = replace(value, taint=value.taint | values.chosen(m.compared()))
        operands.put(m, operands.register(i, i.operands[0].reg), tainted)

    return run


def _set(number: int) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        taken = m.decide(_condition(m, _BY_CODE[i.cc]))
        taint = values.chosen(m.compared())
        value = replace(values.constant(number if taken else 0), taint=taint)
        operands.put(m, operands.register(i, i.operands[0].reg), value)

    return run


def _if_compare(m: Machine, i: capstone.CsInsn) -> None:
    if m.decide(_condition(m, _BY_CODE[i.cc])):
        m.flags = Flags("sub", operands.read(m, i, 0), operands.read(m, i, 1), operands.width(i))
    else:
        m.flags = None


def _and_not(a: Value, b: Value) -> Value:
    return values.conjunction(a, values.invert(b))


_MEANINGS: dict[str, Operation] = {
    **{name: memory.load("") for name in ("ldr", "ldur")},
    **{f"ld{u}r{size}": memory.load(size) for u in ("", "u") for size in "bh"},
    **{f"ld{u}rs{size}": memory.load(size, sign=True) for u in ("", "u") for size in "bhw"},
    **{f"ldar{size}": memory.load(size, after=Barrier.ACQUIRE) for size in ("", "b", "h")},
    **{f"ldapr{size}": memory.load(size, after=Barrier.ACQUIRE_PC) for size in ("", "b", "h")},
    **{f"st{u}r{size}": memory.store(size) for u in ("", "u") for size in ("", "b", "h")},
    **{f"stlr{size}": memory.store(size, release=True) for size in ("", "b", "h")},
    "ldp": memory.pair,
    "stp": memory.pair,
    **{f"ld{a}xr{s}": memory.load_exclusive(s, bool(a)) for a in ("", "a") for s in ("", "b", "h")},
    **{
        f"st{r}xr{s}": memory.store_exclusive(s, bool(r)) for r in ("", "l") for s in ("", "b", "h")
    },
    "clrex": lambda m, _: m.abandon(),
    **{
        f"{name}{a}{r}{s}": memory.lse(name, bool(a), bool(r), s)
        for name in ("ldadd", "ldclr", "ldset", "ldeor", "swp", "cas")
        for a in ("", "a")
        for r in ("", "l")
        for s in ("", "b", "h")
    },
    **{
        f"{name}{r}{s}": memory.lse(name, False, bool(r), s)
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
