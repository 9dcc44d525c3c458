# SPDX-License-Identifier: GPL-2.0-or-later
"""JUnit: a run whose tests have the names and results of the case, written again by us.

Held against what the two consumers take: the elements and attributes of Jenkins' xUnit plugin
(its junit-10.xsd), and GitLab, which shows the first of several cases with the same name only.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from harness.results.directory import create
from harness.results.journal import Journal
from harness.results.junit import render_junit
from harness.results.records import HostEnd, RunEnd, RunStart, Test
from harness.results.store import load
from harness.verdict import Verdict, combine
from tests.field.case import Case

_ATTRIBUTES = {
    "testsuites": {"name", "time", "tests", "failures", "errors"},
    "testsuite": {
        *("name", "tests", "failures", "errors", "group", "time", "skipped", "timestamp"),
        *("hostname", "id", "package", "file", "log", "url"),
    },
    "testcase": {"name", "time", "classname", "group"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "skipped": {"type", "message"},
    "properties": set(),
    "property": {"name", "value"},
    "system-out": set(),
    "system-err": set(),
}
_OUTPUT = {"system-out", "system-err"}
_CHILDREN = {  # in any order, in that schema
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase", *_OUTPUT},
    "testcase": {"skipped", "error", "failure", *_OUTPUT},
    "properties": {"property"},
}
_REQUIRED = {"testsuite": {"name", "tests", "failures", "errors"}, "testcase": {"name"}}
_TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?")
_VERDICTS = {"failure": Verdict.FAIL, "error": Verdict.ERROR, "skipped": Verdict.SKIP}


def judge(case: Case, folder: Path, _patch: pytest.MonkeyPatch) -> None:
    """Judge junit.xml of the run that the case's XML tells of."""
    told = ElementTree.fromstring(case.path.read_bytes())
    directory = create(folder / "run")
    verdicts = []
    with Journal(directory.journal) as journal:
        journal.append(RunStart(1, ("x",), "0", ("h",)))
        for item in told.iter("testcase"):
            verdicts.append(next((_VERDICTS[part.tag] for part in item), Verdict.PASS))
            seconds = float(item.get("time", "0"))
            journal.append(Test("h", item.get("name", ""), verdicts[-1], seconds, "m"))
        journal.append(HostEnd("h", combine(verdicts), 1))
        journal.append(RunEnd(combine(verdicts), 0.00001))
    written = render_junit(load(directory.path)).encode()
    assert len(written) < 30 << 20  # GitLab reads no larger file
    root = ElementTree.fromstring(written)
    _fits_jenkins(root)
    cases = list(root.iter("testcase"))
    assert len(cases) == len(verdicts)
    assert _seen_by_gitlab(root) == verdicts
    assert cases[0].get("name") == next(told.iter("testcase")).get("name")
    for name in re.findall(r"'([^']+)'", case.wanted):
        assert name in [item.get("name") for item in cases]


def _seen_by_gitlab(root: ElementTree.Element) -> list[Verdict]:
    """Return the verdicts that it shows: of cases with one classname and name, the first's."""
    seen: dict[tuple[str | None, str | None], Verdict] = {}
    for item in root.iter("testcase"):
        of = [_VERDICTS[part.tag] for part in item if part.tag in _VERDICTS]
        seen.setdefault((item.get("classname"), item.get("name")), *(of or [Verdict.PASS]))
    return list(seen.values())


def _fits_jenkins(root: ElementTree.Element) -> None:
    for element in root.iter():
        assert set(element.attrib) <= _ATTRIBUTES[element.tag], (element.tag, element.attrib)
        assert set(element.attrib) >= _REQUIRED.get(element.tag, set())
        assert {child.tag for child in element} <= _CHILDREN.get(element.tag, set()), element.tag
        if element.tag in ("testsuites", "testsuite", "testcase"):
            assert _TIME.fullmatch(element.get("time", "")), element.attrib
