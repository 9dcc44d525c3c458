# SPDX-License-Identifier: GPL-2.0-or-later
"""``corpus --generate``: which mutants of Xen's event channels do the tests kill?"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import __version__
from harness.cli import echo, print_json
from harness.cli.run import PYTEST, tests_of
from harness.cli.tables import print_table
from harness.config.physical import PhysicalHost
from harness.corpus.mutants import report, switch
from harness.corpus.mutants.choose import Mutant, choose
from harness.corpus.mutants.compiled import Fitted, Target, fitted, same_code, with_patch
from harness.corpus.mutants.journal import MutantJournal, Reach
from harness.corpus.mutants.loop import run_mutants
from harness.corpus.mutants.outcome import FATES, Outcome
from harness.corpus.mutants.schema import WATCH
from harness.host_run import Booted, HostRun
from harness.hypervisor.event_channels import flavoured
from harness.progress import Progress
from harness.results import directory, records
from harness.results.document import run_document
from harness.results.store import load
from harness.run.plan import Plan
from harness.run.recorder import Recorder
from harness.run.session import Session
from harness.run.up import session
from harness.verdict import (
    EXIT_FAIL,
    EXIT_PASS,
    ConfigError,
    HarnessError,
    LabError,
    Verdict,
    combine,
    exit_code,
)

# The machine is as it was before the first test: the lock suite's goes back to a snapshot, which
# takes a second; conformance starts guests of its own, which a machine with a snapshot cannot, so
# for each mutant its machine goes on from the one in the cache, which takes some seconds.
_FROM_CACHE = ("conformance",)
# Why the lock in the machine code is not held against the model (harness.run.lock_code).
_ALL_FAULTS = "this Xen has the faults of all mutants"


def generate(plan: Plan, count: int, suites: Sequence[str], out: Path | None, as_json: bool) -> int:
    """Make ``count`` mutants by ``plan``'s seed and run ``suites`` with each on the plan's host;
    print the document, or a table and where the report is.  Goes on with what is in ``out``.

    Returns the exit code: 1 if a mutant that compiles to other code was not killed.
    """
    target, texts = _target(plan)
    mutants = choose(texts, count, plan.seed)
    place = _place(out)
    fit = fitted(target, texts, mutants, _say)
    journal = MutantJournal(place, _about(plan, target, fit, count))  # if it is this run's
    _write_diffs(mutants, place)
    told = report.Told(plan.hosts[0].name, target.source.version, target.flavour.name, plan.seed)

    def written() -> dict[str, Any]:
        return report.write(told, mutants, fit.dropped, journal, place)

    def notice(outcome: Outcome) -> None:
        one = mutants[outcome.number - 1]
        done = sum(1 for _, suite in journal.outcomes if suite == outcome.suite)
        _say(
            f"{done} of {len(fit.mutants)} {outcome.suite}: {one.number} {one.function} "
            f"{one.operator}: {outcome.fate} {outcome.reason}".rstrip()
        )
        written()

    hypervisor = replace(plan.hypervisor, flavour=fit.flavour)
    with _Bench(replace(plan, hypervisor=hypervisor), place) as bench:
        run_mutants(fit.mutants, suites, bench=bench, journal=journal, out=place, notice=notice)
    if journal.same_code is None:
        left = [one for one in fit.mutants if not journal.is_killed(one.number)]
        journal.add_same_code(frozenset(same_code(target, texts, left, _say)))
    document = written()
    if as_json:
        print_json(document)
    else:
        _print(document)
        echo(str(place / report.PAGE))
    return EXIT_FAIL if document["survivors"] else EXIT_PASS


def alone(
    plan: Plan, count: int, number: int, suites: Sequence[str], out: Path | None, as_json: bool
) -> int:
    """Build mutant ``number`` of ``count`` alone, as a person would have written it, and run
    ``suites`` with it; print each verdict.  Returns the exit code of the worst one."""
    target, texts = _target(plan)
    mutants = choose(texts, count, plan.seed)
    if number > len(mutants):
        raise ConfigError(f"there are {len(mutants)} mutants, and no {number}", where="--alone")
    one = mutants[number - 1]
    place = directory.create(out).path
    _write_diffs([one], place)
    flavour = with_patch(target.flavour, place / "diffs" / f"{number}.patch")
    hypervisor = replace(plan.hypervisor, flavour=flavour)
    verdicts = dict[str, Verdict]()
    for suite in suites:
        run = HostRun(replace(plan, hypervisor=hypervisor, out=place / suite), Progress())
        _pytest(run, suite)
        verdicts[suite] = run.verdict
    if as_json:
        print_json({"number": number, "diff": one.diff, "verdicts": verdicts, "path": str(place)})
    else:
        echo(one.diff)
        for suite, verdict in verdicts.items():
            echo(f"{suite:12} {verdict}: {place / suite / 'report.html'}")
    return exit_code(combine(verdicts.values()))


def _print(document: Mapping[str, Any]) -> None:
    rows = [
        (
            suite,
            "" if counts["score"] is None else f"{100 * counts['score']:.1f} %",
            *(str(counts[fate]) for fate in FATES),
        )
        for suite, counts in document["suites"].items()
    ]
    print_table(("suite", "score", *FATES), rows, 120)


def _target(plan: Plan) -> tuple[Target, dict[str, bytes]]:
    host, xen = plan.hosts[0], plan.hypervisor
    if isinstance(host, PhysicalHost):
        raise ConfigError(
            f"{host.name} is a physical server: nobody can turn on a mutant in its memory",
            where="--host",
            hint="give a host under QEMU",
        )
    target = Target(xen.source, xen.flavour, host.arch, xen.how)
    return target, flavoured(xen.source, xen.flavour)


def _place(out: Path | None) -> Path:
    """Return the directory of the results: a new one, or ``out`` if a run of ours is there."""
    if out is not None and (out / "mutants.jsonl").is_file():
        return out.absolute()
    return directory.create(out).path


def _write_diffs(mutants: Sequence[Mutant], place: Path) -> None:
    folder = place / "diffs"
    folder.mkdir(exist_ok=True)
    for one in mutants:
        (folder / f"{one.number}.patch").write_text(one.diff, errors="surrogateescape")


def _about(plan: Plan, target: Target, fit: Fitted, count: int) -> dict[str, Any]:
    return {
        "host": plan.hosts[0].name,
        "source": target.source.digest,
        "flavour": fit.flavour.digest,
        "seed": plan.seed,
        "count": count,
    }


def _say(text: str) -> None:
    echo(f"-- {text}", err=True)


class _Bench:
    """One host, booted once with the Xen of the mutants, and again where it has to."""

    def __init__(self, plan: Plan, place: Path) -> None:
        self._plan = plan
        self._stack = ExitStack()
        self._place = place
        self._boots = 0
        self._live: Session | None = None
        self._suite = ""

    def __enter__(self) -> _Bench:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def watch(self, suite: str, count: int, out: Path) -> list[Reach]:
        """See harness.corpus.mutants.loop.Bench."""
        live = self._ready(suite, WATCH)
        switch.met(live, count)
        run = _MutantRun(replace(self._plan, out=_free(out), keep_going=True), live)
        run.watched = count
        self._tests(run, suite)
        return run.reaches(suite)

    def run(
        self, suite: str, number: int, nodes: Sequence[str], out: Path
    ) -> Sequence[Mapping[str, Any]]:
        """See harness.corpus.mutants.loop.Bench."""
        live = self._ready(suite, number)
        run = _MutantRun(replace(self._plan, out=_free(out), keep_going=False), live, nodes)
        self._tests(run, suite)
        hosts = run_document(load(run.directory.path))["hosts"]
        return list(hosts[0]["tests"]) if hosts else []

    def _tests(self, run: _MutantRun, suite: str) -> None:
        """Run the tests; KeyboardInterrupt if a person stops them."""
        live = run.live
        own = live.recorder
        live.recorder = run.recorder  # what is recorded in a test is of this run
        try:
            _pytest(run, suite)
        finally:
            live.recorder = own
        if run.is_interrupted:
            raise KeyboardInterrupt

    def _ready(self, suite: str, number: int) -> Session:
        """Return the session of the machine as it was before the first test, with mutant ``number``
        on.  If that fails, it is booted anew, once."""
        for attempt in range(2):
            try:
                live = self._fresh(suite)
                switch.turn_on(live, number)
                return live
            except LabError as error:
                self._close()
                if attempt:
                    raise
                _say(f"booting anew: {error}")
        raise AssertionError

    def _fresh(self, suite: str) -> Session:
        if self._live is not None and self._suite == suite and suite not in _FROM_CACHE:
            self._live.restore()
            return self._live
        self._close()
        self._suite = suite
        self._live = self._booted(suite not in _FROM_CACHE)
        return self._live

    def _booted(self, snapshot: bool) -> Session:
        self._boots += 1
        plan = replace(self._plan, snapshot=snapshot, keep=True)
        made = directory.create(_free(self._place / "machines" / str(self._boots)))
        recorder = Recorder(plan, made, Progress())
        name = plan.hosts[0].name
        recorder.add(records.RunStart(plan.seed, tuple(sys.argv), __version__, (name,)))
        design = plan.hypervisor.flavour.design
        recorder.add(records.LockCode(name, "not covered", design, message=_ALL_FAULTS))
        self._stack.callback(recorder.close)
        self._stack.callback(recorder.end_run)
        self._stack.callback(recorder.end_host, name)
        live = self._stack.enter_context(session(plan, plan.hosts[0], recorder))
        return live

    def _close(self) -> None:
        self._live = None
        try:
            self._stack.close()
        except HarnessError as error:  # what a mutant has left cannot be cleared away in order
            _say(f"the machine was switched off: {error}")


class _MutantRun(HostRun):
    """A run of tests on a machine that is up already, and stays so."""

    def __init__(self, plan: Plan, live: Session, nodes: Sequence[str] | None = None) -> None:
        super().__init__(plan, Progress())
        self.live, self._nodes = live, nodes
        self.watched = 0  # of how many mutants to note which a test comes by
        self._seen: dict[str, tuple[float, frozenset[int]]] = {}
        self._said: dict[str, str] = {}

    @property
    def is_interrupted(self) -> bool:
        """Whether a person has stopped it."""
        return self._interrupted

    def boot(self, name: str) -> Booted:
        """Return the context of the machine that is up."""
        booted = _Up(self, name, self.live)
        self._booted[name] = booted
        return booted

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the tests that come by the mutant, in the order that is asked for."""
        if self._nodes is not None:
            order = {node: at for at, node in enumerate(self._nodes)}
            items[:] = sorted(
                (item for item in items if item.nodeid in order),
                key=lambda item: order[item.nodeid],
            )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Note how long a test took, and which mutants it came by."""
        began = time.monotonic()
        try:
            return (yield)
        finally:
            if self.watched:
                took = round(time.monotonic() - began, 3)
                by = frozenset[int]()
                with contextlib.suppress(LabError):
                    by = switch.met(self.live, self.watched)
                self._seen[item.nodeid] = took, by

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test ended."""
        if report.when == "call" or not report.passed:
            self._said[report.nodeid] = {"passed": "PASS", "skipped": "SKIP"}.get(
                report.outcome, "FAIL"
            )

    def reaches(self, suite: str) -> list[Reach]:
        """Return what each test came by."""
        return [
            Reach(suite, node, seconds, self._said.get(node, "SKIP"), by)
            for node, (seconds, by) in self._seen.items()
        ]


class _Up(Booted):
    """Context in which a machine is up that was so before, and will be so after it."""

    def __init__(self, run: HostRun, name: str, live: Session) -> None:
        super().__init__(run, name)
        self._session = live

    def ready(self) -> Session:
        """Return the session; raise if Xen or the machine died in an earlier test."""
        self._session.ready()
        return self._session

    def _boot(self) -> None:
        self._run._live[self._name] = self._session


def _pytest(run: HostRun, suite: str) -> None:
    with contextlib.redirect_stdout(sys.stderr):
        pytest.main([*PYTEST, *tests_of(suite, [])], plugins=[run])
    run.finish("pytest could not begin: see above")


def _free(out: Path) -> Path:
    """Return ``out``, or, if an interrupted run has left something there, a name beside it."""
    number = 1
    found = out
    while found.exists():
        number += 1
        found = out.with_name(f"{out.name}.{number}")
    return found
