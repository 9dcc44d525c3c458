# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of a result is true of it, whatever the bits are that are not known."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from harness.binary import values
from harness.binary.values import MASK, OTHER_CPU, UNKNOWN, Flags, Value

ROUNDS = 2000
SEED = 28

PAIRS: dict[str, tuple[Callable[[Value, Value], Value], Callable[[int, int], int]]] = {
    "add": (values.add, lambda a, b: a + b),
    "subtract": (values.subtract, lambda a, b: a - b),
    "and": (values.conjunction, lambda a, b: a & b),
    "or": (values.disjunction, lambda a, b: a | b),
    "xor": (values.exclusive, lambda a, b: a ^ b),
}
SINGLE: dict[str, tuple[Callable[[Value, int], Value], Callable[[int, int], int]]] = {
    "shift left": (values.shift_left, lambda a, n: a << n),
    "shift right": (values.shift_right, lambda a, n: a >> n),
    "zero-extend": (lambda a, n: values.zero_extend(a, n + 1), lambda a, n: a & (2 << n) - 1),
    "sign-extend": (
        lambda a, n: values.sign_extend(a, n + 1),
        lambda a, n: values.signed(a, n + 1),
    ),
}


def some(dice: random.Random) -> tuple[int, Value]:
    """Return a number, and what may be known of it."""
    number = dice.getrandbits(64) & dice.choice((MASK, 0xFFFFFFFF, 0xFFFF))
    known = dice.choice((MASK, MASK, dice.getrandbits(64), 0xFFFFFFFF, 0))
    return number, Value(number & known, known)


def assert_true(found: Value, number: int) -> None:
    assert not found.base
    assert not (found.bits ^ number) & found.known & MASK
    assert not found.bits & ~found.known


@pytest.mark.parametrize("name", PAIRS)
def test_operations_on_two_values(name: str) -> None:
    operation, exact = PAIRS[name]
    dice = random.Random(SEED)
    for _ in range(ROUNDS):
        (a, known_a), (b, known_b) = some(dice), some(dice)
        assert_true(operation(known_a, known_b), exact(a, b) & MASK)


@pytest.mark.parametrize("name", SINGLE)
def test_operations_on_one_value(name: str) -> None:
    operation, exact = SINGLE[name]
    dice = random.Random(SEED)
    for _ in range(ROUNDS):
        (a, known), count = some(dice), dice.randrange(64)
        assert_true(operation(known, count), exact(a, count) & MASK)


@pytest.mark.parametrize("width", [8, 16, 32, 64])
def test_what_flags_say_is_true(width: int) -> None:
    dice = random.Random(SEED)
    mask = (1 << width) - 1
    for _ in range(ROUNDS):
        (a, known_a), (b, known_b) = some(dice), some(dice)
        if dice.random() < 0.3:
            b, known_b = a, known_a
        a, b = a & mask, b & mask
        flags = Flags("sub", known_a, known_b, width)
        assert flags.zero() in (None, a == b)
        assert flags.carry() in (None, a < b)
        assert flags.negative() in (None, bool((a - b) >> (width - 1) & 1))
        less = values.signed(a, width) < values.signed(b, width)
        if flags.negative() is not None and flags.overflow() is not None:
            assert (flags.negative() != flags.overflow()) == less


def test_all_bits_known_is_all_that_is_needed() -> None:
    flags = Flags("sub", values.constant(5), values.constant(7), 32)
    assert (flags.zero(), flags.carry(), flags.negative(), flags.overflow()) == (
        False,
        True,
        True,
        False,
    )


def test_pointers_are_told_apart_by_their_offset_alone() -> None:
    here, there = values.pointer("x0", 8), values.pointer("x0", 16)
    assert Flags("sub", here, there, 64).zero() is False
    assert Flags("sub", here, values.pointer("x1", 8), 64).zero() is None
    assert values.add(here, values.constant(-8)) == values.pointer("x0")
    assert values.subtract(there, here).number == 8


def test_another_cpu_is_not_this_one() -> None:
    """The number in a lock word, and one that was read elsewhere."""
    in_word = Value(OTHER_CPU, MASK, taint=frozenset({0x1000}))
    assert Flags("sub", in_word, UNKNOWN, 32).zero() is False
    assert Flags("sub", values.constant(OTHER_CPU), UNKNOWN, 32).zero() is None
