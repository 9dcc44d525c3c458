# SPDX-License-Identifier: GPL-2.0-or-later
"""What x86-64 does on a condition: jcc, setcc, cmovcc.

Intel SDM, volume 1, appendix B.
"""

from __future__ import annotations

from dataclasses import replace

import capstone

from harness.binary import values
from harness.binary import x86_operands as operands
from harness.binary.machine import Machine
from harness.binary.x86_operands import Operation

_OPPOSITE = {
    "ne": "e", "ns": "s", "ae": "b", "no": "o", "a": "be", "ge": "l", "g": "le",
}  # fmt: skip
NAMES = (*_OPPOSITE, *_OPPOSITE.values())


def jump(name: str) -> Operation:
    """Return what goes to its operand if the condition ``name`` ("be") holds."""

    def run(m: Machine, i: capstone.CsInsn) -> None:
        m.branch(_condition(m, name), m.compared(), operands.target(i))

    return run


def set_to(name: str) -> Operation:
    """Return what sets its operand to 1 if the condition ``name`` holds, else to 0."""

    def run(m: Machine, i: capstone.CsInsn) -> None:
        answer = values.constant(m.decide(_condition(m, name)))
        operands.write(m, i, 0, replace(answer, taint=m.compared()))

    return run


def move(name: str) -> Operation:
    """Return what moves the second operand to the first if the condition ``name`` holds."""

    def run(m: Machine, i: capstone.CsInsn) -> None:
        condition = _condition(m, name)
        if condition is None and operands.read(m, i, 0).base and operands.read(m, i, 1).base:
            value = m.either(operands.read(m, i, 0), operands.read(m, i, 1))
        else:
            value = operands.read(m, i, 1 if m.decide(condition) else 0)
        operands.write(m, i, 0, replace(value, taint=value.taint | m.compared()))

    return run


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
