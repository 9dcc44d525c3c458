# SPDX-License-Identifier: GPL-2.0-or-later
"""What a variable is in a frame: DWARF's location expressions and location lists, evaluated.

A value that the compiler did not keep is None, never a guess.  Of a caller only the registers
that a callee preserves are known; what a function was called with (DW_OP_entry_value) is what its
caller says that it put into the register (DW_TAG_call_site_parameter).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.dwarf.compileunit import CompileUnit
from elftools.dwarf.die import DIE
from elftools.dwarf.dwarf_expr import DWARFExprParser
from elftools.dwarf.locationlists import LocationEntry, LocationExpr, LocationParser

from harness.hypervisor.dwarf.frames import Frame, Read
from harness.hypervisor.dwarf.inlined import Level
from harness.hypervisor.dwarf.units import name, number, type_of, units
from harness.verdict import HarnessError

_MASK = 2**64 - 1
_VARIABLES = ("DW_TAG_formal_parameter", "DW_TAG_variable")
_SITES = ("DW_TAG_call_site", "DW_TAG_GNU_call_site")
_ENTRY = ("DW_OP_entry_value", "DW_OP_GNU_entry_value")
_MOST_CALLERS = 4  # that an argument is followed through


@dataclass(frozen=True)
class Variable:
    """A variable or argument of a function."""

    name: str
    type: str  # "struct evtchn *"
    parameter: bool
    die: DIE

    @property
    def target(self) -> str:
        """What it points to: "evtchn" for a ``struct evtchn *``; "" if it is no pointer."""
        return self.type.removesuffix(" *") if self.type.endswith(" *") else ""


def variables(level: Level) -> Iterator[Variable]:
    """Yield the variables of ``level`` that exist where it is, those of inner blocks first."""
    for scope in reversed(level.scopes):
        for die in scope.iter_children():
            if die.tag in _VARIABLES:
                parameter = die.tag == "DW_TAG_formal_parameter"
                yield Variable(name(die), type_name(type_of(die)), parameter, die)


def type_name(die: DIE | None) -> str:
    """Return how C writes a type, without qualifiers and ``struct``: "evtchn *"."""
    if die is None:
        return "void"
    if die.tag == "DW_TAG_pointer_type":
        return f"{type_name(type_of(die))} *"
    if die.tag in ("DW_TAG_const_type", "DW_TAG_volatile_type", "DW_TAG_restrict_type"):
        return type_name(type_of(die))
    return name(die)


def value(
    elf: Path, frames: Sequence[Frame], at: int, level: Level, variable: Variable, read: Read
) -> int | None:
    """Return the value of ``variable`` of ``level`` in ``frames[at]``; None if it is not there."""
    frame = frames[at]
    state = _State(elf, frames, at, level, read)
    constant = variable.die.attributes.get("DW_AT_const_value")
    if constant is not None:
        return int(constant.value) & _MASK if isinstance(constant.value, int) else None
    expression = _expression(elf, level.unit, variable.die, frame.address)
    if not expression:
        return None
    try:
        place = state.evaluate(expression)
        if place is None or not place.memory:
            return place.value if place is not None else None
        size = size_of(type_of(variable.die))
        return int.from_bytes(read(place.value, size), "little") if size in (1, 2, 4, 8) else None
    except HarnessError:
        return None


def size_of(die: DIE | None) -> int:
    """Return the size in bytes of a type; 0 if it is not known."""
    while die is not None:
        if die.tag == "DW_TAG_pointer_type":
            return 8
        if (size := number(die, "DW_AT_byte_size")) is not None:
            return size
        die = type_of(die)
    return 0


def register_of(elf: Path, unit: CompileUnit, die: DIE, address: int) -> int | None:
    """Return DWARF's number of the register that holds the variable ``die`` while the CPU is at
    ``address``; None: it is in none."""
    expression = _expression(elf, unit, die, address)
    if not expression:
        return None
    operations = DWARFExprParser(unit.structs).parse_expr(list(expression))
    word = operations[0].op_name.removeprefix("DW_OP_reg")
    if len(operations) != 1 or word == operations[0].op_name:
        return None
    return int(word) if word.isdigit() else int(operations[0].args[0])


def _expression(elf: Path, unit: CompileUnit, die: DIE, address: int) -> bytes | None:
    """Return the expression that says where ``die`` is while the CPU is at ``address``."""
    attribute = die.attributes.get("DW_AT_location")
    if attribute is None:
        return None
    info = units(elf).info
    if attribute.form.startswith("DW_FORM_block") or attribute.form == "DW_FORM_exprloc":
        return bytes(attribute.value)
    parser = LocationParser(info.location_lists())
    found = parser.parse_from_attribute(attribute, unit["version"], die)
    if isinstance(found, LocationExpr):
        return bytes(found.loc_expr)
    base = number(unit.get_top_DIE(), "DW_AT_low_pc") or 0
    for entry in found:
        if isinstance(entry, LocationEntry):
            shift = 0 if entry.is_absolute else base
            if entry.begin_offset + shift <= address < entry.end_offset + shift:
                return bytes(entry.loc_expr)
        elif hasattr(entry, "base_address"):
            base = entry.base_address
    return None


@dataclass(frozen=True)
class _Place:
    """A value, or the address of one in memory."""

    value: int
    memory: bool


_TWO: dict[str, Callable[[int, int], int]] = {
    "plus": operator.add,
    "minus": operator.sub,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "mul": operator.mul,
    "shl": lambda a, b: a << min(b, 64),
    "shr": lambda a, b: a >> b,
    "shra": lambda a, b: _signed(a) >> b,
    "eq": lambda a, b: int(a == b),
    "ne": lambda a, b: int(a != b),
    "lt": lambda a, b: int(_signed(a) < _signed(b)),
    "gt": lambda a, b: int(_signed(a) > _signed(b)),
    "le": lambda a, b: int(_signed(a) <= _signed(b)),
    "ge": lambda a, b: int(_signed(a) >= _signed(b)),
}
_ONE: dict[str, Callable[[int], int]] = {
    "neg": operator.neg,
    "not": operator.invert,
    "abs": lambda a: abs(_signed(a)),
}


class _State:
    """The machine that evaluates expressions, at one level of one frame."""

    def __init__(
        self, elf: Path, frames: Sequence[Frame], at: int, level: Level, read: Read, depth: int = 0
    ) -> None:
        self._elf, self._frames, self._at = elf, frames, at
        self._level, self._read, self._depth = level, read, depth

    def evaluate(self, expression: bytes | list[Any]) -> _Place | None:
        """Return where ``expression`` says that something is; None where that is not known."""
        operations = (
            DWARFExprParser(self._level.unit.structs).parse_expr(list(expression))
            if isinstance(expression, bytes)
            else expression
        )
        stack: list[int] = []
        memory = True
        for operation in operations:
            word = operation.op_name.removeprefix("DW_OP_")
            if word in ("piece", "bit_piece", "implicit_pointer", "GNU_implicit_pointer"):
                return None  # in several places, or nowhere
            if word == "stack_value":
                return _Place(stack[-1], False) if stack else None
            if word == "implicit_value":
                return _Place(int.from_bytes(bytes(operation.args[0]), "little"), False)
            if word.startswith("reg"):
                memory = False
            if not self._step(word, operation, stack):
                return None
        return _Place(stack[-1] & _MASK, memory) if stack else None

    def _step(self, word: str, operation: Any, stack: list[int]) -> bool:
        """Do one operation; False where it needs what is not known."""
        arguments = operation.args
        if operation.op_name in _ENTRY:
            pushed = self._entry(arguments[0])
        elif word.startswith(("reg", "breg")):
            pushed = self._register(word, arguments)
        elif word == "fbreg":
            base = self._frame_base()
            pushed = None if base is None else base + arguments[0]
        elif word == "call_frame_cfa":
            pushed = self._frames[self._at].cfa
        elif word.startswith("lit"):
            pushed = int(word.removeprefix("lit"))
        elif word == "addr" or word.startswith("const"):
            pushed = arguments[0]
        elif word == "addrx":
            pushed = units(self._elf).info.get_addr(self._level.unit, arguments[0])
        elif word in ("nop", "convert", "GNU_convert"):
            return True
        else:
            return self._on_stack(word, arguments, stack)
        if pushed is None:
            return False
        stack.append(pushed & _MASK)
        return True

    def _on_stack(self, word: str, arguments: list[Any], stack: list[int]) -> bool:
        if word in _TWO and len(stack) > 1:
            second = stack.pop()
            stack[-1] = _TWO[word](stack[-1], second) & _MASK
        elif word in _ONE and stack:
            stack[-1] = _ONE[word](stack[-1]) & _MASK
        elif word == "plus_uconst" and stack:
            stack[-1] = stack[-1] + arguments[0] & _MASK
        elif word in ("deref", "deref_size") and stack:
            size = arguments[0] if word == "deref_size" else 8
            stack[-1] = int.from_bytes(self._read(stack[-1], size), "little")
        elif word == "dup" and stack:
            stack.append(stack[-1])
        elif word == "over" and len(stack) > 1:
            stack.append(stack[-2])
        elif word == "swap" and len(stack) > 1:
            stack[-1], stack[-2] = stack[-2], stack[-1]
        elif word == "drop" and stack:
            stack.pop()
        else:
            return False
        return True

    def _register(self, word: str, arguments: list[Any]) -> int | None:
        based = word.startswith("breg")
        digits = word.removeprefix("breg" if based else "reg")
        which = int(digits) if digits.isdigit() else arguments[0]
        held = self._frames[self._at].registers.get(which)
        if held is None or not based:
            return held
        return held + int(arguments[-1])

    def _frame_base(self) -> int | None:
        function = self._level.scopes[0]
        while function.tag != "DW_TAG_subprogram" and function.get_parent() is not None:
            function = function.get_parent()
        attribute = function.attributes.get("DW_AT_frame_base")
        if attribute is None:
            return None
        place = self.evaluate(bytes(attribute.value))
        return place.value if place is not None else None

    def _entry(self, inner: list[Any]) -> int | None:
        """Return what the function was called with in the register that ``inner`` names."""
        above = self._at + 1
        if above >= len(self._frames) or self._depth >= _MOST_CALLERS or len(inner) != 1:
            return None
        caller = self._frames[above]
        function = units(self._elf).function(caller.address)
        if function is None:
            return None
        site = _site(function, caller.pc)
        for parameter in site.iter_children() if site is not None else ():
            location = parameter.attributes.get("DW_AT_location")
            wanted = parameter.attributes.get("DW_AT_call_value") or parameter.attributes.get(
                "DW_AT_GNU_call_site_value"
            )
            if location is None or wanted is None:
                continue
            where = DWARFExprParser(function.cu.structs).parse_expr(list(location.value))
            if [(o.op, o.args) for o in where] != [(o.op, o.args) for o in inner]:
                continue
            level = Level("", "", 0, False, function.cu, (function,))
            state = _State(self._elf, self._frames, above, level, self._read, self._depth + 1)
            place = state.evaluate(bytes(wanted.value))
            return place.value if place is not None else None
        return None


def _site(die: DIE, back: int) -> DIE | None:
    """Return the call site in ``die`` that returns to ``back``."""
    for child in die.iter_children():
        if child.tag in _SITES:
            after = number(child, "DW_AT_call_return_pc") or number(child, "DW_AT_low_pc")
            if after == back:
                return child
        elif child.has_children and (found := _site(child, back)) is not None:
            return found
    return None


def _signed(word: int) -> int:
    return word - (1 << 64) if word & 1 << 63 else word
