"""The rounds: both variants with the same seed, close together in time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, Protocol

from harness.compare.judge import Comparison, Pair
from harness.compare.measure import Measurement

Role = Literal["base", "candidate"]
_RETRIES = 2  # more tries of a run that the lab spoilt
_FIRST_LOOK = 5  # pairs


class RunVariant(Protocol):
    """Runs one side once."""

    def __call__(self, role: Role, seed: int, attempt: int, /) -> Measurement: ...


def run_rounds(
    run: RunVariant, *, count: int, seed: int, notice: Callable[[str], None]
) -> Iterator[Pair]:
    """Yield up to ``count`` pairs of base and candidate, each of one seed.

    Who is first alternates, so that a machine that grows slower favours nobody.  A round in
    which the lab failed is left out, after it was tried again.
    """
    for number in range(count):
        notice(f"-- round {number + 1}, of {count} at most")
        order: tuple[Role, Role] = ("base", "candidate")
        if number % 2:
            order = ("candidate", "base")
        seen = {role: _run(run, role, seed + number, notice) for role in order}
        base, candidate = seen["base"], seen["candidate"]
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
    """Yield what is there and what it comes to, after each pair, until more pairs change nothing.

    Who looks after each pair finds what chance offers one day.  So it is looked after five of
    them, and then when those say that it will do, up to ``most``; a failure of Xen ends it.
    """
    seen: list[Pair] = []
    look = min(_FIRST_LOOK, most)
    for pair in pairs:
        seen.append(pair)
        now = judge(seen)
        yield seen, now
        if pair[0].failed or pair[1].failed:
            return
        if len(seen) < look:
            continue
        if now.settled:
            return
        look = max(len(seen) + 1, min(now.rounds_needed or most, most))
        if len(seen) < most:
            notice(f"-- {now.summary}")


def _run(
    run: RunVariant, role: Role, seed: int, notice: Callable[[str], None]
) -> Measurement | None:
    for attempt in range(1 + _RETRIES):
        seen = run(role, seed, attempt)
        if not seen.fault:
            return seen
        notice(f"{role}, seed {seed}: {seen.fault}")
    return None
