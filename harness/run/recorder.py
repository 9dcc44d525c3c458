# SPDX-License-Identifier: GPL-2.0-or-later
"""Records a run while it goes on: journal, progress, and at the end the reports."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.progress import Progress
from harness.results import records
from harness.results.directory import RunDirectory
from harness.results.journal import Journal
from harness.results.manifest import Ingredient, write_manifest
from harness.results.records import Record
from harness.run.plan import TestPlan
from harness.verdict import Verdict, combine


class Recorder:
    """The journal of one run and the progress on the terminal."""

    def __init__(self, plan: TestPlan, directory: RunDirectory, progress: Progress) -> None:
        self._plan = plan
        self._ingredients: list[Ingredient] = []
        self.directory = directory
        self.progress = progress
        self._journal = Journal(directory.journal)
        self._began = time.monotonic()
        self._verdicts: dict[str, list[Verdict]] = {}
        self._messages: dict[str, str] = {}
        self._operations: dict[str, int] = {}
        self._lock_code: dict[str, records.LockCode] = {}
        self._starved: dict[str, float] = {}
        self._ended: list[Verdict] = []
        self._seconds: dict[tuple[str, str], float] = {}  # by host and phase
        self.verdict = Verdict.SKIP  # of the whole run, once it has ended

    def add(self, record: Record) -> None:
        """Write ``record`` to the journal; keep what the host's verdict needs."""
        self._journal.append(record)
        if isinstance(record, records.Test):
            seen = self._verdicts.setdefault(record.host, [])
            if record.message and (not seen or combine([*seen, record.verdict]) != combine(seen)):
                self._messages[record.host] = f"{record.name}: {record.message}"
            seen.append(record.verdict)
            self._tell(record, len(seen))
        elif isinstance(record, records.LockCode):
            self._lock_code[record.host] = record
            if record.verdict == "not covered":
                self.progress.note(f"{record.host:12} lock code not covered: {record.message}")
        elif isinstance(record, records.Domain):
            self._operations[record.host] = self._operations.get(record.host, 0) + record.operations

    def _tell(self, test: records.Test, count: int) -> None:
        """Print at once a test that did not pass, and now and then how many tests have ended."""
        if test.verdict in (Verdict.PASS, Verdict.DONE, Verdict.SKIP):
            self.progress.sign(f"{test.host:12} {'tests':9} {count} over, {test.name}")
        else:
            self.progress.note(f"{test.host:12} {test.verdict:9} {test.name}: {test.message}")

    def has_lock_code(self, host: str) -> bool:
        """Say whether the machine code of the Xen of ``host`` was judged already."""
        return host in self._lock_code

    def used(self, *ingredients: Ingredient) -> None:
        """Add ``ingredients`` of the run to the manifest."""
        self._ingredients.extend(i for i in ingredients if i not in self._ingredients)
        write_manifest(
            self.directory,
            seed=self._plan.seed,
            argv=sys.argv,
            hosts=self._plan.hosts,
            ingredients=self._ingredients,
        )

    @contextmanager
    def phase(self, host: str, name: str) -> Iterator[None]:
        """Time a phase of ``host`` and record it, also if it fails."""
        with contextlib.ExitStack() as stack:
            seconds: Callable[[], float] = stack.enter_context(self.progress.phase(host, name))
            try:
                yield
            finally:
                took = round(seconds(), 3)
                self._seconds[host, name] = self.seconds(host, name) + took
                self.add(records.Phase(host, name, took))

    def seconds(self, host: str, name: str) -> float:
        """Return how many seconds phase ``name`` of ``host`` took; the sum if it was repeated."""
        return self._seconds.get((host, name), 0.0)

    def starved(self, host: str, share: float) -> None:
        """Note for which share of its time a machine of ``host`` waited for a CPU."""
        self._starved[host] = max(share, self._starved.get(host, 0.0))

    def end_host(self, host: str) -> None:
        """Record the end of ``host`` with its verdict.

        A PASS of which more than a third was skipped says so; with --strict it is a MISS.  One
        whose machine code could not be judged says so.
        """
        tests = self._verdicts.get(host, [])
        verdict = combine(tests)
        message = self._messages.get(host, "")
        if verdict is Verdict.PASS:
            skipped = tests.count(Verdict.SKIP)
            mostly = 3 * skipped > len(tests)
            message = f"{skipped} of {len(tests)} tests were skipped" if mostly else ""
            message = message or self._not_covered(host)
            verdict = Verdict.MISS if mostly and self._plan.strict else verdict
        self._ended.append(verdict)
        operations, starved = self._operations.get(host, 0), self._starved.get(host, 0.0)
        self.add(records.HostEnd(host, verdict, operations, message, starved))

    def _not_covered(self, host: str) -> str:
        found = self._lock_code.get(host)
        if found is None or found.verdict != "not covered":
            return ""
        return f"lock code not covered: {found.message}"

    def end_run(self, message: str = "") -> Verdict:
        """Record the end of the run; return its verdict, the most severe one of its hosts."""
        verdict = combine(self._ended)
        if message:
            verdict = combine([verdict, Verdict.MISS])
        seconds = round(time.monotonic() - self._began, 3)
        self.add(records.RunEnd(verdict, seconds, message))
        self.verdict = verdict
        return verdict

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()
