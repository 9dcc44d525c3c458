"""Which cell is next.  Pure: the time, the journal and what earlier nights took go in."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from harness.config.nightly import Cell
from harness.nightly.schema import CellKey, CellRow

_OVERHEAD_SECONDS = 90.0  # of a run nobody has timed yet: images, boot, domains, the end
BROKEN_AFTER = 3  # lab faults in a row, after which a host is left alone for the night


@dataclass(frozen=True)
class WaitingCell:
    """A cell that is to be run, and how often it was begun tonight."""

    row: CellRow
    cell: Cell
    attempts: int


def expected_seconds(cell: Cell, last: Mapping[CellKey, tuple[str, float]]) -> float:
    """Return the seconds that ``cell`` will take: what it took last, else a guess."""
    if cell.key in last:
        return last[cell.key][1]
    return cell.suite.duration * cell.suite.repeat + _OVERHEAD_SECONDS


def next_cell(
    waiting: list[WaitingCell],
    busy: Set[str],
    last: Mapping[CellKey, tuple[str, float]],
    seconds_left: float,
) -> WaitingCell | None:
    """Return the cell to run now; None if there is none whose host is free and that would end
    in time.

    The highest priority first; then what has not been tried tonight; then what has not been
    run for the most nights, so that a budget too small for all goes round; then the plan's
    order.  A host runs one cell at a time.
    """

    def place(index: int) -> tuple[int, int, str, int]:
        candidate = waiting[index]
        night, _ = last.get(candidate.cell.key, ("", 0.0))
        return -candidate.cell.priority, candidate.attempts, night, index

    free = (
        index
        for index, candidate in enumerate(waiting)
        if candidate.cell.host.name not in busy
        and expected_seconds(candidate.cell, last) <= seconds_left
    )
    best = min(free, key=place, default=None)
    return None if best is None else waiting[best]
