# SPDX-License-Identifier: GPL-2.0-or-later
"""The loop of a night: run every cell of the plan, the most important ones first.

The store is written before and after every run.  However a night was stopped, the next call
resumes it: runs that had ended are kept, the others are started again.
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
    """Runs ``cell`` once and leaves the results in directory ``out``.

    The run may take ``seconds``; it ends early and cleanly once ``stop`` is set.  HarnessError if
    the run left no complete results; LabError if they say nothing about Xen.
    """

    def __call__(self, cell: Cell, out: Path, seconds: float, stop: Event, /) -> None: ...


Notice = Callable[[str], None]


def plan_digest(plan: NightlyPlan) -> str:
    """Return a digest of the cells, the budget and the retries of ``plan``."""
    parts = [
        [part.model_dump(mode="json") for part in (cell.host, cell.xen, cell.suite)]
        for cell in plan.cells()
    ]
    text = json.dumps([parts, plan.budget_hours, plan.retries])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def open_night(plan: NightlyPlan, store: Store, notice: Notice, *, resume: bool) -> Night | None:
    """Return the night to run.

    That is one that was stopped, if its plan is the same and it has time left; otherwise a new
    one, or None with ``resume``.  Other nights that were stopped are ended.
    """
    for night in store.unfinished():
        if night.plan == plan_digest(plan) and time.time() < night.deadline:
            notice(f"resuming night {night.id}")
            _resolve_interrupted(store, night)
            return night
        _resolve_interrupted(store, night)
        is_late = time.time() >= night.deadline
        why = "no time left" if is_late else "the plan has changed"
        _end_night(store, night, f"stopped, and {why}")
    if resume:
        return None
    keys = (cell.key for cell in plan.cells())
    return store.begin_night(plan_digest(plan), keys, time.time(), plan.budget_hours * 3600)


def _resolve_interrupted(store: Store, night: Night) -> None:
    """End the attempts that were running when ``night`` was stopped."""
    running = {cell.id for cell in store.cells(night.id) if cell.state == "running"}
    for attempt in store.attempts(night.id):
        if attempt.cell in running and attempt.ended is None:
            _end_interrupted(store, attempt)


def _end_interrupted(store: Store, attempt: Attempt) -> None:
    """End an attempt that was stopped, or whose end was not recorded.

    If the run ended with a verdict about Xen, the verdict counts; otherwise the cell waits again.
    """
    outcome = read_outcome(store.home / attempt.run)
    if is_finished(store.home / attempt.run) and outcome.verdict is not Verdict.MISS:
        store.end_attempt(attempt, outcome, state="done")
    else:
        store.end_attempt(attempt, _STOPPED, state="waiting")


def _end_night(store: Store, night: Night, why: str) -> Verdict:
    """End ``night`` and return its verdict; ``why`` is the reason for cells that still wait."""
    waiting = [cell for cell in store.cells(night.id) if cell.state == "waiting"]
    _leave(store, night, waiting, why)
    detect_findings(store, night)
    done = [cell for cell in store.cells(night.id) if cell.state == "done"]
    verdict = combine(Verdict(cell.verdict) for cell in done)
    store.end_night(night.id, verdict, why if waiting else "")
    return verdict


def _leave(store: Store, night: Night, cells: Sequence[CellRow], why: str) -> None:
    """Do not run ``cells``, for the reason ``why``.

    A cell that has had a lab fault tonight is done with that result; the others are left.
    """
    tried = {a.cell: a for a in store.attempts(night.id) if a.cause != Cause.STOPPED}
    for cell in cells:
        if attempt := tried.get(cell.id):
            outcome = read_outcome(store.home / attempt.run)
            verdict = Verdict(attempt.verdict)
            outcome = replace(outcome, verdict=verdict, message=attempt.message)
            store.end_attempt(attempt, outcome, state="done")
    store.leave([cell for cell in cells if cell.id not in tried], why)


def run_night(
    plan: NightlyPlan, night: Night, store: Store, runner: Runner, *, parallel: int, notice: Notice
) -> Verdict:
    """Run the cells of ``night`` that wait, ``parallel`` at a time; detect its findings; return
    its verdict.

    On KeyboardInterrupt all runs are stopped, and their cells wait again, for the next call.
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
    """Starts the runs of one night, and records their ends."""

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
        """Start runs until ``parallel`` are running; return whether any was started."""
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
            stopped = attempt.cause == Cause.STOPPED  # that was not a lab fault
            counts[attempt.cell] = counts.get(attempt.cell, 0) + (not stopped)
        return [
            WaitingCell(row, self._cells[row.key], counts.get(row.id, 0))
            for row in self.store.cells(self.night.id)
            if row.state == "waiting"
        ]

    def collect(self) -> None:
        """Wait until a run ends, and record its outcome."""
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
        if is_fault and time.time() >= self.night.deadline:  # we stopped it: not a lab fault
            self.store.end_attempt(attempt, _STOPPED, state="waiting")
            return
        host = waiting.cell.host.name
        self._faults[host] = self._faults.get(host, 0) + 1 if is_fault else 0
        again = is_fault and waiting.attempts < self.plan.retries
        again = again and self._faults[host] < BROKEN_AFTER
        self.store.end_attempt(attempt, outcome, state="waiting" if again else "done")
        self.notice(
            f"{_cell_name(waiting.row)}: {outcome.verdict} {outcome.message}".rstrip()
            + "; it will be run again" * again
        )
        if self._faults[host] == BROKEN_AFTER:
            rest = [w.row for w in self._waiting() if w.cell.host.name == host]
            why = f"{host} failed {BROKEN_AFTER} times in a row: {outcome.message}"
            _leave(self.store, self.night, rest, why)
            self.notice(f"{why}; {len(rest)} cells left")

    def stop(self) -> None:
        """Stop the runs that are going on, and record that."""
        self._stop.set()
        wait(self.running)
        for _, attempt in self.running.values():
            _end_interrupted(self.store, attempt)


def _cell_name(row: CellRow) -> str:
    return " ".join(row.key)
