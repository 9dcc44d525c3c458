"""The pytest door: ``pytest testcases --host NAME --flavour counter``.

Every test that asks for the fixture ``xen`` runs once per ``--host``; all of a host's
tests share one boot.  Verdicts follow the exception: an assertion or a HypervisorError
is a FAIL, a LabError a MISS, anything else an ERROR; a machine that died during the
test overrules them with its own cause.  Results go to a run directory.

The heavy imports wait until ``--host`` is given: this plugin is loaded by every pytest
of the environment.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import pytest

from harness.verdict import (
    EXIT_USAGE,
    ConfigError,
    HarnessError,
    LabError,
    Verdict,
    exit_code,
)

if TYPE_CHECKING:
    from harness.agent.client import AgentClient
    from harness.evidence import Evidence
    from harness.run.load import Load
    from harness.run.plan import Plan
    from harness.run.recorder import Recorder
    from harness.run.session import Session

_RUN = "xen-evtchn-harness-run"
_DEFAULTS: dict[str, Any] = {"flavour": "counter", "duration": 8.0}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("xen-evtchn-harness", "real Xen under test")
    group.addoption("--host", action="append", default=[], metavar="NAME", help="host to boot")
    group.addoption("--flavour", default=_DEFAULTS["flavour"], help="lock flavour under test")
    group.addoption("--seed", type=int, help="seed of the load (default: a fresh one)")
    group.addoption("--duration", type=float, default=_DEFAULTS["duration"], metavar="SECONDS")
    group.addoption("--lab", type=Path, metavar="FILE", help="lab.yaml with more hosts")
    group.addoption("--out", type=Path, metavar="DIR", help="new directory for the results")
    group.addoption("--xen-release", metavar="X.Y", help="the distribution's Xen of that release")
    group.addoption("--xen-src", type=Path, metavar="DIR", help="Xen source tree")
    group.addoption("--xen-git", metavar="REPO", help="git repository of Xen")
    group.addoption("--xen-ref", metavar="REF", help="commit, tag or branch in it")
    group.addoption(
        "--snapshot", action="store_true", help="restore the booted machine before every test"
    )
    group.addoption("--repeat", type=int, default=1, metavar="N", help="run every test N times")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "cells(*rows): rows of the specification a test is there for"
    )
    if not config.getoption("--host") or config.option.collectonly:
        return
    try:
        config.pluginmanager.register(HostRun(config, _plan(config)), _RUN)
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from error


def _plan(config: pytest.Config) -> Plan:
    from harness.config.lab import host, load_lab
    from harness.run.plan import Plan, Tree

    lab = load_lab(config.getoption("--lab"))
    names: list[str] = list(dict.fromkeys(config.getoption("--host")))
    seed: int | None = config.getoption("--seed")
    return Plan(
        hosts=tuple(host(lab, name) for name in names),
        flavour=config.getoption("--flavour"),
        tree=Tree(
            config.getoption("--xen-src"),
            config.getoption("--xen-git"),
            config.getoption("--xen-ref"),
            config.getoption("--xen-release"),
        ),
        seed=secrets.randbits(32) if seed is None else seed,
        duration=config.getoption("--duration"),
        out=config.getoption("--out"),
        snapshot=config.getoption("--snapshot"),
        repeat=config.getoption("--repeat"),
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "booted" in metafunc.fixturenames:
        hosts: list[str] = list(dict.fromkeys(metafunc.config.getoption("--host")))
        metafunc.parametrize("booted", hosts or [None], indirect=True, scope="session")
        times = metafunc.config.getoption("--repeat")
        if times > 1:
            metafunc.fixturenames.append("repetition")
            metafunc.parametrize("repetition", range(1, times + 1))


@pytest.fixture
def repetition() -> int:
    """Which time it is that a test runs."""
    return 1


@pytest.fixture(scope="session")
def booted(request: pytest.FixtureRequest) -> Iterator[Booted]:
    """The host's one boot; tests ask for ``xen``."""
    run: HostRun | None = request.config.pluginmanager.get_plugin(_RUN)
    if run is None:
        pytest.skip("boots a real Xen: give --host NAME")
    with run.boot(request.param) as boot:
        yield boot


@pytest.fixture
def xen(booted: Booted) -> Session:
    """A booted host, checked to be alive; with --snapshot, restored to before the first test."""
    return booted.ready()


@pytest.fixture
def dom0(xen: Session) -> AgentClient:
    """The agent in dom0."""
    return xen.agents["dom0"]


@pytest.fixture
def domus(xen: Session) -> list[AgentClient]:
    """The agents in the domUs."""
    return [xen.agents[domu.name] for domu in xen.domus]


@pytest.fixture
def load(xen: Session) -> Load:
    """Runs load and judges what was recorded."""
    from harness.run.load import Load

    return Load(xen)


class HostRun:
    """One pytest session with hosts: owns the run directory and writes everything down."""

    def __init__(self, config: pytest.Config, plan: Plan) -> None:
        from harness import __version__
        from harness.progress import Progress
        from harness.results import directory, records
        from harness.run.recorder import Recorder

        self.plan = plan
        self.verdict = Verdict.MISS
        self._config = config
        self._names = {host.name: host for host in plan.hosts}
        self._broken: dict[str, str] = {}
        self._live: dict[str, Session] = {}
        self._interrupted = ""
        self._usage = False  # the user's input was wrong, found out only while building
        self.directory = directory.create(plan.out)
        self.recorder: Recorder = Recorder(plan, self.directory, Progress(_uncaptured(config)))
        self.recorder.add(
            records.RunStart(plan.seed, tuple(sys.argv), __version__, tuple(self._names))
        )

    def boot(self, name: str) -> Booted:
        """Return the context in which host ``name`` is up."""
        return Booted(self, name)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Iterator[None]:
        report: pytest.TestReport = yield  # type: ignore[assignment]
        host = _host_of(item)
        if host is not None and (call.when == "call" or not report.passed):
            self._record(host, item, call, report)
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
        return Verdict.ERROR, f"{type(error).__name__}: {_first_line(error)}", story, None

    def pytest_keyboard_interrupt(self) -> None:
        self._interrupted = "interrupted"

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        from harness.results.report import write_reports

        for name in self._names:
            self.recorder.end_host(name)
        self.verdict = self.recorder.end_run(self._interrupted)
        self.recorder.close()
        write_reports(self.directory.path)
        self.recorder.progress.note(f"{self.verdict}: {self.directory.report}")
        if not self._interrupted:
            session.exitstatus = EXIT_USAGE if self._usage else exit_code(self.verdict)


class Booted:
    """Context in which a host is up; records how the boot went."""

    def __init__(self, run: HostRun, name: str) -> None:
        self._run = run
        self._name = name
        self._stack = ExitStack()

    def ready(self) -> Session:
        """Return the session, for the next test: alive, and pristine with ``--snapshot``.

        A machine that died or got stuck with an earlier test, or that cannot be restored, is
        replaced by a fresh one: it costs that test, not the rest.
        """
        if self._name in self._run._broken:
            raise LabError(self._run._broken[self._name], where=self._name)
        live = self._run._live[self._name]
        try:
            if self._run.plan.snapshot:
                live.restore()
            live.ready()
            return live
        except HarnessError as error:
            self._run.recorder.progress.note(f"{self._name:12} booting anew: {error}")
        self.__exit__()
        self._boot()
        return self._run._live[self._name]

    def __enter__(self) -> Booted:
        from harness.results.records import Test

        self._boot()
        self._run.recorder.add(Test(self._name, "boot", Verdict.PASS, 0.0))
        return self

    def __exit__(self, *exception: Any) -> None:
        self._run._live.pop(self._name, None)
        self._stack.close()

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
            message = f"{type(error).__name__}: {_first_line(error)}"
            run.recorder.add(Test(name, "boot", Verdict.ERROR, 0.0, message))
            raise

    def _up(self) -> None:
        from harness.run.session import session

        run = self._run
        context = session(run.plan, run._names[self._name], run.recorder)
        run._live[self._name] = self._stack.enter_context(context)


def _uncaptured(config: pytest.Config) -> TextIO:
    """Return stderr as it is outside pytest's capture: progress must be seen while tests run."""
    manager = config.pluginmanager.getplugin("capturemanager")
    with manager.global_and_fixture_disabled() if manager else nullcontext():
        return os.fdopen(os.dup(2), "w", buffering=1)


def _host_of(item: pytest.Item) -> str | None:
    spec = getattr(item, "callspec", None)
    return spec.params.get("booted") if spec is not None else None


def _skip_reason(report: pytest.TestReport) -> str:
    where = report.longrepr
    return str(where[2]).removeprefix("Skipped: ") if isinstance(where, tuple) else str(where)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
