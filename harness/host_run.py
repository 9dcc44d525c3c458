# SPDX-License-Identifier: GPL-2.0-or-later
"""One run of pytest tests on hosts: each host's one boot, the verdicts of its tests, the reports.

Verdicts follow the exception: an assertion or a HypervisorError is a FAIL, a LabError a MISS,
anything else an ERROR; a machine that died during the test overrules them with its own cause.
Results go to a run directory.

The heavy imports wait until there is a run: our plugin, and so this file, is loaded by every
pytest of the environment.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness import interrupts, unforeseen
from harness.verdict import (
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    ConfigError,
    HarnessError,
    LabError,
    Verdict,
    exit_code,
)
from harness.wanted import wants_more_than_dom0

if TYPE_CHECKING:
    from harness.evidence import Evidence
    from harness.progress import Progress
    from harness.results.store import Run
    from harness.run.emulation import Emulation
    from harness.run.plan import EmulationPlan, Plan
    from harness.run.recorder import Recorder
    from harness.run.session import Session

RUN = pytest.StashKey["HostRun"]()  # in the stash of a pytest that has hosts to test
_NO_SNAPSHOT = (
    "no snapshot before each test: one wants the bare guest, which is started by dom0's libvirt, "
    "and no connection to dom0 outlives a restore"
)


class HostRun:
    """One run of tests on hosts, a plugin of the pytest that runs them.

    It owns the run directory, and writes everything down as it happens.
    """

    def __init__(self, plan: Plan | EmulationPlan, progress: Progress) -> None:
        """Make the run directory; ConfigError when ``plan.out`` holds something already."""
        from harness import __version__
        from harness.results import directory, records
        from harness.run.recorder import Recorder

        self.plan = plan
        self.verdict = Verdict.MISS
        self._names = {host.name: host for host in plan.hosts}
        self._broken: dict[str, str] = {}
        self._live: dict[str, Session | Emulation] = {}
        self._booted: dict[str, Booted] = {}
        self._last: dict[str, pytest.Item] = {}  # of each host's tests
        self._beyond_dom0: set[str] = set()  # hosts with a test that dom0 alone is not enough for
        self._over: set[str] = set()  # hosts that had a test that did not pass, and run no more
        self._left_out: dict[str, list[pytest.Item]] = {}
        self._interrupted = False  # by a person
        self._stopped = ""  # why the run ended before its tests were over
        self._unread = ""  # the test file that pytest could not read, and why
        self._usage = False  # the user's input was wrong, found out only under way
        self._finished = False
        self.directory = directory.create(plan.out)
        self.recorder: Recorder = Recorder(plan, self.directory, progress)
        self.recorder.add(
            records.RunStart(plan.seed, tuple(sys.argv), __version__, tuple(self._names))
        )

    @property
    def exit_code(self) -> int:
        """Return the exit code that is documented for what came of the run."""
        if self._interrupted:
            return EXIT_INTERRUPTED
        if self._usage and self.verdict is not Verdict.FAIL:  # Xen's fault goes before the user's
            return EXIT_USAGE
        return exit_code(self.verdict)

    def pytest_configure(self, config: pytest.Config) -> None:
        """Be found by the fixtures."""
        config.stash[RUN] = self

    def boot(self, name: str) -> Booted:
        """Return the context in which host ``name`` is up."""
        self._booted[name] = Booted(self, name)
        return self._booted[name]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        hosts = [(host, item) for item in session.items if (host := _host_of(item)) is not None]
        self._last = dict(hosts)
        self._beyond_dom0 = {host for host, item in hosts if wants_more_than_dom0(item)}
        if self.plan.snapshot and any(_wants_bare(item) for _, item in hosts):
            self.plan = replace(self.plan, snapshot=False)
            self.recorder.progress.note(_NO_SNAPSHOT)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Leave out what comes after a host's first test that did not pass; begin nothing after
        Ctrl-C."""
        interrupts.check()
        host = _host_of(item)
        if host in self._over:
            self._left_out.setdefault(host, []).append(item)
            pytest.skip("a test before it did not pass")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        """Switch a host off after its last test: what goes wrong then is its own fault.

        pytest would only do so when the next host's first test asks for the fixture, and blame it.
        """
        try:
            return (yield)
        finally:
            host = _host_of(item)
            if host in self._booted and item is self._last[host]:
                self._booted[host].close()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Iterator[None]:
        report: pytest.TestReport = yield  # type: ignore[assignment]
        host = _host_of(item)
        left_out = call.when == "setup" and item in self._left_out.get(host or "", ())
        if host is not None and not left_out and (call.when == "call" or not report.passed):
            self._record(host, item, call, report)
            if report.failed and not self.plan.keep_going:
                self._over.add(host)
        if host is None and report.failed:  # it is no host's
            unknown = call.excinfo is not None and call.excinfo.typename == "FixtureLookupError"
            self._usage |= unknown
            self._stopped = (
                self._stopped
                or f"{item.path.name}::{item.name}: {_first_error(report.longreprtext)}"
            )
        return report  # type: ignore[return-value]

    def _record(
        self, host: str, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport
    ) -> None:
        from harness.results.records import Cells, Test

        name = item.name.partition("[")[0].removeprefix("test_").replace("_", "-")
        if call.when == "teardown":
            name = "teardown"
        error = call.excinfo.value if call.excinfo is not None else None
        verdict, message, story = Verdict.PASS, "", ""
        evidence: Evidence | None = None
        if host in self._broken:
            verdict, message = Verdict.MISS, self._broken[host]
        elif report.skipped:
            verdict, message = Verdict.SKIP, _skip_reason(report)
        elif error is not None:
            verdict, message, story, evidence = self._blame(host, error, item.path)
        properties: dict[str, Any] = dict(item.user_properties)
        artifacts: tuple[str, ...] = tuple(properties.get("artifacts", ()))
        self.recorder.add(
            Test(host, name, verdict, round(call.duration, 3), message, story, artifacts, evidence)
        )
        if verdict in (Verdict.PASS, Verdict.SKIP):
            for met in properties.get("cells", ()):
                self.recorder.add(Cells(host=host, test=name, **met))

    def _blame(
        self, host: str, error: BaseException, file: Path
    ) -> tuple[Verdict, str, str, Evidence | None]:
        """Return verdict, message, story and evidence of a test in ``file`` that ended with
        ``error``: what a dead machine says goes before the test's word."""
        from harness.run.assertion import failed

        if host in self._live:
            try:
                error = self._live[host].cause(error)
            except Exception as ours:  # pytest would end here, and the tests to come be lost
                error = ours
        story = str(getattr(error, "story", ""))
        if isinstance(error, HarnessError):
            evidence = error.evidence
            if evidence is None and error.verdict is Verdict.FAIL:
                evidence = failed(error, file)
            return error.verdict, str(error), story, evidence
        if isinstance(error, AssertionError | pytest.fail.Exception):  # pytest.raises fails, too
            told = story or str(error).strip()
            return Verdict.FAIL, _first_line(error), told, failed(error, file)
        return Verdict.ERROR, self._unforeseen(error), story, None

    def _unforeseen(self, error: BaseException) -> str:
        """Keep the traceback of ``error``; return the line that says what and where."""
        text = "".join(traceback.format_exception(error))
        where = Path(unforeseen.kept(text, self.directory.path)).name
        return f"{unforeseen.said(error)}; the traceback is in {where}"

    def pytest_exception_interact(
        self, node: pytest.Item | pytest.Collector, report: pytest.CollectReport | pytest.TestReport
    ) -> None:
        """A file that is to be collected cannot be read."""
        if isinstance(report, pytest.CollectReport):
            self._unread = f"{node.path}: {_last_line(report.longreprtext)}"

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Ctrl-C; or pytest stops, because a test file cannot be read, before anything boots."""
        self._interrupted = not isinstance(excinfo.value, pytest.Session.Interrupted)
        self._usage |= bool(self._unread)
        self._stopped = "interrupted" if self._interrupted else self._unread or str(excinfo.value)

    def pytest_internalerror(self, excrepr: object) -> bool:
        """Keep the traceback in a file; what pytest would print of it is many lines."""
        where = unforeseen.kept(f"{excrepr}\n", self.directory.path)
        self._stopped = f"pytest failed: {_last_line(str(excrepr))}; the traceback is in {where}"
        return True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.USAGE_ERROR:
            self.finish("pytest could not collect what was asked for: see above")
            return
        if session.testscollected == 0:
            self._stopped = self._stopped or "there is no test in what was asked for"
        elif not self._last and not self._stopped:
            self._usage = True
            self._stopped = "no test in what was asked for uses a host (fixture dom0, domus or xen)"
        self.finish()
        if not self._interrupted:
            session.exitstatus = self.exit_code

    def finish(self, refused: str = "") -> None:
        """Close the run's book and write its reports, once.

        ``refused``: why pytest did not take what it was given, if it has not got further.
        """
        from harness.results.report import write_reports

        if self._finished:
            return
        self._finished = True
        if refused:
            self._usage, self._stopped = True, refused
        for name in self._names:
            self.recorder.end_host(name)
        self.verdict = self.recorder.end_run(self._stopped)
        self.recorder.close()
        self._tell(write_reports(self.directory.path))

    def _tell(self, run: Run) -> None:
        """Say how it ended, with a line for each of several hosts."""
        note = self.recorder.progress.note
        if self._stopped:
            note(self._stopped)
        for name, items in self._left_out.items():
            why = "of its tests, after one that did not pass; --keep-going runs them"
            note(f"{name:12} left out  {len(items)} {why}")
        for host in run.hosts if len(run.hosts) > 1 else ():
            note(f"{host.name:12} {host.verdict:9} {host.message}".rstrip())
        skipped = {host.message for host in run.hosts if host.verdict is Verdict.PASS} - {""}
        word = (
            f"{self.verdict}, {skipped.pop()}" if len(run.hosts) == 1 and skipped else self.verdict
        )
        note(f"{word}: {self.directory.report}")


class Booted:
    """Context in which a host is up; records how the boot went."""

    def __init__(self, run: HostRun, name: str) -> None:
        self._run = run
        self._name = name
        self._stack = ExitStack()

    def ready(self) -> Session | Emulation:
        """Return the session, for the next test: alive, and pristine with ``--snapshot``.

        A machine that died or got stuck with an earlier test, or that cannot be restored, is
        replaced by a fresh one: it costs that test, not the rest.
        """
        from harness.machine.tenure import LeaseLost

        if self._name in self._run._broken:
            raise LabError(self._run._broken[self._name], where=self._name)
        live = self._run._live[self._name]
        try:
            if self._run.plan.snapshot:
                live.restore()
            live.ready()
            return live
        except LeaseLost as lost:  # the server is another run's: this one is over
            self._run._broken[self._name] = lost.what
            raise
        except HarnessError as error:
            self._run.recorder.progress.note(f"{self._name:12} booting anew: {error}")
        self.close()
        self._boot()
        return self._run._live[self._name]

    @property
    def is_emulation(self) -> bool:
        """Whether there is no machine, but QEMU's emulation of event channels."""
        from harness.run.plan import EmulationPlan

        return isinstance(self._run.plan, EmulationPlan)

    def close(self) -> None:
        """Switch the host off, unless that was done."""
        self._run._live.pop(self._name, None)
        self._stack.close()

    def __enter__(self) -> Booted:
        from harness.results.records import Test

        self._boot()
        self._run.recorder.add(Test(self._name, "boot", Verdict.PASS, 0.0))
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def _boot(self) -> None:
        """Bring the host up; that it does not come is recorded, and it is not tried again."""
        from harness.results.records import Test

        run, name = self._run, self._name
        try:
            self._up()
        except HarnessError as error:
            run._broken[name] = f"the host did not come up: {error.what}"
            run._usage |= isinstance(error, ConfigError)
            told, evidence = str(error), error.evidence
            run.recorder.add(
                Test(name, "boot", error.verdict, 0.0, told, error.story, evidence=evidence)
            )
            raise
        except Exception as error:
            run._broken[name] = "the harness failed while booting the host"
            message = run._unforeseen(error)
            run.recorder.add(Test(name, "boot", Verdict.ERROR, 0.0, message))
            raise

    def _up(self) -> None:
        from harness.conformance.own_domain import ask_own_domain
        from harness.run.emulation import emulation
        from harness.run.plan import EmulationPlan
        from harness.run.up import session

        run, name = self._run, self._name
        if isinstance(run.plan, EmulationPlan):
            run._live[name] = self._stack.enter_context(emulation(run.plan, run.recorder))
            return
        plan = replace(run.plan, dom0_alone=name not in run._beyond_dom0)
        (host,) = (host for host in plan.hosts if host.name == name)
        context = session(plan, host, run.recorder, ask_own_domain)
        run._live[name] = self._stack.enter_context(context)


def _wants_bare(item: pytest.Item) -> bool:
    return "bare" in getattr(item, "fixturenames", ())


def _host_of(item: pytest.Item) -> str | None:
    spec = getattr(item, "callspec", None)
    return spec.params.get("booted") if spec is not None else None


def _skip_reason(report: pytest.TestReport) -> str:
    where = report.longrepr
    return str(where[2]).removeprefix("Skipped: ") if isinstance(where, tuple) else str(where)


def _first_error(text: str) -> str:
    """Return the first line that pytest marks as the error in its ``text``, else the last one."""
    marked = (line[1:].strip() for line in text.splitlines() if line.startswith("E "))
    return next(marked, _last_line(text))


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1].removeprefix("E").strip()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
