# SPDX-License-Identifier: GPL-2.0-or-later
"""What became of a mutation, and the table of all of them."""

from __future__ import annotations

import random
import signal
import time
import traceback
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from types import FrameType

from harness.shown import printable
from harness.verdict import HarnessError
from tests.fuzz.mutations import mutate
from tests.fuzz.readers import Reader

SECONDS = 8.0  # of the CPU, that one input may take


class Outcome(StrEnum):
    """Of one input."""

    SAME = "right"  # the same answer as for the original
    WARNED = "warned"  # an answer, and what of the input was not read
    ERROR = "error"  # one line a problem, which a person can act on
    OTHER = "other"  # another answer: nobody can know that the input was another one
    SILENT = "SILENT"  # another answer, although the input has a checksum
    TRACEBACK = "TRACEBACK"
    HANG = "HANG"


BAD = (Outcome.SILENT, Outcome.TRACEBACK, Outcome.HANG)


@dataclass
class Row:
    """The outcomes of one reader."""

    reader: Reader
    counts: Counter[Outcome] = field(default_factory=Counter)
    slowest: float = 0.0  # seconds
    bad: list[str] = field(default_factory=list)  # what to do to see it again


def attack(reader: Reader, truth: object, seed: int) -> tuple[Outcome, str]:
    """Give ``reader`` mutation ``seed`` of its original; return the outcome, and a note on it."""
    change, data = mutate(reader.original, random.Random(f"{reader.name} {seed}"))
    try:
        with _at_most(SECONDS):
            answer, warnings = reader.read(data)
    except HarnessError as error:
        lines = str(error).splitlines()
        told = bool(lines) and all(line.strip() and len(line) < 2000 for line in lines)
        return (Outcome.ERROR if told else Outcome.TRACEBACK), f"{change}: {str(error)[:300]!r}"
    except _TooLong:
        return Outcome.HANG, f"{change}: more than {SECONDS} s"
    except BaseException:
        return Outcome.TRACEBACK, f"{change}: {traceback.format_exc()}"
    if warnings:
        return Outcome.WARNED, change
    if answer == truth or reader.is_right(answer):
        return Outcome.SAME, change
    return (Outcome.SILENT if reader.sealed else Outcome.OTHER), f"{change}: {str(answer)[:300]}"


def attack_all(readers: Sequence[Reader], mutations: int) -> list[Row]:
    """Make ``mutations`` altogether, of each reader as many as its weight says, at least one."""
    total = sum(reader.weight for reader in readers)
    rows = []
    for reader in readers:
        truth, warnings = reader.read(reader.original)
        assert not warnings, (reader.name, warnings)
        row = Row(reader)
        for seed in range(max(1, round(mutations * reader.weight / total))):
            began = time.monotonic()
            outcome, note = attack(reader, truth, seed)
            row.slowest = max(row.slowest, time.monotonic() - began)
            row.counts[outcome] += 1
            if outcome in BAD:
                row.bad.append(f"{reader.name}, seed {seed}: {outcome}: {note}")
        rows.append(row)
    return rows


def table(rows: Sequence[Row]) -> str:
    """Return the table of outcomes, for people."""
    heads = ["reader", "inputs", *Outcome, "slowest"]
    body = [
        [
            row.reader.name + ("" if row.reader.sealed else " *"),
            str(row.counts.total()),
            *(str(row.counts[outcome] or "") for outcome in Outcome),
            f"{row.slowest:.2f} s",
        ]
        for row in rows
    ]
    every = sum((row.counts for row in rows), Counter[Outcome]())
    body.append(
        ["all", str(every.total()), *(str(every[outcome] or "") for outcome in Outcome), ""]
    )
    widths = [max(len(line[at]) for line in [heads, *body]) for at in range(len(heads))]
    lines = [
        "  ".join(
            word.ljust(width) if at == 0 else word.rjust(width)
            for at, (word, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in [heads, *body]
    ]
    return printable("\n".join([*lines, "* has no checksum: another text is another answer"]))


class _TooLong(BaseException):
    """No ``except Exception`` in the product shall catch it."""


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    with limited(seconds, _TooLong()):
        yield


@contextmanager
def memory(mebibytes: float) -> Iterator[None]:
    """Fail if Python objects of the block take more memory at any moment."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < mebibytes * (1 << 20), f"{peak / (1 << 20):.1f} MiB"


@contextmanager
def limited(seconds: float, error: BaseException) -> Iterator[None]:
    """Raise ``error`` if the block takes ``seconds`` of the CPU, or, as it may only wait, ten times
    as long: other programs of the computer do not count."""

    def over(_signal: int, _frame: FrameType | None) -> None:
        raise error

    timers = ((signal.SIGPROF, signal.ITIMER_PROF, 1), (signal.SIGALRM, signal.ITIMER_REAL, 10))
    before = [signal.signal(number, over) for number, *_ in timers]
    for _, timer, times in timers:
        signal.setitimer(timer, times * seconds)
    try:
        yield
    finally:
        for (number, timer, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)
