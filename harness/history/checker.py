"""The oracle: whether the model of the lock and of event channels allows a history.

No false alarm is possible as long as the model is right: every claim follows from bounds
on the instant of each operation that hold whatever the clocks, the schedulers and the
kernels (whose ports are not recorded) did.  What could not be settled is counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.evidence import Disallowed
from harness.history.columns import NEVER, Columns, Int64
from harness.history.history import History, ThreadLog
from harness.history.parquet import Reader
from harness.history.picture import picture
from harness.history.scope import Scope, scope
from harness.history.shrink import shrink
from harness.history.stream import Step, stream
from harness.history.witness import claim, operations, story
from harness.verdict import LabError, Verdict

MOST_VIOLATIONS = 100  # reported one by one; the rest is only counted
MOST_SHRUNK = 10  # violations that get a witness
SHRINK_SECONDS = 10.0  # for each


@dataclass(frozen=True)
class Violation:
    """One thing that the model forbids."""

    property: str  # see harness.history.rules
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
    """Check ``history`` (or the file that holds one); ConfigError when it is malformed.

    ``html``: a directory for the violations' timelines.
    """
    begun = time.perf_counter()
    if isinstance(history, Path):
        reader = Reader(history)
        head, pieces, lasts = reader.head, _ahead(reader.pieces()), reader.ends
    else:
        history.validate()
        head, pieces, lasts = (
            history,
            _pieces(history.columns),
            [log.last_ns() for log in history.threads],
        )
    about = scope(head, lasts)
    seen = _Seen()
    for step in stream(pieces, about):
        seen.add(step, about, head.threads, html)
    return seen.result(time.perf_counter() - begun)


PIECE = 1 << 19  # operations judged at a time


def _pieces(columns: Columns) -> Iterator[Columns]:
    for start in range(0, len(columns), PIECE):
        yield columns.take(slice(start, start + PIECE))


def _ahead(pieces: Iterator[Columns]) -> Iterator[Columns]:
    """Yield ``pieces``, reading the next one while one is judged."""
    with ThreadPoolExecutor(1, "read") as pool:
        coming = pool.submit(next, pieces, None)
        while (piece := coming.result()) is not None:
            coming = pool.submit(next, pieces, None)
            yield piece


class _Seen:
    """What was found so far."""

    def __init__(self) -> None:
        self.operations = 0
        self.unsettled: list[Int64] = []
        self.in_flight: list[int] = []
        self.violations: dict[tuple[str, int], Violation] = {}
        self.found = 0

    def add(
        self, step: Step, about: Scope, threads: tuple[ThreadLog, ...], html: Path | None
    ) -> None:
        """Add one piece; make witnesses while its operations are at hand."""
        new = step.columns.row >= step.fresh
        self.operations += int(new.sum())
        self.in_flight += step.columns.row[new & (step.columns.ret == NEVER)].tolist()
        found = step.piece.found
        self.unsettled.append(found.undecided[found.undecided >= step.fresh])
        for property_, culprit in sorted(found.violations, key=lambda v: (v[1], v[0])):
            if (property_, culprit) in self.violations:
                continue
            self.found += 1
            if len(self.violations) < MOST_SHRUNK:
                witness = _witness(step, about, threads, property_, culprit, html)
                self.violations[property_, culprit] = witness
            elif len(self.violations) < MOST_VIOLATIONS:
                self.violations[property_, culprit] = Violation(property_, culprit)

    def result(self, seconds: float) -> CheckResult:
        """Return the whole."""
        verdict = Verdict.FAIL if self.found else Verdict.PASS
        return CheckResult(
            verdict=verdict if self.operations else Verdict.MISS,
            operations=self.operations,
            undecided=len(np.unique(np.concatenate([np.zeros(0, np.int64), *self.unsettled]))),
            seconds=seconds,
            violations=tuple(self.violations.values()),
            found=self.found,
            in_flight=tuple(self.in_flight),
        )


def _witness(
    step: Step,
    about: Scope,
    threads: tuple[ThreadLog, ...],
    property_: str,
    culprit: int,
    html: Path | None,
) -> Violation:
    few = shrink(step.columns, about, property_, culprit, past=step.past, seconds=SHRINK_SECONDS)
    told = story(few, about, threads, property_, culprit)
    path = ""
    if html is not None:
        path = str(_draw(few, threads, property_, culprit, told, html))
    rows = tuple(few.row.tolist())
    made = operations(few, threads)
    evidence = Disallowed(
        property=property_,
        culprit=dict(zip(rows, made, strict=True)).get(culprit),
        operations=made,
    )
    return Violation(property_, culprit, told, rows, path, evidence)


def _draw(
    few: Columns,
    threads: tuple[ThreadLog, ...],
    property_: str,
    culprit: int,
    told: str,
    folder: Path,
) -> Path:
    path = folder / f"{property_}-{culprit}.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(picture(few, threads, culprit, claim(property_), told))
    except OSError as error:
        what = f"cannot write the witness: {error.strerror or error}"
        raise LabError(what, where=str(path)) from error
    return path
