# SPDX-License-Identifier: GPL-2.0-or-later
"""junit.xml, parsed back: what a CI server will make of it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from harness.results.directory import create
from harness.results.journal import Journal
from harness.results.junit import render_junit, write_junit
from harness.results.records import HostEnd, RunEnd, RunStart, Test
from harness.results.store import load
from harness.verdict import Verdict

from . import runs


def _suites(path: Path) -> dict[str, TestSuite]:
    run = load(path)
    write_junit(run)
    return {suite.name: suite for suite in JUnitXml.fromfile(str(run.directory.junit))}


def _cases(suite: TestSuite) -> dict[str, TestCase]:
    return {case.name: case for case in suite}


def test_one_suite_per_host_with_what_it_ran_on(tmp_path: Path) -> None:
    suites = _suites(runs.good(tmp_path / "r").path)
    assert list(suites) == list(runs.HOSTS)
    suite = suites["qemu-arm64"]
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (6, 0, 0, 1)
    properties = {entry.name: entry.value for entry in suite.properties()}
    assert properties["build_id"] == runs.BUILD_ID
    assert properties["flavour"] == "counter"
    assert properties["seed"] == "7"


@pytest.mark.parametrize(
    ("verdict", "result"),
    [
        (Verdict.FAIL, Failure),
        (Verdict.ERROR, Error),
        (Verdict.MISS, Error),
        (Verdict.SKIP, Skipped),
        (Verdict.PASS, None),
        (Verdict.DONE, None),
    ],
)
def test_each_verdict_becomes_its_element(
    tmp_path: Path, verdict: Verdict, result: type | None
) -> None:
    directory = create(tmp_path / "r")
    with Journal(directory.journal) as journal:
        journal.append(RunStart(1, ("x",), "0", ("a",)))
        journal.append(Test("a", "t", verdict, 1.25, "the reason", "the\nstory", ("w.html",)))
        journal.append(HostEnd("a", verdict, 1))
        journal.append(RunEnd(verdict, 1.0))
    (case,) = _suites(directory.path)["a"]
    assert (case.name, case.classname, case.time) == ("t", "evtchn-harness.a", 1.25)
    assert case.system_out == "w.html"
    if result is None:
        assert case.result == []
    else:
        (found,) = case.result
        assert type(found) is result
        assert isinstance(found, Failure | Error | Skipped)
        assert (found.message, found.type, found.text) == ("the reason", verdict, "the\nstory")


def test_an_interrupted_run_is_not_green(tmp_path: Path) -> None:
    """Every test that ended had passed; the host itself is the error."""
    suites = _suites(runs.interrupted(tmp_path / "r").path)
    for suite, message in zip(
        suites.values(), ("interrupted after agents", "interrupted before it began"), strict=True
    ):
        (found,) = _cases(suite)["host"].result
        assert isinstance(found, Error)
        assert found.message == message
        assert suite.errors == 1


def test_a_host_that_its_tests_explain_is_no_case_of_its_own(tmp_path: Path) -> None:
    suite = _suites(runs.failing(tmp_path / "r").path)["qemu-x86_64"]
    assert list(_cases(suite)) == ["poll-of-free-port", "loopback", "domu-domu"]
    assert (suite.failures, suite.errors) == (1, 1)


def test_what_a_console_prints_cannot_break_the_xml(tmp_path: Path) -> None:
    directory = create(tmp_path / "r")
    nasty = "\x1b[31m<&>]]>\x00\ufffe\ud800\x0b ok"
    with Journal(directory.journal) as journal:
        journal.append(Test("a", nasty, Verdict.FAIL, 1.0, nasty, nasty, (nasty,)))
    text = render_junit(load(directory.path))
    root = ElementTree.fromstring(text.encode())
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.text is not None
    assert "<&>]]>" in failure.text
    assert failure.text.endswith(" ok")


def _repeated(folder: Path) -> JUnitXml:
    directory = create(folder)
    with Journal(directory.journal) as journal:
        for name, verdict in (
            ("close", Verdict.PASS),
            ("close [2]", Verdict.PASS),  # a name of its own
            ("close", Verdict.FAIL),
            ("close", Verdict.SKIP),
        ):
            journal.append(Test("a", name, verdict, 0.000002, "lost"))
        journal.append(HostEnd("a", Verdict.FAIL, 1))
        journal.append(RunEnd(Verdict.FAIL, 1.0))
    write_junit(load(directory.path))
    return JUnitXml.fromfile(str(directory.junit))


def test_a_repeated_test_that_fails_the_second_time_is_seen(tmp_path: Path) -> None:
    """GitLab keeps the first case of each classname and name."""
    (suite,) = _repeated(tmp_path / "r")
    cases = {(case.classname, case.name): case.result for case in suite}
    assert [name for _, name in cases] == ["close", "close [2]", "close [3]", "close [4]"]
    (failure,) = cases["evtchn-harness.a", "close [3]"]
    assert isinstance(failure, Failure)


def test_jenkins_schema_has_all_that_is_written(tmp_path: Path) -> None:
    """junit-10.xsd: no skipped on testsuites, and a time is digits with a point."""
    document = _repeated(tmp_path / "r")
    text = (tmp_path / "r/junit.xml").read_text()
    root = ElementTree.fromstring(text.encode())
    assert set(root.attrib) == {"name", "tests", "failures", "errors", "time"}
    assert (document.tests, document.failures, document.errors) == (4, 1, 0)
    for element in (root, *root):
        assert re.fullmatch(r"\d+\.\d+", element.attrib["time"])
