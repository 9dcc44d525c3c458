# SPDX-License-Identifier: GPL-2.0-or-later
"""The real Builder and Tester: child processes that build a revision, and boot and test it."""

from __future__ import annotations

import math
import queue
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.arch import Arch
from harness.bisect.confirm import REVERT
from harness.bisect.observations import BOOT, Built, Tested, Try, TryOutcome
from harness.bisect.repository import Repository
from harness.bisect.signature import signature
from harness.config.options import RunOptions, XenOptions
from harness.hypervisor import flavour as flavours
from harness.hypervisor import series
from harness.hypervisor.loaded_sections import digest_loaded
from harness.results.directory import RunDirectory
from harness.results.document import run_document
from harness.results.store import load
from harness.run import child
from harness.scratch import scratch
from harness.verdict import BuildError, ConfigError, LabError, Verdict

_NICE = 10  # the machine under test must not wait for a compiler
_FRAME_TESTS = ("teardown", "nothing-leaked", "lock-code")  # no tries: once in each boot
_OUTCOMES: dict[str, TryOutcome] = {
    Verdict.PASS: "pass",
    Verdict.FAIL: "fail",
    Verdict.MISS: "fault",
    Verdict.ERROR: "fault",
}


@dataclass
class SourceTrees:
    """The source trees of revisions, as options for the child processes."""

    repository: Repository
    top: str  # the bad end: a culprit is reverted on top of it
    series: tuple[Path, ...] = ()  # mails whose patches are applied to each revision
    model: str | None = None  # the lock by whose rules each is judged; None: its own
    _found: dict[str, XenOptions] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def options(self, revision: str) -> XenOptions:
        """Return the options for the tree of ``revision``, which is built as it stands.

        BuildError if the commit has no Xen to build, git cannot revert it, the series does not
        apply to it, or nobody says as what it is to be judged.
        """
        with self._lock:
            if revision not in self._found:
                self._found[revision] = self._find(revision)
            return self._found[revision]

    def _find(self, revision: str) -> XenOptions:
        mails = series.read(self.series)
        try:
            if revision.startswith(REVERT):
                with scratch() as folder:
                    culprit = revision.removeprefix(REVERT)
                    source = self.repository.reverted(culprit, self.top, folder)
                where = XenOptions(xen_src=source.tree)
            else:
                source = self.repository.source(revision)
                where = XenOptions(xen_git=str(self.repository.home), xen_ref=revision)
            if mails:
                source = series.apply(source, mails)
            flavours.find(None, source, self.model)
        except ConfigError as error:  # no xen/Makefile in that commit, say
            raise BuildError(error.what, where=error.where) from error
        return replace(where, series=self.series, model=self.model)


class BuildProcesses:
    """Builds revisions in child processes: one on demand, and the next ones in the background."""

    def __init__(self, trees: SourceTrees, arch: Arch) -> None:
        self._trees = trees
        self._arch = arch
        self._background: _BackgroundBuilds | None = None

    def build(self, revision: str) -> Built:
        """Build ``revision``, or wait for its build in the background.

        BuildError if it does not build, LabError if the build ended for another reason.
        """
        if self._background is not None and self._background.building != revision:
            self.close()
        with self.started(revision) as started:
            document = child.read(child.wait(started))
        if "build_id" in document:
            return _built(revision, document)
        message = str(document.get("error", "the build ended without a message"))
        if document.get("kind") in ("BuildError", "ConfigError", "DoesNotApply"):
            raise BuildError(message)
        if document.get("kind") == "Interrupted":
            raise KeyboardInterrupt
        raise LabError(message)

    def build_ahead(self, revisions: Iterable[str]) -> None:
        """Build ``revisions`` into the cache, in the background and with low priority."""
        self.close()
        self._background = _BackgroundBuilds(self, list(revisions))

    def close(self) -> None:
        """Stop the builds in the background."""
        if self._background is not None:
            self._background.stop()
        self._background = None

    @contextmanager
    def started(self, revision: str, *, nice: int = 0) -> Iterator[subprocess.Popen[bytes]]:
        """Start a child that builds ``revision``; BuildError if its tree has no Xen to build."""
        words = ["build", f"--arch={self._arch}"]
        options = self._trees.options(revision)
        with child.started(words, options, nice=nice, quiet=True) as started:
            yield started  # quiet: the JSON document that it prints is enough


class _BackgroundBuilds:
    """A thread that builds one revision after the other until it is stopped.

    It ignores results and errors: ``build`` gets them from the cache, or builds again.
    """

    def __init__(self, builds: BuildProcesses, revisions: Sequence[str]) -> None:
        self.building = ""
        self._builds = builds
        self._revisions: queue.SimpleQueue[str] = queue.SimpleQueue()
        for revision in revisions:
            self._revisions.put(revision)
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="build ahead", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the child, and wait until the thread ends."""
        with self._lock:
            self._stopped = True
            if self._running is not None:
                self._running.terminate()
        self._thread.join()

    def _work(self) -> None:
        while not self._revisions.empty():
            revision = self._revisions.get()
            with ExitStack() as stack:
                with self._lock:
                    if self._stopped:
                        return
                    self.building = revision
                    try:
                        started = self._builds.started(revision, nice=_NICE)
                        self._running = stack.enter_context(started)
                    except (BuildError, LabError):
                        continue
                self._running.communicate()
                with self._lock:
                    self.building, self._running = "", None


def _built(revision: str, document: Mapping[str, Any]) -> Built:
    digest = digest_loaded(Path(document["syms"]), document["build_id"], document["source_digest"])
    return Built(revision, digest, float(document["seconds"]))


class RunProcesses:
    """Runs the chosen tests, or a forced scenario, on a revision; each run has its own
    directory."""

    def __init__(
        self,
        trees: SourceTrees,
        *,
        options: RunOptions,
        tests: Sequence[str],
        scenario: str = "",
        boot: bool = False,
        out: Path,
    ) -> None:
        self._trees = trees
        self._options = options
        self._tests = tests
        self._scenario = scenario
        self._boot = boot
        self._out = out
        self._tries_per_repeat = 1.0  # a repetition may run several tests

    def test(self, revision: str, tries: int, keep_going: bool) -> Tested:
        """Boot ``revision`` once and run the tests for ``tries`` tries, or until one fails."""
        repeat = 1 if self._boot else max(1, math.ceil(tries / self._tries_per_repeat))
        place = self._place(revision)
        options = replace(self._options, repeat=repeat, out=place)
        options = options.with_xen(self._trees.options(revision))
        if self._scenario:
            child.run(options, [self._scenario], of=("interleave", "run"))
            return of_document(revision, _kept(place), str(place))
        options = replace(options, snapshot=not self._boot, keep_going=keep_going)
        tested = of_document(revision, child.run(options, self._tests), str(place))
        counted = [one for one in tested.tries if one.test != BOOT]
        if len(counted) >= repeat and all(one.outcome == "pass" for one in counted):
            self._tries_per_repeat = len(counted) / repeat
        return tested

    def _place(self, revision: str) -> Path:
        """Return the path of a new directory: that of a run that was killed is not used again."""
        name = revision.removeprefix(REVERT)[:12] + ("-reverted" if ":" in revision else "")
        taken = len(list(self._out.glob("*"))) if self._out.is_dir() else 0
        return self._out / f"{taken + 1:03}-{name}"


def _kept(place: Path) -> Mapping[str, Any]:
    """Return the document of the run in ``place``, {} if the run left no journal."""
    return run_document(load(place)) if RunDirectory(place).journal.exists() else {}


def of_document(revision: str, document: Mapping[str, Any], place: str) -> Tested:
    """Return the test of ``revision`` that ``document``, of ``run --json``, describes."""
    hosts = document.get("hosts") or []
    tests = hosts[0]["tests"] if hosts else []
    for count, test in enumerate(tests, 1):
        if (test["name"], test["verdict"]) == (BOOT, Verdict.FAIL):
            tests = tests[:count]  # the MISS of each test after it is no fault of the lab
            break
    tries = tuple(
        _try(test)
        for test in tests
        if test["verdict"] in _OUTCOMES and test["name"] not in _FRAME_TESTS
    )
    if not tries:
        why = str(document.get("error") or document.get("message") or "the run said nothing")
        tries = (Try(BOOT, "fault", message=why),)
    seconds = hosts[0]["seconds"] if hosts else {}
    boot = sum(seconds.get(phase, 0.0) for phase in ("boot", "domains", "agents", "teardown"))
    spent = sum(test["seconds"] for test in tests)
    return Tested(revision, tries, round(spent, 3), round(boot, 3), place)


def _try(test: Mapping[str, Any]) -> Try:
    outcome = _OUTCOMES[test["verdict"]]
    known = signature(test) if outcome == "fail" else None
    return Try(test["name"], outcome, known, str(test["message"]))
