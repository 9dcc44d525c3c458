"""Traces as text: one line a step, and what a crowd of threads repeats told once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.model.explore.search import Move

_LONGEST = 6  # steps in a block that may be told once
_CROWD = 4  # from so many repetitions


def story(moves: Sequence[Move]) -> tuple[str, ...]:
    """Return numbered lines: who does which access, the variables after it, where in Xen."""
    return tuple(_tell(moves))


def _tell(moves: Sequence[Move]) -> Iterator[str]:
    signatures = [(_role(move.thread), move.step, move.access, move.then) for move in moves]
    at = 0
    while at < len(moves):
        length, times = _repetition(signatures[at:])
        block = moves[at + length * (times - 1) : at + length * times]
        if times > 1:
            first, last = moves[at].thread, block[0].thread
            yield f"      {times} times, {first} to {last}, the last time:"
        for number, move in enumerate(block, at + length * (times - 1) + 1):
            yield f"{number:4}. {_line(move)}"
        at += length * times


def _repetition(signatures: Sequence[tuple[str, ...]]) -> tuple[int, int]:
    """Return the block at the front that covers most by repeating: its length, how often."""
    best = (1, 1)
    for length in range(1, _LONGEST + 1):
        times = 1
        while signatures[:length] == signatures[times * length : (times + 1) * length]:
            times += 1
        if times >= _CROWD and times * length > best[0] * best[1]:
            best = (length, times)
    return best


def _role(thread: str) -> str:
    name, _, number = thread.rpartition(" ")
    return name if number.isdigit() else thread


def _line(move: Move) -> str:
    values = " ".join(f"{name}={value}" for name, value in move.values)
    arrow = f" -> {move.then}" if move.then else ""
    return f"{move.thread}: {move.access}{arrow}  [{values}]  {move.xen}"
