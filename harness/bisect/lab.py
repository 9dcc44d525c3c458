"""The real Builder and Machine: children of ours that build, boot and test a revision."""

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
from harness.bisect.repository import Repository
from harness.bisect.signature import signature
from harness.bisect.tally import BOOT, Built, Outcome, Tested, Try
from harness.config.options import RunOptions, XenOptions
from harness.hypervisor import flavour as flavours
from harness.hypervisor.loaded_sections import digest_loaded
from harness.results.directory import RunDirectory
from harness.results.document import run_document
from harness.results.store import load
from harness.run import child
from harness.scratch import scratch
from harness.verdict import BuildError, ConfigError, LabError, Verdict

_NICE = 10  # the machine under test must not wait for a compiler
_AROUND = ("teardown", "nothing-leaked")  # no tries: they come once a boot, not once a test
_OUTCOMES: dict[str, Outcome] = {
    Verdict.PASS: "pass",
    Verdict.FAIL: "fail",
    Verdict.MISS: "fault",
    Verdict.ERROR: "fault",
}


@dataclass
class Trees:
    """What to build for a revision, and how: options for the children."""

    repository: Repository
    top: str  # the bad end, on which a culprit is taken back
    _found: dict[str, XenOptions] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def options(self, revision: str) -> XenOptions:
        """Return the options that name the tree of ``revision`` and the flavour that it is.

        BuildError where the commit has no tree that could be built, or does not revert.
        """
        with self._lock:
            if revision not in self._found:
                self._found[revision] = self._find(revision)
            return self._found[revision]

    def _find(self, revision: str) -> XenOptions:
        try:
            if revision.startswith(REVERT):
                with scratch() as folder:
                    culprit = revision.removeprefix(REVERT)
                    source = self.repository.reverted(culprit, self.top, folder)
                where = XenOptions(xen_src=source.tree)
            else:
                source = self.repository.source(revision)
                where = XenOptions(xen_git=str(self.repository.home), xen_ref=revision)
        except ConfigError as error:  # no xen/Makefile in that commit, say
            raise BuildError(error.what, where=error.where) from error
        return replace(where, flavour=flavours.as_it_stands(source.tree))


class Builds:
    """Builds revisions in children: the one that is wanted, and meanwhile the next ones."""

    def __init__(self, trees: Trees, arch: Arch) -> None:
        self._trees = trees
        self._arch = arch
        self._ahead: _Ahead | None = None

    def build(self, revision: str) -> Built:
        """Build ``revision``, or wait for it if that has begun."""
        if self._ahead is not None and self._ahead.now != revision:
            self.close()
        with self.started(revision) as started:
            document = child.read(child.wait(started))
        if "build_id" in document:
            return _built(revision, document)
        message = str(document.get("error", "the build ended without a word"))
        if document.get("kind") in ("BuildError", "ConfigError"):
            raise BuildError(message)
        if document.get("kind") == "Interrupted":
            raise KeyboardInterrupt
        raise LabError(message)

    def ahead(self, revisions: Iterable[str]) -> None:
        """Build ``revisions`` into the cache, slowly, in the background."""
        self.close()
        self._ahead = _Ahead(self, list(revisions))

    def close(self) -> None:
        """End what is built in the background."""
        if self._ahead is not None:
            self._ahead.stop()
        self._ahead = None

    @contextmanager
    def started(self, revision: str, *, nice: int = 0) -> Iterator[subprocess.Popen[bytes]]:
        """Start a child that builds ``revision``; BuildError where there is nothing to build."""
        words = ["build", f"--arch={self._arch}"]
        options = self._trees.options(revision)
        with child.started(words, options, nice=nice, quiet=True) as started:
            yield started  # its document says it all


class _Ahead:
    """A thread that builds one revision after the other until it is stopped.

    What a build says is for the one who asks for that revision: here only the cache matters.
    """

    def __init__(self, builds: Builds, revisions: Sequence[str]) -> None:
        self.now = ""
        self._builds = builds
        self._wanted: queue.SimpleQueue[str] = queue.SimpleQueue()
        for revision in revisions:
            self._wanted.put(revision)
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="build ahead", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the child and the thread."""
        with self._lock:
            self._stopped = True
            if self._running is not None:
                self._running.terminate()
        self._thread.join()

    def _work(self) -> None:
        while not self._wanted.empty():
            revision = self._wanted.get()
            with ExitStack() as stack:
                with self._lock:
                    if self._stopped:
                        return
                    self.now = revision
                    try:
                        started = self._builds.started(revision, nice=_NICE)
                        self._running = stack.enter_context(started)
                    except (BuildError, LabError):
                        continue
                self._running.communicate()
                with self._lock:
                    self.now, self._running = "", None


def _built(revision: str, document: Mapping[str, Any]) -> Built:
    digest = digest_loaded(Path(document["syms"]), document["build_id"], document["source_digest"])
    return Built(revision, digest, float(document["seconds"]))


class Runs:
    """Runs the chosen tests, or a forced scenario, on a revision, each run in a directory of
    its own."""

    def __init__(
        self,
        trees: Trees,
        *,
        options: RunOptions,
        tests: Sequence[str],
        scenario: str = "",
        out: Path,
    ) -> None:
        self._trees = trees
        self._options = options
        self._tests = tests
        self._scenario = scenario
        self._out = out
        self._each = 1.0  # tries that one repetition of the tests is

    def test(self, revision: str, tries: int, on: bool) -> Tested:
        """Boot ``revision`` once and test it so often, or until it fails."""
        repeat = max(1, math.ceil(tries / self._each))
        place = self._place(revision)
        options = replace(self._options, repeat=repeat, out=place)
        options = options.with_xen(self._trees.options(revision))
        if self._scenario:
            child.run(options, [self._scenario], of=("interleave", "run"))
            return of_document(revision, _kept(place), str(place))
        options = replace(options, snapshot=True, keep_going=on)
        tested = of_document(revision, child.run(options, self._tests), str(place))
        counted = [one for one in tested.tries if one.test != BOOT]
        if len(counted) >= repeat and all(one.outcome == "pass" for one in counted):
            self._each = len(counted) / repeat
        return tested

    def _place(self, revision: str) -> Path:
        """Return a new directory: a run that was killed keeps its own."""
        name = revision.removeprefix(REVERT)[:12] + ("-reverted" if ":" in revision else "")
        taken = len(list(self._out.glob("*"))) if self._out.is_dir() else 0
        return self._out / f"{taken + 1:03}-{name}"


def _kept(place: Path) -> Mapping[str, Any]:
    """Return the document of the run in ``place``, {} if it did not get that far."""
    return run_document(load(place)) if RunDirectory(place).journal.exists() else {}


def of_document(revision: str, document: Mapping[str, Any], place: str) -> Tested:
    """Return what the document of ``run --json`` says of ``revision``."""
    hosts = document.get("hosts") or []
    tests = hosts[0]["tests"] if hosts else []
    tries = tuple(
        _try(test) for test in tests if test["verdict"] in _OUTCOMES and test["name"] not in _AROUND
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
