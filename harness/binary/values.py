# SPDX-License-Identifier: GPL-2.0-or-later
"""What a register holds while a lock function is lifted: numbers, pointers, and what is not known.

Of a number each bit is known or not.  A pointer is an offset to something that has a name: "x0"
is what register x0 held when the function was entered, "[x0+0x8]" what memory held there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

WIDTH = 64
MASK = (1 << WIDTH) - 1

STACK = "stack"
PER_CPU = "per-CPU"  # memory of this CPU alone
_OFFSETS = 1 << 20  # no offset is so large: on x86 a number below -_OFFSETS is an address
# Another CPU's number, as it is in a lock word: no value that comes from elsewhere is equal to it.
OTHER_CPU = 0xABC
OWN_CPU = 0xABD  # this CPU's number there: it may be equal to what comes from elsewhere

# The instructions that read the lock word, by their addresses.  ~address: the value read there only
# chose between others (see ``chosen``).
Taint = frozenset[int]


@dataclass(frozen=True)
class Value:
    """A value of 64 bits."""

    bits: int = 0  # where ``known``; of a pointer: the offset
    known: int = 0
    base: str = ""  # what a pointer is relative to; "": it is a number
    taint: Taint = frozenset()

    @property
    def number(self) -> int | None:
        """The number; None if it is a pointer or not known."""
        return self.bits if self.known == MASK and not self.base else None

    def low(self, width: int) -> int | None:
        """Return the number in the lowest ``width`` bits; None if not all of them are known."""
        mask = (1 << width) - 1
        if self.base or self.known & mask != mask:
            return None
        return self.bits & mask


UNKNOWN = Value()


def chosen(taint: Taint) -> Taint:
    """Return the taint of a value that reads of ``taint`` have chosen, and are no part of.

    Armv8 lets a processor guess what a csel chooses: a load whose address it has chosen need not
    wait, a store must.
    """
    return frozenset(one if one < 0 else ~one for one in taint)


def constant(number: int) -> Value:
    return Value(number & MASK, MASK)


def pointer(base: str, offset: int = 0) -> Value:
    return Value(offset & MASK, MASK, base)


def add(a: Value, b: Value) -> Value:
    taint = a.taint | b.taint
    if a.base or b.base:
        if _is_per_cpu(a, b) or _is_per_cpu(b, a):
            offset = (a.bits + b.bits) & MASK if a.known & b.known == MASK else 0
            return Value(offset, MASK, PER_CPU, taint)
        if a.base and b.base:
            return Value(taint=taint)
        other = b if a.base else a
        if other.known != MASK:
            return Value(taint=taint)
        return Value((a.bits + b.bits) & MASK, MASK, a.base or b.base, taint)
    known = _below_first_unknown(a.known & b.known)
    return Value((a.bits + b.bits) & known, known, taint=taint)


def _is_per_cpu(a: Value, b: Value) -> bool:
    """Say whether ``a`` and ``b`` make an address of this CPU's own memory.

    On x86 the CPU's own data has an offset there, and the variable's address is added to it.
    """
    if a.base == PER_CPU:
        return True
    is_variable = not b.base and b.known == MASK and signed(b.bits, WIDTH) < -_OFFSETS
    return a.base.startswith(f"[{PER_CPU}") and is_variable


def subtract(a: Value, b: Value) -> Value:
    taint = a.taint | b.taint
    if b.base:
        same = a.base == b.base and a.base != PER_CPU
        return Value((a.bits - b.bits) & MASK, MASK, taint=taint) if same else Value(taint=taint)
    return add(a, replace(negate(b), taint=taint))


def negate(a: Value) -> Value:
    if a.base:
        return Value(taint=a.taint)
    known = _below_first_unknown(a.known)
    return Value(-a.bits & known, known, taint=a.taint)


def conjunction(a: Value, b: Value) -> Value:
    taint, a, b = a.taint | b.taint, _number(a), _number(b)
    zeros = (a.known & ~a.bits) | (b.known & ~b.bits)
    known = (zeros | (a.known & b.known)) & MASK
    return Value(a.bits & b.bits & known, known, taint=taint)


def disjunction(a: Value, b: Value) -> Value:
    """``a`` or ``b``.  On x86 the top of the stack, which has the CPU's own data, is found so."""
    taint = a.taint | b.taint
    if STACK in (a.base, b.base):
        return Value(0, MASK, PER_CPU, taint)
    a, b = _number(a), _number(b)
    ones = (a.known & a.bits) | (b.known & b.bits)
    known = (ones | (a.known & b.known)) & MASK
    return Value((a.bits | b.bits) & known, known, taint=taint)


def exclusive(a: Value, b: Value) -> Value:
    taint, a, b = a.taint | b.taint, _number(a), _number(b)
    known = a.known & b.known
    return Value((a.bits ^ b.bits) & known, known, taint=taint)


def _number(a: Value) -> Value:
    """Return ``a`` as a number: of a pointer no bit is known."""
    return Value(taint=a.taint) if a.base else a


def invert(a: Value) -> Value:
    return exclusive(a, constant(MASK))


def shift_left(a: Value, count: int) -> Value:
    if a.base:
        return a if not count else Value(taint=a.taint)
    known = (a.known << count | (1 << count) - 1) & MASK
    return Value(a.bits << count & known, known, taint=a.taint)


def shift_right(a: Value, count: int) -> Value:
    if a.base:
        return a if not count else Value(taint=a.taint)
    known = a.known >> count | (MASK & ~(MASK >> count))
    return Value(a.bits >> count, known, taint=a.taint)


def zero_extend(a: Value, width: int) -> Value:
    """Return the lowest ``width`` bits; above them zero."""
    if width >= WIDTH:
        return a
    mask = (1 << width) - 1
    if a.base:
        return Value(0, MASK & ~mask, taint=a.taint)
    return Value(a.bits & mask, (a.known | ~mask) & MASK, taint=a.taint)


def sign_extend(a: Value, width: int) -> Value:
    """Return the lowest ``width`` bits; above them copies of the highest one."""
    if width >= WIDTH:
        return a
    low = zero_extend(a, width)
    mask, sign = (1 << width) - 1, 1 << (width - 1)
    if not low.known & sign:
        return Value(low.bits, low.known & mask, taint=a.taint)
    return Value(low.bits | (MASK & ~mask if low.bits & sign else 0), low.known, taint=a.taint)


def signed(number: int, width: int) -> int:
    number &= (1 << width) - 1
    return number - (1 << width) if number >> (width - 1) else number


def _below_first_unknown(known: int) -> int:
    """Return which bits of a sum are known: a carry out of one that is not may change all above."""
    unknown = ~known & MASK
    return (unknown & -unknown) - 1 if unknown else MASK


@dataclass(frozen=True)
class Flags:
    """The condition flags, as the operation that set them, of ``width`` bits.

    "sub", "add" and "and"; "dec" and "inc", which leave the carry as it was; and "shift", whose
    result is ``a``.
    """

    operation: str
    a: Value
    b: Value
    width: int

    @property
    def taint(self) -> Taint:
        return self.a.taint | self.b.taint

    def zero(self) -> bool | None:
        """Say whether the result is zero; None: not known."""
        mask = (1 << self.width) - 1
        if self.operation == "sub":
            if self.a.base or self.b.base:
                both = self.a.base == self.b.base and self.a.base != PER_CPU
                return self.a.bits == self.b.bits if both else None
            if (self.a.bits ^ self.b.bits) & self.a.known & self.b.known & mask:
                return False
            if self._is_other_cpu(self.a, self.b) or self._is_other_cpu(self.b, self.a):
                return False
        result = self._result()
        if result.base:
            return None
        if result.bits & result.known & mask:
            return False
        return True if result.known & mask == mask else None

    def negative(self) -> bool | None:
        return self._bit(self._result(), self.width - 1)

    def carry(self) -> bool | None:
        """Say whether ``a`` < ``b``, unsigned: x86's carry, the opposite of Arm's, of "sub"."""
        if self.operation == "and":
            return False
        a, b = self.a.low(self.width), self.b.low(self.width)
        if a is None or b is None or self.operation not in ("sub", "add"):
            return None
        return a < b if self.operation == "sub" else a + b >> self.width != 0

    def overflow(self) -> bool | None:
        if self.operation == "and":
            return False
        a, b = self.a.low(self.width), self.b.low(self.width)
        if a is None or b is None or self.operation == "shift":
            return None
        left, right = signed(a, self.width), signed(b, self.width)
        exact = left - right if self.operation in ("sub", "dec") else left + right
        return exact != signed(exact, self.width)

    def _result(self) -> Value:
        match self.operation:
            case "sub" | "dec":
                return subtract(self.a, self.b)
            case "add" | "inc":
                return add(self.a, self.b)
            case "shift":
                return self.a
            case _:
                return conjunction(self.a, self.b)

    @staticmethod
    def _bit(value: Value, bit: int) -> bool | None:
        if value.base or not value.known >> bit & 1:
            return None
        return bool(value.bits >> bit & 1)

    def _is_other_cpu(self, number: Value, other: Value) -> bool:
        """The word holds another CPU's number, and is compared with one that is not from there."""
        return (
            bool(number.taint)
            and number.low(self.width) == OTHER_CPU
            and not other.taint
            and other.low(self.width) is None
        )


def either(a: bool | None, b: bool | None) -> bool | None:
    """Return ``a or b`` of two flags, None for one that is not known."""
    if a or b:
        return True
    return None if None in (a, b) else False


def differ(a: bool | None, b: bool | None) -> bool | None:
    """Return ``a != b`` of two flags, None for one that is not known."""
    return None if a is None or b is None else a != b
