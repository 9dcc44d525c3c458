# SPDX-License-Identifier: GPL-2.0-or-later
"""The checker: does the model of the lock and of event channels allow a history?

There is no false alarm as long as the model is right: every claim follows from bounds on the
instant of each operation, and these hold whatever the clocks, the schedulers and the kernels
(whose ports are not recorded) did.  What could not be decided is counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.evidence import Disallowed
from harness.history.check.piece import Piece
from harness.history.check.rules import JudgedPiece
from harness.history.check.scope import Scope, scope_of
from harness.history.check.stream import stream
from harness.history.explain.picture import picture
from harness.history.explain.shrink import shrink
from harness.history.explain.witness import claim, operations, story
from harness.history.format.columns import NEVER, Columns, Int64
from harness.history.format.history import History, ThreadLog
from harness.history.format.parquet import Reader
from harness.verdict import LabError, Verdict

MOST_VIOLATIONS = 100  # reported one by one; the rest is only counted
MOST_SHRUNK = 10  # violations that get a witness
SHRINK_SECONDS = 10.0  # for each


@dataclass(frozen=True)
class Violation:
    """One thing that the model forbids."""

    property: str  # see harness.history.check.rules
    culprit: int  # row of the operation that cannot be explained
    story: str = ""
    operations: tuple[int, ...] = ()  # rows of the witness, in the order of their calls
    html: str = ""  # path of the picture, if one was written
    evidence: Disallowed | None = None  # the witness as a value; None: no witness was made


@dataclass(frozen=True)
class CheckResult:
    """What ``check`` found."""

    verdict: Verdict
    operations: int
    undecided: int  # operations that could not be judged, or only in part
    seconds: float
    violations: tuple[Violation, ...]
    found: int = 0  # violations found, reported or not
    in_flight: tuple[int, ...] = ()  # rows of operations that never returned


def check(history: History | Path, *, html: Path | None = None) -> CheckResult:
    """Check ``history``, or the file that holds one; raise ConfigError when it is malformed.

    ``html``: directory for one page per violation, which shows its operations as a timeline;
    LabError when they cannot be written.
    """
    begun = time.perf_counter()
    if isinstance(history, Path):
        reader = Reader(history)
        head, pieces, ends = reader.head, _read_ahead(reader.pieces()), reader.ends
    else:
        history.validate()
        head, pieces = history, _pieces(history.columns)
        ends = [log.last_ns() for log in history.threads]
    found = _Found(scope_of(head, ends), head.threads, html)
    for judged in stream(pieces, found.scope):
        found.add(judged)
    return found.result(time.perf_counter() - begun)


PIECE = 1 << 19  # operations judged at a time


def _pieces(columns: Columns) -> Iterator[Columns]:
    for start in range(0, len(columns), PIECE):
        yield columns.take(slice(start, start + PIECE))


def _read_ahead(pieces: Iterator[Columns]) -> Iterator[Columns]:
    """Yield ``pieces``; while one is judged, the next one is read."""
    with ThreadPoolExecutor(1, "read") as pool:
        coming = pool.submit(next, pieces, None)
        while (piece := coming.result()) is not None:
            coming = pool.submit(next, pieces, None)
            yield piece


class _Found:
    """What was found in the pieces so far; ``threads`` and ``html`` are those of ``check``."""

    def __init__(self, scope: Scope, threads: tuple[ThreadLog, ...], html: Path | None) -> None:
        self.scope = scope
        self.threads = threads
        self.html = html
        self.operations = 0
        self.undecided: list[Int64] = []
        self.in_flight: list[int] = []
        self.violations: dict[tuple[str, int], Violation] = {}
        self._seen: set[tuple[str, int]] = set()  # what is carried over is judged again

    @property
    def found(self) -> int:
        """How many violations there are."""
        return len(self._seen)

    def add(self, judged: JudgedPiece) -> None:
        """Add one piece; make witnesses while its operations are at hand."""
        columns, first_row = judged.piece.recorded, judged.piece.past.first_row
        new = columns.row >= first_row
        self.operations += int(new.sum())
        self.in_flight += columns.row[new & (columns.ret == NEVER)].tolist()
        findings = judged.findings
        self.undecided.append(findings.undecided[findings.undecided >= first_row])
        self.undecided.append(judged.piece.past.given_up)
        for property_, culprit in sorted(findings.violations, key=lambda v: (v[1], v[0])):
            if (property_, culprit) in self._seen:
                continue
            self._seen.add((property_, culprit))
            if len(self.violations) < MOST_SHRUNK:
                witness = self._witness(judged.piece, property_, culprit)
                self.violations[property_, culprit] = witness
            elif len(self.violations) < MOST_VIOLATIONS:
                self.violations[property_, culprit] = Violation(property_, culprit)

    def result(self, seconds: float) -> CheckResult:
        """Return the whole."""
        verdict = Verdict.FAIL if self.found else Verdict.PASS
        return CheckResult(
            verdict=verdict if self.operations else Verdict.MISS,
            operations=self.operations,
            undecided=len(np.unique(np.concatenate([np.zeros(0, np.int64), *self.undecided]))),
            seconds=seconds,
            violations=tuple(self.violations.values()),
            found=self.found,
            in_flight=tuple(self.in_flight),
        )

    def _witness(self, piece: Piece, property_: str, culprit: int) -> Violation:
        few = shrink(piece, self.scope, property_, culprit, seconds=SHRINK_SECONDS)
        told = story(few, self.scope, self.threads, property_, culprit)
        path = ""
        if self.html is not None:
            path = str(self.html / f"{property_}-{culprit}.html")
            page = picture(few, self.threads, culprit, claim(property_), told)
            _write(Path(path), page)
        rows = tuple(few.row.tolist())
        made = operations(few, self.threads)
        evidence = Disallowed(
            property=property_,
            culprit=dict(zip(rows, made, strict=True)).get(culprit),
            operations=made,
        )
        return Violation(property_, culprit, told, rows, path, evidence)


def _write(path: Path, page: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page)
    except OSError as error:
        what = f"cannot write the witness: {error.strerror or error}"
        raise LabError(what, where=str(path)) from error
