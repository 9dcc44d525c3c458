# SPDX-License-Identifier: GPL-2.0-or-later
"""Choose the cell to run next: a pure function of time, store, and durations of earlier runs."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from harness.config.nightly import Cell
from harness.nightly.schema import CellKey, CellRow

_OVERHEAD_SECONDS = 90.0  # guess, for a run without an earlier one: images, boot, domains, end
BROKEN_AFTER = 3  # after so many lab faults in a row, a host is not used any more this night


@dataclass(frozen=True)
class WaitingCell:
    """A cell that is to be run, and how often a run of it was started tonight."""

    row: CellRow
    cell: Cell
    attempts: int


def expected_seconds(cell: Cell, last: Mapping[CellKey, tuple[str, float]]) -> float:
    """Return the seconds that ``cell`` will take: as many as the last time, or a guess."""
    if cell.key in last:
        return last[cell.key][1]
    return cell.suite.duration * cell.suite.repeat + _OVERHEAD_SECONDS


def next_cell(
    waiting: list[WaitingCell],
    busy: Set[str],
    last: Mapping[CellKey, tuple[str, float]],
    seconds_left: float,
) -> WaitingCell | None:
    """Return the cell to run now.  None if no waiting cell has a free host and would end in time.

    The order is: highest priority; fewest attempts tonight; longest time since the last run, so
    that with too small a budget all cells get their turn over several nights; order of the plan.
    A host runs one cell at a time.
    """

    def rank(index: int) -> tuple[int, int, str, int]:
        candidate = waiting[index]
        night, _ = last.get(candidate.cell.key, ("", 0.0))
        return -candidate.cell.priority, candidate.attempts, night, index

    free = (
        index
        for index, candidate in enumerate(waiting)
        if candidate.cell.host.name not in busy
        and expected_seconds(candidate.cell, last) <= seconds_left
    )
    best = min(free, key=rank, default=None)
    return None if best is None else waiting[best]
