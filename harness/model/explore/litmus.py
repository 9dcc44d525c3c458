# SPDX-License-Identifier: GPL-2.0-or-later
"""Litmus tests: the table from the literature that the memory models have to reproduce.

Each test is a small program and one outcome, and asks whether the outcome can be observed.  The
expected answers are those of the literature:

- SC: Lamport 1979; no interleaving gives any outcome of this table.
- TSO: Owens, Sarkar, Sewell, "A better x86 memory model: x86-TSO" (TPHOLs 2009), and Intel SDM
  vol. 3A section 8.2: only a store followed by a load of another word may be reordered.
- ARM: Maranget, Sarkar, Sewell, "A tutorial introduction to the ARM and POWER relaxed memory
  models" (2012), with Armv8's multi-copy atomicity as in Pulte et al. (POPL 2018) and the Arm
  Architecture Reference Manual, section B2.3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.model.explore.formula import FormulaError, check, compile_numpy
from harness.model.explore.memory_model import MemoryModel
from harness.model.explore.program import (
    AccessKind,
    AtomicStep,
    Branch,
    Fence,
    Program,
    ProgramError,
    Role,
    System,
    Variable,
)
from harness.model.explore.weak_memory import explore_weak

SC, TSO, ARM = MemoryModel.SC, MemoryModel.TSO, MemoryModel.ARM


@dataclass(frozen=True)
class Litmus:
    """One test: threads, an outcome, and the memory models under which it can be observed."""

    name: str
    threads: tuple[tuple[AtomicStep, ...], ...]
    outcome: str  # formula over the registers r1, r2, ... and the final values of x, y
    allowed: frozenset[MemoryModel]
    source: str

    def __post_init__(self) -> None:
        steps = [step for thread in self.threads for step in thread]
        names = {step.word for step in steps} | {step.observe for step in steps if step.observe}
        try:
            check(self.outcome, names)
        except FormulaError as error:
            raise ProgramError(f"litmus test {self.name}: outcome {error}") from error


def write(word: str, value: int, after_value_of: str = "") -> AtomicStep:
    """Return a store; its value is computed from the one that ``after_value_of`` has read."""
    branch = Branch("", "", sets=((word, value),))
    needs = (f"R{after_value_of}",) if after_value_of else ()
    return AtomicStep(
        f"W{word}{value}", AccessKind.STORE, word, (branch,), "", after_value_of=needs
    )


def read(word: str, register: str, after_value_of: str = "", decides: bool = False) -> AtomicStep:
    """Return a read into ``register``.

    Its address is computed from the value that ``after_value_of`` has read.  With ``decides``,
    the thread goes on only if the value read is 1: a control dependency.
    """
    branch = Branch(f"{word} == 1" if decides else "", "")
    needs = (f"R{after_value_of}",) if after_value_of else ()
    return AtomicStep(
        f"R{register}", AccessKind.LOAD, word, (branch,), "", observe=register, after_value_of=needs
    )


def fenced(step: AtomicStep, fence: Fence = Fence.FULL) -> AtomicStep:
    """Return the step with a barrier after it."""
    return replace(step, after=fence)


def marked(step: AtomicStep, how: str) -> AtomicStep:
    """Return the step as an ``acquire`` read or a ``release`` store."""
    return replace(step, tags=(how,))


def is_observable(test: Litmus, memory: MemoryModel) -> bool:
    """Say whether the outcome of ``test`` can be observed under ``memory``."""
    explored = explore_weak(_system(test), memory)
    holds = compile_numpy(test.outcome)
    for ending in explored.endings:
        names = dict(ending.memory)
        for _, registers in ending.registers:
            names.update(registers)
        if holds(names):
            return True
    return False


def _system(test: Litmus) -> System:
    words = sorted({step.word for thread in test.threads for step in thread})
    roles = tuple(
        Role(_program(f"P{number}", thread), 1) for number, thread in enumerate(test.threads)
    )
    return System(test.name, roles, tuple(Variable(word) for word in words))


def _program(name: str, steps: tuple[AtomicStep, ...]) -> Program:
    following = [*(step.name for step in steps[1:]), steps[0].name]
    return Program(
        name,
        tuple(
            replace(step, branches=(replace(step.branches[0], then=then),))
            for step, then in zip(steps, following, strict=True)
        ),
    )


_NONE = frozenset[MemoryModel]()
_WEAK = frozenset((TSO, ARM))
_ARM = frozenset((ARM,))
_F, _R, _W = Fence.FULL, Fence.READ, Fence.WRITE
_X1, _X2, _Y1, _Y2 = write("x", 1), write("x", 2), write("y", 1), write("y", 2)
_SDM = "Intel SDM 3A 8.2.3"
_TUT = "Maranget, Sarkar, Sewell 2012"
_POP = "Pulte et al. 2018"


def _sb(
    name: str, first: AtomicStep, second: AtomicStep, allowed: frozenset[MemoryModel]
) -> Litmus:
    threads = ((first, read("y", "r1")), (second, read("x", "r2")))
    return Litmus(name, threads, "r1 == 0 and r2 == 0", allowed, f"{_SDM}.4, {_TUT} 3.3")


def _mp(
    name: str,
    writes: tuple[AtomicStep, AtomicStep],
    reads: tuple[AtomicStep, AtomicStep],
    allowed: frozenset[MemoryModel],
) -> Litmus:
    return Litmus(
        name, (writes, reads), "r1 == 1 and r2 == 0", allowed, f"{_SDM}.2, {_TUT} 3.1-3.2, {_POP}"
    )


def _two(
    name: str,
    threads: tuple[tuple[AtomicStep, ...], ...],
    outcome: str,
    allowed: frozenset[MemoryModel],
    source: str = f"{_TUT} 6, {_POP}",
) -> Litmus:
    return Litmus(name, threads, outcome, allowed, source)


_RY, _RX = read("y", "r1"), read("x", "r2")
_LB = "r1 == 1 and r2 == 1"
_LX, _LY = read("x", "r1"), read("y", "r2")
_S = "r1 == 1 and x == 2"
_R_OUT = "y == 2 and r1 == 0"
_IRIW = "r1 == 1 and r2 == 0 and r3 == 1 and r4 == 0"


def _iriw(name: str, fence: Fence, dependency: bool, allowed: frozenset[MemoryModel]) -> Litmus:
    def reads(one: str, first: str, other: str, second: str) -> tuple[AtomicStep, ...]:
        late = read(other, second, first if dependency else "")
        return (fenced(read(one, first), fence), late)

    threads = ((_X1,), (_Y1,), reads("x", "r1", "y", "r2"), reads("y", "r3", "x", "r4"))
    return Litmus(name, threads, _IRIW, allowed, f"{_SDM}.6-7, {_POP}")


LITMUS_TESTS: tuple[Litmus, ...] = (
    _sb("SB", _X1, _Y1, _WEAK),
    _sb("SB+mb+po", fenced(_X1), _Y1, _WEAK),
    _sb("SB+mbs", fenced(_X1), fenced(_Y1), _NONE),
    _sb("SB+wmbs", fenced(_X1, _W), fenced(_Y1, _W), _WEAK),
    _mp("MP", (_X1, _Y1), (_RY, _RX), _ARM),
    _mp("MP+mb+po", (fenced(_X1), _Y1), (_RY, _RX), _ARM),
    _mp("MP+po+mb", (_X1, _Y1), (fenced(_RY), _RX), _ARM),
    _mp("MP+mbs", (fenced(_X1), _Y1), (fenced(_RY), _RX), _NONE),
    _mp("MP+wmb+rmb", (fenced(_X1, _W), _Y1), (fenced(_RY, _R), _RX), _NONE),
    _mp("MP+wmb+addr", (fenced(_X1, _W), _Y1), (_RY, read("x", "r2", "r1")), _NONE),
    _mp("MP+wmb+ctrl", (fenced(_X1, _W), _Y1), (read("y", "r1", decides=True), _RX), _ARM),
    _mp(
        "MP+rel+acq",
        (_X1, marked(_Y1, "release")),
        (marked(_RY, "acquire"), _RX),
        _NONE,
    ),
    _mp("MP+rel+po", (_X1, marked(_Y1, "release")), (_RY, _RX), _ARM),
    _two("LB", ((_LX, _Y1), (_LY, _X1)), _LB, _ARM),
    _two("LB+mb+po", ((fenced(_LX), _Y1), (_LY, _X1)), _LB, _ARM),
    _two("LB+mbs", ((fenced(_LX), _Y1), (fenced(_LY), _X1)), _LB, _NONE),
    _two("LB+rmbs", ((fenced(_LX, _R), _Y1), (fenced(_LY, _R), _X1)), _LB, _NONE),
    _two("LB+datas", ((_LX, write("y", 1, "r1")), (_LY, write("x", 1, "r2"))), _LB, _NONE),
    _two(
        "LB+ctrls",
        ((read("x", "r1", decides=True), _Y1), (read("y", "r2", decides=True), _X1)),
        _LB,
        _NONE,
    ),
    _two(
        "LB+addr-po+data",
        (
            (read("x", "r1"), read("z", "r3", "r1"), _Y1),
            (read("y", "r2"), write("x", 1, "r2")),
        ),
        _LB,
        _NONE,
    ),
    _two(
        "LB+data-rfi-data+data",
        (
            (read("x", "r1"), write("z", 1, "r1"), read("z", "r3"), write("y", 1, "r3")),
            (read("y", "r2"), write("x", 1, "r2")),
        ),
        _LB,
        _NONE,
    ),
    _two("S", ((_X2, _Y1), (_RY, _X1)), _S, _ARM),
    _two("S+mb+po", ((fenced(_X2), _Y1), (_RY, _X1)), _S, _ARM),
    _two("S+mbs", ((fenced(_X2), _Y1), (fenced(_RY), _X1)), _S, _NONE),
    _two("S+wmb+data", ((fenced(_X2, _W), _Y1), (_RY, write("x", 1, "r1"))), _S, _NONE),
    _two("R", ((_X1, _Y1), (_Y2, read("x", "r1"))), _R_OUT, _WEAK),
    _two("R+mb+po", ((fenced(_X1), _Y1), (_Y2, read("x", "r1"))), _R_OUT, _WEAK),
    _two("R+po+mb", ((_X1, _Y1), (fenced(_Y2), read("x", "r1"))), _R_OUT, _ARM),
    _two("R+mbs", ((fenced(_X1), _Y1), (fenced(_Y2), read("x", "r1"))), _R_OUT, _NONE),
    _two("2+2W", ((_X1, _Y2), (_Y1, _X2)), "x == 1 and y == 1", _ARM),
    _two("2+2W+mb+po", ((fenced(_X1), _Y2), (_Y1, _X2)), "x == 1 and y == 1", _ARM),
    _two("2+2W+mbs", ((fenced(_X1), _Y2), (fenced(_Y1), _X2)), "x == 1 and y == 1", _NONE),
    _two("2+2W+wmbs", ((fenced(_X1, _W), _Y2), (fenced(_Y1, _W), _X2)), "x == 1 and y == 1", _NONE),
    _iriw("IRIW", Fence.NONE, False, _ARM),
    _iriw("IRIW+mbs", _F, False, _NONE),
    _iriw("IRIW+rmbs", _R, False, _NONE),
    _iriw("IRIW+addrs", Fence.NONE, True, _NONE),
    _two("CoRR", ((_X1,), (read("x", "r1"), read("x", "r2"))), "r1 == 1 and r2 == 0", _NONE),
    _two(
        "CoRR+mb",
        ((_X1,), (fenced(read("x", "r1")), read("x", "r2"))),
        "r1 == 1 and r2 == 0",
        _NONE,
    ),
    _two("CoWR", ((_X1, read("x", "r1")), (_X2,)), "r1 == 0", _NONE),
    _two(
        "SB+rfis",
        (
            (_X1, read("x", "r3"), read("y", "r1")),
            (_Y1, read("y", "r4"), read("x", "r2")),
        ),
        "r1 == 0 and r2 == 0 and r3 == 1 and r4 == 1",
        _WEAK,
        f"{_SDM}.5: a CPU sees its own store early",
    ),
)
