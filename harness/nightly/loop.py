"""A night: every cell of the plan is run, in an order that makes the most of the time.

The store is written before and after every run.  A night that was stopped, in whatever
way, goes on with the next call: runs that had ended are kept, the others begin again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Protocol

from harness.config.nightly import Cell, NightlyPlan
from harness.nightly.detect import detect_findings
from harness.nightly.outcome import RunOutcome, is_finished, read_outcome
from harness.nightly.schedule import BROKEN_AFTER, WaitingCell, next_cell
from harness.nightly.schema import Attempt, Cause, CellKey, CellRow, Night
from harness.nightly.store import Store
from harness.verdict import HarnessError, Verdict, combine

_STOPPED = RunOutcome(Verdict.MISS, "the nightly was stopped", cause=Cause.STOPPED)


class Runner(Protocol):
    """One run of ``cell``, which leaves its results in directory ``out``.

    It has ``seconds``, and ends early and cleanly once ``stop`` is set.  Raises a HarnessError
    for what kept the run from telling its own story: LabError where nothing was learnt.
    """

    def __call__(self, cell: Cell, out: Path, seconds: float, stop: Event, /) -> None: ...


Notice = Callable[[str], None]


def plan_digest(plan: NightlyPlan) -> str:
    """Return a digest of what ``plan`` asks for: its cells, not its comments."""
    parts = [
        [part.model_dump(mode="json") for part in (cell.host, cell.xen, cell.suite)]
        for cell in plan.cells()
    ]
    text = json.dumps([parts, plan.budget_hours, plan.retries])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def open_night(plan: NightlyPlan, store: Store, notice: Notice, *, resume: bool) -> Night | None:
    """Return the night to work on: the one that was stopped, if the plan is the same and there
    is time left, else a new one (None with ``resume``).  Others that were stopped are closed."""
    for night in store.unfinished():
        if night.plan == plan_digest(plan) and time.time() < night.deadline:
            notice(f"going on with night {night.id}")
            _resolve_interrupted(store, night)
            return night
        _resolve_interrupted(store, night)
        is_late = time.time() >= night.deadline
        _end_night(
            store, night, f"stopped, and {'no time left' if is_late else 'the plan is another'}"
        )
    if resume:
        return None
    keys = (cell.key for cell in plan.cells())
    return store.begin_night(plan_digest(plan), keys, time.time(), plan.budget_hours * 3600)


def _resolve_interrupted(store: Store, night: Night) -> None:
    """Decide about the runs that were going on when ``night`` was stopped."""
    begun = {cell.id for cell in store.cells(night.id) if cell.state == "running"}
    for attempt in store.attempts(night.id):
        if attempt.cell in begun and attempt.ended is None:
            _end_interrupted(store, attempt)


def _end_interrupted(store: Store, attempt: Attempt) -> None:
    """Write down a run that was stopped, or whose end nobody noticed: what it had found out
    about Xen counts, else the cell waits again."""
    outcome = read_outcome(store.home / attempt.run)
    if is_finished(store.home / attempt.run) and outcome.verdict is not Verdict.MISS:
        store.end_attempt(attempt, outcome, state="done")
    else:
        store.end_attempt(attempt, _STOPPED, state="waiting")


def _end_night(store: Store, night: Night, why: str) -> Verdict:
    """End ``night``; cells that still wait are left for ``why``."""
    waiting = [cell for cell in store.cells(night.id) if cell.state == "waiting"]
    _leave(store, night, waiting, why)
    detect_findings(store, night)
    done = [cell for cell in store.cells(night.id) if cell.state == "done"]
    verdict = combine(Verdict(cell.verdict) for cell in done)
    store.end_night(night.id, verdict, why if waiting else "")
    return verdict


def _leave(store: Store, night: Night, cells: Sequence[CellRow], why: str) -> None:
    """Leave ``cells`` for ``why``; one that the lab has failed already keeps that result."""
    tried = {a.cell: a for a in store.attempts(night.id) if a.cause != Cause.STOPPED}
    for cell in cells:
        if attempt := tried.get(cell.id):
            told = Verdict(attempt.verdict), attempt.message
            outcome = read_outcome(store.home / attempt.run)
            outcome = replace(outcome, verdict=told[0], message=told[1])
            store.end_attempt(attempt, outcome, state="done")
    store.leave([cell for cell in cells if cell.id not in tried], why)


def run_night(
    plan: NightlyPlan, night: Night, store: Store, runner: Runner, *, parallel: int, notice: Notice
) -> Verdict:
    """Run what ``night`` still has to run, ``parallel`` cells at a time; work out what it found;
    return its verdict.

    On KeyboardInterrupt the runs are ended and written down as not having been: the next
    call begins them again.
    """
    runs = _NightRuns(plan, night, store, runner, notice)
    with ThreadPoolExecutor(parallel, "run") as pool:
        try:
            while runs.start(pool, parallel) or runs.running:
                runs.collect()
        except BaseException:
            runs.stop()
            raise
    return _end_night(store, night, "no time left")


@dataclass
class _NightRuns:
    """The runs of one night, as they begin and end."""

    plan: NightlyPlan
    night: Night
    store: Store
    runner: Runner
    notice: Notice
    running: dict[Future[None], tuple[WaitingCell, Attempt]] = field(default_factory=dict)
    _stop: Event = field(default_factory=Event)
    _faults: dict[str, int] = field(default_factory=dict)  # by host: lab faults in a row
    _cells: dict[CellKey, Cell] = field(init=False)
    _last: dict[CellKey, tuple[str, float]] = field(init=False)

    def __post_init__(self) -> None:
        self._cells = {cell.key: cell for cell in self.plan.cells()}
        self._last = self.store.last_runs()

    def start(self, pool: ThreadPoolExecutor, parallel: int) -> bool:
        """Begin as many runs as there is room for; return whether any began."""
        began = False
        while len(self.running) < parallel:
            busy = {waiting.cell.host.name for waiting, _ in self.running.values()}
            left = self.night.deadline - time.time()
            chosen = next_cell(self._waiting(), busy, self._last, left)
            if chosen is None:
                break
            attempt = self.store.begin_attempt(chosen.row)
            self.notice(f"{_cell_name(chosen.row)}: begins")
            out = self.store.home / attempt.run
            seconds = min(left, chosen.cell.suite.timeout_minutes * 60)
            future = pool.submit(self.runner, chosen.cell, out, seconds, self._stop)
            self.running[future] = chosen, attempt
            began = True
        return began

    def _waiting(self) -> list[WaitingCell]:
        counts: dict[int, int] = {}
        for attempt in self.store.attempts(self.night.id):
            stopped = attempt.cause == Cause.STOPPED  # that was no fault of the lab's
            counts[attempt.cell] = counts.get(attempt.cell, 0) + (not stopped)
        return [
            WaitingCell(row, self._cells[row.key], counts.get(row.id, 0))
            for row in self.store.cells(self.night.id)
            if row.state == "waiting"
        ]

    def collect(self) -> None:
        """Wait for a run to end, and write down what came of it."""
        if not self.running:
            return
        ended, _ = wait(self.running, return_when=FIRST_COMPLETED)
        for future in ended:
            waiting, attempt = self.running.pop(future)
            error = future.exception()
            if error is not None and not isinstance(error, HarnessError):
                raise error
            outcome = read_outcome(self.store.home / attempt.run, error)
            self._judge(waiting, attempt, outcome)

    def _judge(self, waiting: WaitingCell, attempt: Attempt, outcome: RunOutcome) -> None:
        is_fault = outcome.verdict is Verdict.MISS
        if is_fault and time.time() >= self.night.deadline:  # we ended it: no fault of the lab's
            self.store.end_attempt(attempt, _STOPPED, state="waiting")
            return
        host = waiting.cell.host.name
        self._faults[host] = self._faults.get(host, 0) + 1 if is_fault else 0
        again = is_fault and waiting.attempts < self.plan.retries
        again = again and self._faults[host] < BROKEN_AFTER
        self.store.end_attempt(attempt, outcome, state="waiting" if again else "done")
        self.notice(
            f"{_cell_name(waiting.row)}: {outcome.verdict} {outcome.message}".rstrip()
            + "; once more" * again
        )
        if self._faults[host] == BROKEN_AFTER:
            rest = [w.row for w in self._waiting() if w.cell.host.name == host]
            why = f"{host} failed {BROKEN_AFTER} times in a row: {outcome.message}"
            _leave(self.store, self.night, rest, why)
            self.notice(f"{why}; {len(rest)} cells left")

    def stop(self) -> None:
        """End the runs that go on, and write them down."""
        self._stop.set()
        wait(self.running)
        for _, attempt in self.running.values():
            _end_interrupted(self.store, attempt)


def _cell_name(row: CellRow) -> str:
    return " ".join(row.key)
