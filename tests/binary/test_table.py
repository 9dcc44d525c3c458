# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tables say of each instruction, against a CPU that is not ours (Unicorn).

TABLE_STATES is how many states are run per architecture; the values are numbers, pointers, and
what is known in part.  What Unicorn cannot show is order:
barriers and the acquire and release of an access.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from harness.arch import Arch
from harness.binary import arm64, x86
from harness.binary.events import Effect, Kind, Location
from harness.binary.machine import NotUnderstoodError, Outcome, State, successors
from harness.binary.tables import Table, table_of
from harness.binary.values import MASK, Value
from tests.binary.executor.cases import Case, cases
from tests.binary.executor.forms import SKIPPED
from tests.binary.executor.unicorn_cpu import DATA, NAMES, Cpu, Ran

STATES = int(os.environ.get("TABLE_STATES", "10000"))
SEED = 28
ROUNDS = 4  # the registers of each form are chosen so often
_INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 63, MASK)
_BASE = {Arch.ARM64: ("x20", "x21"), Arch.X86_64: ("r12", "r13")}
_STACK = {Arch.ARM64: ("sp",), Arch.X86_64: ("rsp", "rbp")}
_SECOND_WORD_IS_ELSEWHERE = ("ldp",)
_NOT_KNOWN = ("mrs", "pushfq")  # what they read is no register of the table's


@dataclass(frozen=True)
class Start:
    """A state: what is known of it, and what it really is."""

    known: Mapping[str, Value]
    real: Mapping[str, int]
    places: Mapping[str, int]  # where each pointer's base is
    word: int  # at DATA
    data: Location  # that place, as the table sees it

    @property
    def exact(self) -> bool:
        return all(value.number is not None for value in self.known.values())


@pytest.mark.parametrize("arch", list(Arch))
def test_the_table_says_what_another_cpu_does(arch: Arch) -> None:
    wrong, understood = disagreements(arch, table_of(arch), STATES)
    assert wrong == {}
    assert understood >= STATES


@pytest.mark.parametrize(
    ("arch", "mnemonic", "like"),
    [
        (Arch.X86_64, "lock xadd", "xchg"),
        (Arch.X86_64, "inc", "dec"),
        (Arch.X86_64, "jbe", "jb"),
        (Arch.ARM64, "ldclral", "ldsetal"),
        (Arch.ARM64, "subs", "sub"),
        (Arch.ARM64, "cbz", "cbnz"),
        (Arch.ARM64, "ldrsb", "ldrb"),
    ],
)
def test_a_wrong_meaning_is_noticed(arch: Arch, mnemonic: str, like: str) -> None:
    table = table_of(arch)
    table.meanings[mnemonic] = table.meanings[like]
    wrong, _ = disagreements(arch, table, 300, (mnemonic,))
    assert list(wrong) == [mnemonic]


@pytest.mark.parametrize("arch", list(Arch))
def test_every_instruction_of_the_table_is_run(arch: Arch) -> None:
    _, made = cases(arch, 1, random.Random(SEED))
    run = {case.mnemonic for case in made}
    assert set(table_of(arch).meanings) == run | set(SKIPPED[arch])


def disagreements(
    arch: Arch, table: Table, states: int, only: Sequence[str] = ()
) -> tuple[dict[str, str], int]:
    """Return what ``table`` says and the CPU does not do, by mnemonic; and in how many states
    the table said something.  ``only``: these mnemonics."""
    dice = random.Random(SEED)
    code, made = cases(arch, ROUNDS, dice)
    made = [case for case in made if not only or case.mnemonic in only]
    cpu = Cpu(arch, code)
    wrong: dict[str, str] = {}
    understood = number = 0
    while understood < states:
        case, number = made[number % len(made)], number + 1
        start = some_state(arch, case, dice)
        first, count = case.instructions[0].address, len(case.instructions)
        ran = cpu.run(first, count, start.real, start.word)
        try:
            ways = ways_of(table, case, start)
        except NotUnderstoodError:
            continue
        understood += 1
        told = [differences(arch, case, start, way, ran) for way in ways]
        if all(told):
            wrong.setdefault(case.mnemonic, f"{case}: {told[0]}")
    return wrong, understood


# -- states --------------------------------------------------------------------------------


def some_state(arch: Arch, case: Case, dice: random.Random) -> Start:
    """Return a state in which ``case`` accesses memory at DATA, and nowhere else."""
    real = {name: _number(dice) for name in NAMES[arch]}
    if dice.random() < 0.3:  # many are equal
        few = [_number(dice) for _ in range(3)]
        real = {name: dice.choice(few) for name in real}
    base, index = _BASE[arch]
    real[base], real[index] = DATA - case.offset, case.index
    real.update(dict.fromkeys(_STACK[arch], DATA + case.stack))
    all_known = dice.random() < 0.5
    known, places = dict[str, Value](), dict[str, int]()
    for name, number in real.items():
        exact = all_known or name in _STACK[arch] or name == index
        known[name] = Value(number, MASK) if exact else _known_of(number, name, places, dice)
    if known[base].known != MASK:
        known[base] = Value(real[base], MASK)
    data = Location("", DATA)
    if known[base].base and not case.stack:
        data = Location(known[base].base, (DATA - places[known[base].base]) & MASK)
    return Start(known, real, places, _number(dice), data)


def _number(dice: random.Random) -> int:
    return dice.choice((dice.getrandbits(64), dice.getrandbits(32), *_INTERESTING))


def _known_of(number: int, name: str, places: dict[str, int], dice: random.Random) -> Value:
    kind = dice.randrange(4)
    if kind == 0:
        return Value(number, MASK)
    if kind == 1:
        bits = dice.choice((dice.getrandbits(64), 0xFFFF_FFFF, 0))
        return Value(number & bits, bits)
    base = f"at {name if kind == 2 else 'the same'}"
    offset = dice.choice((0, 8, -16, dice.getrandbits(16)))
    where = places.setdefault(base, (number - offset) & MASK)
    return Value((number - where) & MASK, MASK, base)


# -- the table's run -----------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    state: State | None
    effects: tuple[Effect, ...]
    last: Outcome


def ways_of(table: Table, case: Case, start: Start) -> Sequence[Way]:
    """Return every way in which ``table`` lets ``case`` go on from ``start``."""
    first = case.instructions[0].address
    begun = State(first, tuple(sorted(start.known.items())))
    ways = [Way(begun, (), Outcome(begun, (), (), ()))]
    for instruction in case.instructions:
        ways = [
            Way(after.state, (*way.effects, *after.effects), after)
            for way in ways
            if way.state is not None
            for after in successors(
                table, instruction, way.state, lambda place, _: place == start.data,
                lambda _: (start.word,), hex, names_values=False,
            )
        ]  # fmt: skip
    return ways


def differences(arch: Arch, case: Case, start: Start, way: Way, ran: Ran) -> str:
    """Say what of ``way`` is not as the CPU ``ran``; "" if nothing is."""
    if way.last.trapped or ran.trapped:
        return "" if way.last.trapped and ran.trapped else "one of them trapped"
    if way.state is None:
        return "the table goes nowhere"
    if way.last.returned:
        return _unequal("goes to", ran.pc, start.real["x30"] if arch is Arch.ARM64 else start.word)
    calls = [effect.target for effect in way.effects if effect.kind is Kind.CALL]
    if calls:
        return _unequal("calls", ran.pc, int(calls[0], 16))
    told = [_unequal("goes to", ran.pc, way.state.pc)]
    registers = dict(way.state.registers)
    exact = start.exact and _is_exact(arch, case)
    told += [
        _register(name, registers[name], ran.registers[name], start, exact) for name in NAMES[arch]
    ]
    told.append(_memory(arch, case, start, way, ran))
    return "; ".join(one for one in told if one)


def _unequal(what: str, real: int, table: int) -> str:
    return "" if real == table else f"{what} {real:#x}, the table: {table:#x}"


def _is_exact(arch: Arch, case: Case) -> bool:
    """Say whether the table knows the whole result if it knows all that goes in."""
    module = arm64 if arch is Arch.ARM64 else x86
    meaning = table_of(arch).meanings[case.mnemonic]
    left_open = (*_SECOND_WORD_IS_ELSEWHERE, *_NOT_KNOWN)
    unknown = (module._result_unknown, x86._multiply)
    return meaning not in unknown and case.mnemonic not in left_open


def _register(name: str, value: Value, real: int, start: Start, exact: bool) -> str:
    if value.base and value.base not in start.places:  # what memory has, of this CPU or of all
        return ""
    number = value.bits + (start.places[value.base] if value.base else 0)
    if (number ^ real) & value.known & MASK:
        return f"{name} is {real:#x}, the table: {value}"
    return f"{name} is not known" if exact and value.known != MASK else ""


def _memory(arch: Arch, case: Case, start: Start, way: Way, ran: Ran) -> str:
    written = [effect for effect in way.effects if effect.new is not None]
    if not written:
        return _unequal("memory is", ran.at_data(8), start.word) if not _is_open(case) else ""
    value, size = written[-1].new, _size(arch, case)
    assert value is not None
    here = ran.at_data(8)
    mask = (1 << size * 8) - 1
    if (here ^ start.word) & ~mask & MASK and not _is_open(case):
        return f"more than {size} bytes are written"
    number = value.bits + (start.places[value.base] if value.base else 0)
    wrong = (number ^ here) & value.known & mask
    return f"memory is {here:#x}, the table: {value}" if wrong else ""


def _is_open(case: Case) -> bool:
    """Say whether it also accesses what is beside DATA."""
    return case.mnemonic == "stp"


def _size(arch: Arch, case: Case) -> int:
    instruction = case.instructions[case.tested]
    if arch is Arch.X86_64:
        return 8 if case.mnemonic.startswith("push") else int(instruction.operands[0].size)
    suffix = case.mnemonic[-1]
    if suffix in "bh" and not case.mnemonic.endswith("sub"):
        return 1 if suffix == "b" else 2
    number = 1 if case.mnemonic.startswith(("stxr", "stlxr")) else 0
    return 4 if instruction.reg_name(instruction.operands[number].reg)[0] == "w" else 8
