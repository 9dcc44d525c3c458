# SPDX-License-Identifier: GPL-2.0-or-later
"""The rounds: each runs both variants with the same seed, one directly after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, Protocol

from harness.compare.judge import Comparison, Pair
from harness.compare.measure import Measurement

Role = Literal["base", "candidate"]
_RETRIES = 2  # of a run with a lab fault
_FIRST_LOOK = 5  # rounds after which it is decided for the first time how many more there are


class RunVariant(Protocol):
    """Runs one variant once; ``attempt`` counts the retries, from 0."""

    def __call__(self, role: Role, seed: int, attempt: int, /) -> Measurement: ...


def run_rounds(
    run: RunVariant, *, count: int, seed: int, notice: Callable[[str], None]
) -> Iterator[Pair]:
    """Yield up to ``count`` pairs of base and candidate, each run with one seed.

    The seeds are ``seed``, ``seed`` + 1 and so on.  Base and candidate take turns to be first,
    so that a machine that becomes slower favours neither.  A run with a lab fault is retried;
    if that does not help, its round is left out.
    """
    for number in range(count):
        notice(f"-- round {number + 1}, of {count} at most")
        order: tuple[Role, Role] = ("base", "candidate")
        if number % 2:
            order = ("candidate", "base")
        measured = {role: _run(run, role, seed + number, notice) for role in order}
        base, candidate = measured["base"], measured["candidate"]
        if base is not None and candidate is not None:
            yield base, candidate
        else:
            notice(f"round {number + 1} is left out: the lab failed")


def until_settled(
    pairs: Iterable[Pair],
    judge: Callable[[list[Pair]], Comparison],
    *,
    most: int,
    notice: Callable[[str], None],
) -> Iterator[tuple[list[Pair], Comparison]]:
    """After each pair, yield all pairs so far and the verdict on them; end when it is settled.

    If the end were considered after each pair, chance would settle it sooner or later.  So that
    happens after five pairs, and then after as many as these say are needed, ``most`` at the
    most.  A failure of Xen ends it at once.
    """
    pairs_so_far: list[Pair] = []
    look = min(_FIRST_LOOK, most)
    for pair in pairs:
        pairs_so_far.append(pair)
        comparison = judge(pairs_so_far)
        yield pairs_so_far, comparison
        if pair[0].failed or pair[1].failed:
            return
        if len(pairs_so_far) < look:
            continue
        if comparison.settled:
            return
        look = max(len(pairs_so_far) + 1, min(comparison.rounds_needed or most, most))
        if len(pairs_so_far) < most:
            notice(f"-- {comparison.summary}")


def _run(
    run: RunVariant, role: Role, seed: int, notice: Callable[[str], None]
) -> Measurement | None:
    for attempt in range(1 + _RETRIES):
        measurement = run(role, seed, attempt)
        if not measurement.fault:
            return measurement
        notice(f"{role}, seed {seed}: {measurement.fault}")
    return None
