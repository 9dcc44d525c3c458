# SPDX-License-Identifier: GPL-2.0-or-later
"""What Armv8's (A64) loads and stores mean: plain, exclusive, and the atomic ones of Armv8.1.

Arm ARM, C6; of order, B2.3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import capstone
from capstone import arm64_const as arm

from harness.binary import arm64_operands as operands
from harness.binary import values
from harness.binary.arm64_operands import Operation
from harness.binary.events import Barrier, Effect, Kind
from harness.binary.machine import Exclusive, Machine, NotUnderstoodError
from harness.binary.values import Flags, Value


def load(suffix: str, sign: bool = False, after: Barrier | None = None) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        if i.operands[1].type != arm.ARM64_OP_MEM:
            raise NotUnderstoodError(f"{i.mnemonic} {i.op_str}")
        size = operands.size(i, 0, suffix)
        value = m.load(operands.address(m, i), size, after)
        value = values.sign_extend(value, size * 8) if sign else value
        operands.put(m, operands.register(i, i.operands[0].reg), value)

    return run


def store(suffix: str, release: bool = False) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        value = operands.get(m, operands.register(i, i.operands[0].reg))
        m.store(operands.address(m, i), operands.size(i, 0, suffix), value, release)

    return run


def pair(m: Machine, i: capstone.CsInsn) -> None:
    size = operands.size(i, 0, "")
    names = [operands.register(i, operand.reg) for operand in i.operands[:2]]
    stored = [operands.get(m, name) for name in names] if i.mnemonic == "stp" else []
    address = operands.address(m, i)
    for number, name in enumerate(names):
        at = values.add(address, values.constant(number * size))
        if stored:
            m.store(at, size, stored[number])
        else:
            operands.put(m, name, m.load(at, size))


def load_exclusive(suffix: str, acquire: bool) -> Operation:
    """The first half of an atomic access, which is one effect when its store has been made."""

    def run(m: Machine, i: capstone.CsInsn) -> None:
        size, address = operands.size(i, 0, suffix), operands.address(m, i)
        after = Barrier.ACQUIRE if acquire else None
        if m.exclusive is not None and m.exclusive.failed and m.tries_again:
            if m.exclusive.address != i.address:
                raise NotUnderstoodError("after a failed store-exclusive comes another load")
            m.repeated = True
            return
        m.abandon()
        place = m.lock_at(address, size)
        if place is None:
            operands.put(
                m,
                operands.register(i, i.operands[0].reg),
                m.load(address, size, after, atomic=True),
            )
            return
        old = m.word(place)
        m.exclusive = Exclusive(i.address, place, old, after, address.taint)
        operands.put(m, operands.register(i, i.operands[0].reg), m.part(old, size))

    return run


def store_exclusive(suffix: str, release: bool) -> Operation:
    def run(m: Machine, i: capstone.CsInsn) -> None:
        size, address = operands.size(i, 1, suffix), operands.address(m, i)
        value = values.zero_extend(
            operands.get(m, operands.register(i, i.operands[1].reg)), size * 8
        )
        status = operands.register(i, i.operands[0].reg)
        place = m.lock_at(address, size)
        if place is None:
            m.store(address, size, value, release)
            operands.put(m, status, values.UNKNOWN)
            return
        opened = m.exclusive
        if opened is None or opened.place != place or opened.failed:
            raise NotUnderstoodError("a store-exclusive without its load")
        if m.decide(None):
            m.exclusive = replace(opened, failed=True)
            operands.put(m, status, values.constant(1))
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
        operands.put(m, status, values.constant(0))

    return run


def lse(name: str, acquire: bool, release: bool, suffix: str) -> Operation:
    """An atomic access in one instruction (Armv8.1); with both orders it is a full barrier.

    Where the value read goes to no register there is no acquire, whatever the name says.
    """

    def run(m: Machine, i: capstone.CsInsn) -> None:
        size = operands.size(i, 0, suffix)
        operand = operands.get(m, operands.register(i, i.operands[0].reg))
        target = None if name.startswith("st") else operands.register(i, i.operands[1].reg)
        kept = operands.register(i, i.operands[0].reg) if name == "cas" else target
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
                value = operands.get(m, target or "")
                return replace(value, taint=value.taint | values.chosen(operand.taint))
            return values.zero_extend(_CHANGES[name[2:]](old, operand), size * 8)

        read = m.atomic(operands.address(m, i), size, new, (before, after), unread)
        if name == "cas":
            if swapped and m.decide(None):  # what is equal may also be kept, and nothing be read
                taint = operand.taint | values.chosen(read.taint)
                read = replace(read, taint=taint)
            operands.put(m, operands.register(i, i.operands[0].reg), read)
        elif target is not None:
            operands.put(m, target, read)

    return run


_CHANGES: dict[str, Callable[[Value, Value], Value]] = {
    "add": values.add,
    "clr": lambda old, v: values.conjunction(old, values.invert(v)),
    "set": values.disjunction,
    "eor": values.exclusive,
    "p": lambda _, v: v,  # swp
}
