# SPDX-License-Identifier: GPL-2.0-or-later
"""One night, read from the store: all reports are made from this value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from harness.nightly.detect import Finding, read_findings
from harness.nightly.schema import Attempt, CellRow, Night, TestRow
from harness.nightly.store import Store
from harness.verdict import EXIT_FAIL, SEVERITY, Verdict, combine, exit_code


@dataclass(frozen=True)
class NightReport:
    """A night, its cells with their tests, and its findings."""

    night: Night
    cells: tuple[CellRow, ...]
    tests: dict[int, list[TestRow]]  # by cell
    attempts: tuple[Attempt, ...]
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """The verdict of the night; as long as it has not ended, that of its cells so far, and MISS
        at best."""
        if self.night.ended is not None:
            return Verdict(self.night.verdict)
        return combine([Verdict.MISS, *(Verdict(cell.verdict) for cell in self.done)])

    @property
    def done(self) -> list[CellRow]:
        """The cells that were run."""
        return [cell for cell in self.cells if cell.state == "done"]

    @property
    def left(self) -> list[CellRow]:
        """The cells that were not run, or not yet."""
        return [cell for cell in self.cells if cell.state != "done"]

    @property
    def started(self) -> datetime:
        """When it began, UTC."""
        return datetime.fromtimestamp(self.night.started, UTC)

    @property
    def seconds(self) -> float:
        """How long it took, or has taken so far."""
        ends = (attempt.ended for attempt in self.attempts if attempt.ended is not None)
        return (self.night.ended or max(ends, default=self.night.started)) - self.night.started

    @property
    def exit_code(self) -> int:
        """That of the verdict; 1 also if Xen became slower tonight."""
        slower = any(f.is_new and f.judgement.kind == "slower" for f in self.findings)
        code = exit_code(self.verdict)
        return EXIT_FAIL if slower else code


def read_night(store: Store, night: Night) -> NightReport:
    """Return the report of ``night``."""
    cells = store.cells(night.id)
    return NightReport(
        night=night,
        cells=tuple(cells),
        tests=store.tests_of(night.id),
        attempts=tuple(store.attempts(night.id)),
        findings=tuple(read_findings(store, night)),
    )


def count_verdicts(cells: Iterable[CellRow]) -> dict[str, int]:
    """Return the number of cells with each verdict, the worst first; ``left``: without one."""
    listed = list(cells)
    counts: dict[str, int] = {
        str(verdict): sum(cell.state == "done" and cell.verdict == verdict for cell in listed)
        for verdict in SEVERITY
    }
    counts["left"] = sum(cell.state != "done" for cell in listed)
    return {name: count for name, count in counts.items() if count}


def duration(seconds: float) -> str:
    """Return ``seconds`` as text: 12 s, 3 min, 1 h 20 min."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, rest = divmod(timedelta(seconds=round(seconds)), timedelta(hours=1))
    minutes = rest // timedelta(minutes=1)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
