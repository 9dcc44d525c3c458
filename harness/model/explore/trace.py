# SPDX-License-Identifier: GPL-2.0-or-later
"""Counterexamples: a property that fails, the steps that lead there, and how they are printed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_LONGEST_BLOCK = 6  # steps; a block of at most so many is looked for when a trace is shortened
_MIN_REPEATS = 4  # a block that is repeated less often is printed each time


@dataclass(frozen=True)
class TraceStep:
    """One step of a trace: one thread made one access."""

    thread: str
    step: str  # the name of the program's step
    access: str  # what the thread did to which variable
    xen: str  # the function in Xen, and the operation in it
    then: str  # the step at which the thread is afterwards
    values: tuple[tuple[str, int], ...]  # all variables after the access


@dataclass(frozen=True)
class Counterexample:
    """A property that does not hold, and a shortest trace that shows it."""

    property: str
    trace: tuple[TraceStep, ...]


def trace_lines(trace: Sequence[TraceStep]) -> tuple[str, ...]:
    """Return the trace as text: one numbered line per step.

    A line names the thread, its access, the variables after it, and the place in Xen.  Steps
    that many threads of one program repeat one after the other are printed once, with how often.
    """
    return tuple(_lines(trace))


def _lines(trace: Sequence[TraceStep]) -> Iterator[str]:
    signatures = [(_role(one.thread), one.step, one.access, one.then) for one in trace]
    at = 0
    while at < len(trace):
        length, times = _repetition(signatures[at:])
        block = trace[at + length * (times - 1) : at + length * times]
        if times > 1:
            first, last = trace[at].thread, block[0].thread
            yield f"      {times} times, {first} to {last}, the last time:"
        for number, one in enumerate(block, at + length * (times - 1) + 1):
            yield f"{number:4}. {_line(one)}"
        at += length * times


def _repetition(signatures: Sequence[tuple[str, ...]]) -> tuple[int, int]:
    """Return the block at the front whose repetitions cover most: its length, how often."""
    best = (1, 1)
    for length in range(1, _LONGEST_BLOCK + 1):
        times = 1
        while signatures[:length] == signatures[times * length : (times + 1) * length]:
            times += 1
        if times >= _MIN_REPEATS and times * length > best[0] * best[1]:
            best = (length, times)
    return best


def _role(thread: str) -> str:
    name, _, number = thread.rpartition(" ")
    return name if number.isdigit() else thread


def _line(one: TraceStep) -> str:
    values = " ".join(f"{name}={value}" for name, value in one.values)
    arrow = f" -> {one.then}" if one.then else ""
    return f"{one.thread}: {one.access}{arrow}  [{values}]  {one.xen}"
