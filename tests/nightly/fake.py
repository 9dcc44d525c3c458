# SPDX-License-Identifier: GPL-2.0-or-later
"""A runner that boots nothing: it leaves run directories as a run does, through the journal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

from harness.config.nightly import Cell, Kcidb, NightlyPlan, PlanHost, Suite, Xen
from harness.nightly.loop import open_night, run_night
from harness.nightly.report_files import write_night
from harness.nightly.schema import Night
from harness.nightly.store import Store
from harness.results.directory import RunDirectory
from harness.results.journal import Journal
from harness.results.records import (
    ConsoleEvent,
    HostEnd,
    HostStart,
    Latency,
    RunEnd,
    RunStart,
    Sample,
    Test,
)
from harness.verdict import HarnessError, Verdict, combine


@dataclass(frozen=True)
class FakeResult:
    """The results of a run that was not made."""

    verdicts: dict[str, Verdict] = field(default_factory=lambda: {"load": Verdict.PASS})
    build: str = "aa" * 20
    rate: float = 1000.0
    latency: float = 10.0
    message: str = "port 7 lost an event"
    warnings: int = 0  # of Xen, on its console


class FakeRunner:
    """Tells for each cell what ``script`` says; counts, and watches who runs beside whom."""

    def __init__(self, script: Callable[[Cell], FakeResult | HarnessError] | None = None) -> None:
        self.script = script or (lambda cell: FakeResult())
        self.asked: list[tuple[str, str, str]] = []
        self.together = 0  # most runs at a time
        self.shared: list[str] = []  # hosts that had two runs at a time
        self._busy: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, cell: Cell, out: Path, seconds: float, stop: Event) -> None:
        with self._lock:
            self.asked.append(cell.key)
            if cell.host.name in self._busy:
                self.shared.append(cell.host.name)
            self._busy.append(cell.host.name)
            self.together = max(self.together, len(self._busy))
        try:
            told = self.script(cell)
            if isinstance(told, HarnessError):
                raise told
            leave(out, cell, told)
        finally:
            with self._lock:
                self._busy.remove(cell.host.name)


def leave(out: Path, cell: Cell, told: FakeResult, *, finished: bool = True) -> None:
    """Leave a run directory at ``out``."""
    out.mkdir(parents=True)
    directory, host = RunDirectory(out), cell.host.name
    directory.console(host).mkdir(parents=True)
    (directory.console(host) / "xen.log").write_text("2026-11-25T01:00:00+00:00 (XEN) hello\n")
    witness = directory.history(host) / "witness-1.html"
    witness.parent.mkdir(parents=True)
    witness.write_text("<p>witness</p>")
    files = (str(witness.relative_to(out)),)
    verdict = combine(told.verdicts.values())
    with Journal(directory.journal) as journal:
        journal.append(RunStart(7, ("evtchn-harness",), "0.1.0", (host,)))
        flavour = cell.xen.flavour or "counter"
        journal.append(
            HostStart(host, "arm64", "tcg", "", flavour, told.build, "4.17.5", "apt 4.17")
        )
        for _ in range(told.warnings):
            when = datetime(2026, 11, 25, tzinfo=UTC)
            journal.append(ConsoleEvent(host, "xen", when, "warning", "Xen WARN at x.c:1", False))
        for rate in (told.rate * 0.99, told.rate, told.rate * 1.01):
            journal.append(Sample(host, 1.0, rate))
        for domain in ("dom0", "domu1", "domu2"):
            micros = told.latency
            journal.append(
                Latency(host, "send", domain, 500, micros, micros * 2, micros * 9, micros * 99)
            )
        for name, each in told.verdicts.items():
            is_bad = each is not Verdict.PASS
            message, story = (told.message, "0 s dom0 send -> 0") if is_bad else ("", "")
            journal.append(Test(host, name, each, 1.5, message, story, files))
        if finished:
            journal.append(HostEnd(host, verdict, 4000, told.message if verdict != "PASS" else ""))
            journal.append(RunEnd(verdict, 12.5))
    directory.report.write_text("<p>report</p>")  # the real one is tests/results/ to test


def plan(
    hosts: Sequence[str] = ("h1", "h2"),
    xens: Sequence[str] = ("counter",),
    suites: Sequence[Suite] = (Suite(name="load"),),
    *,
    budget_hours: float = 8.0,
    retries: int = 1,
) -> NightlyPlan:
    """Return a plan with these names."""
    return NightlyPlan(
        path=Path("plan.yaml"),
        hosts={name: PlanHost(name=name) for name in hosts},
        xens={name: Xen(name=name, flavour=name) for name in xens},
        suites={suite.name: suite for suite in suites},
        budget_hours=budget_hours,
        retries=retries,
        parallel=None,
        kcidb=Kcidb(),
    )


def night(asked: NightlyPlan, store: Store, runner: FakeRunner, *, parallel: int = 1) -> Night:
    """Run one whole night, as the command does, but for the reports."""
    begun = open_night(asked, store, lambda text: None, resume=False)
    assert begun is not None
    run_night(asked, begun, store, runner, parallel=parallel, notice=lambda text: None)
    return store.night(begun.id)


def night_with_reports(asked: NightlyPlan, store: Store, runner: FakeRunner) -> Path:
    """Run one whole night with its reports; return their directory."""
    begun = night(asked, store, runner)
    write_night(store, begun, asked.kcidb)
    return store.home / "nights" / begun.id
