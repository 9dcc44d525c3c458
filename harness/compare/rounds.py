"""The rounds: both sides with the same seed, close together in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, Protocol

from harness.compare.measure import Measured

Which = Literal["base", "candidate"]
_AGAIN = 2  # more tries of a run that the lab spoilt


class Run(Protocol):
    """Runs one side once."""

    def __call__(self, which: Which, seed: int, attempt: int, /) -> Measured: ...


def rounds(
    run: Run, *, count: int, seed: int, notice: Callable[[str], None]
) -> Iterator[tuple[Measured, Measured]]:
    """Yield up to ``count`` pairs of base and candidate, each of one seed.

    Who is first alternates, so that a machine that grows slower favours nobody.  A round in
    which the lab failed is left out, after it was tried again.
    """
    for number in range(count):
        order: tuple[Which, Which] = ("base", "candidate")
        if number % 2:
            order = ("candidate", "base")
        seen = {which: _run(run, which, seed + number, notice) for which in order}
        base, candidate = seen["base"], seen["candidate"]
        if base is not None and candidate is not None:
            yield base, candidate
        else:
            notice(f"round {number + 1} is left out: the lab failed")


def _run(run: Run, which: Which, seed: int, notice: Callable[[str], None]) -> Measured | None:
    for attempt in range(1 + _AGAIN):
        seen = run(which, seed, attempt)
        if not seen.fault:
            return seen
        notice(f"{which}, seed {seed}: {seen.fault}")
    return None
