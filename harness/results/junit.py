# SPDX-License-Identifier: GPL-2.0-or-later
"""junit.xml: the results of a run for CI servers; one suite per host.

Two consumers are strict.  Jenkins' xUnit plugin takes only what its junit-10.xsd has, and GitLab
shows the first of several cases with one classname and name: a later FAIL would not be seen.
"""

from __future__ import annotations

import itertools
import re
from io import BytesIO

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from harness.results.directory import write_whole
from harness.results.records import Test
from harness.results.store import HostRun, Run
from harness.verdict import Verdict, combine

# XML 1.0 forbids control characters and lone surrogates, which consoles often print.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PROPERTIES = ("arch", "accel", "flavour", "xen_version", "build_id", "source")


def write_junit(run: Run) -> None:
    """Write junit.xml of ``run``; LabError if it cannot be written."""
    write_whole(run.directory.junit, render_junit(run))


def render_junit(run: Run) -> str:
    """Return junit.xml: FAIL is a failure, ERROR and MISS are errors, SKIP is skipped."""
    document = JUnitXml("evtchn-harness")
    for host in run.hosts:
        suite = TestSuite(_clean(host.name))
        suite.timestamp = run.started.isoformat(timespec="seconds") if run.started else None
        for name in _PROPERTIES:
            suite.add_property(name, _clean(getattr(host, name)))
        suite.add_property("seed", str(run.seed))
        taken: set[str] = set()
        for test in (*host.tests, *_host_itself(host)):
            suite.add_testcase(_case(host, test, _unique(_one_line(test.name), taken)))
        suite.update_statistics()
        suite.time = round(suite.time, 3)  # never 1e-05, which is no time in the schema
        document.add_testsuite(suite)
    # Not by update_statistics(): it counts "skipped" here, which the schema does not have.
    for count in ("tests", "failures", "errors"):
        setattr(document, count, sum(getattr(suite, count) for suite in document))
    document.time = round(sum(suite.time for suite in document), 3)
    sink = BytesIO()
    document.write(sink, pretty=True)
    return sink.getvalue().decode()


def _host_itself(host: HostRun) -> list[Test]:
    """Return a test case for the host itself if its verdict comes from no test, else none."""
    if host.tests and combine(test.verdict for test in host.tests) is host.verdict:
        return []
    return [Test(host.name, "host", host.verdict, sum(host.seconds.values()), host.message)]


def _unique(name: str, taken: set[str]) -> str:
    """Return ``name``, or "NAME [2]" and so on if it is ``taken``; it is taken then."""
    names = itertools.chain([name], (f"{name} [{number}]" for number in itertools.count(2)))
    chosen = next(each for each in names if each not in taken)
    taken.add(chosen)
    return chosen


def _case(host: HostRun, test: Test, name: str) -> TestCase:
    seconds = max(0.0, round(test.seconds, 3))  # a clock that was set back: the schema has no sign
    case = TestCase(name, f"evtchn-harness.{_clean(host.name)}", seconds)
    message = _clean(test.message) or test.verdict.value
    match test.verdict:
        case Verdict.FAIL:
            outcome = Failure(message, test.verdict.value)
        case Verdict.ERROR | Verdict.MISS:
            outcome = Error(message, test.verdict.value)
        case Verdict.SKIP:
            outcome = Skipped(message, test.verdict.value)
        case Verdict.PASS | Verdict.DONE:
            outcome = None
    if outcome is not None:
        outcome.text = _clean(test.story)
        case.result = [outcome]
    if test.artifacts:
        case.system_out = "\n".join(_clean(path) for path in test.artifacts)
    return case


def _one_line(name: str) -> str:
    """Return ``name`` without white space that a reader of attributes would take for another's."""
    return " ".join(_clean(name).split())


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
