# SPDX-License-Identifier: GPL-2.0-or-later
"""report.html: what it says first, what it links, and that it needs nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.results.directory import RunDirectory, create
from harness.results.html import render_html, reproduce
from harness.results.journal import Journal
from harness.results.records import (
    ConsoleEvent,
    Domain,
    FoundRule,
    HostEnd,
    HostStart,
    Latency,
    Leak,
    Model,
    Patch,
    Phase,
    RunEnd,
    RunStart,
    Sample,
    Test,
)
from harness.results.store import load
from harness.verdict import Verdict

from . import runs

_VOID = {"meta", "link", "br", "hr", "img", "input"}
_NASTY = "<script>alert('x')</script> & \"quotes\" {{ 7 * 7 }} $x^{$ \x1b[31m\x00\ud800"


class _Page(HTMLParser):
    """A page taken apart: balanced or not, its links, its text by section."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.sections: dict[str, str] = {"": ""}
        self._section = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "section":
            self._section = given["id"] or ""
            self.sections[self._section] = ""
        self.ids += [value for name, value in attrs if name == "id" and value]
        assert "onclick" not in given
        assert tag not in ("script", "img", "iframe", "link")
        self.links += [value for name, value in attrs if name in ("href", "src") and value]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag
        if tag == "section":
            self._section = ""

    def handle_data(self, data: str) -> None:
        self.sections[self._section] += data


@dataclass
class _Case:
    directory: RunDirectory
    text: str
    page: _Page


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, _Case]:
    """The three runs, each rendered once."""
    made = {}
    for make in (runs.good, runs.failing, runs.interrupted):
        directory = make(tmp_path_factory.mktemp(make.__name__) / "r")
        text = render_html(load(directory.path))
        made[make.__name__] = _Case(directory, text, _Page(text))
    return made


def _page(directory: RunDirectory) -> _Page:
    return _Page(render_html(load(directory.path)))


def _title(page: _Page) -> str:
    return " ".join(page.sections[""].split())


@pytest.mark.parametrize("name", ["good", "failing", "interrupted"])
def test_the_page_loads_nothing_and_links_only_what_is_there(
    cases: dict[str, _Case], name: str
) -> None:
    page, text = cases[name].page, cases[name].text
    targets = [link for link in page.links if not link.startswith("#")]
    assert targets
    for target in targets:
        assert (cases[name].directory.path / target).is_file()
    assert not re.search(r"@import|url\((?!#)", text)
    assert len(page.ids) == len(set(page.ids))  # the plots' own ids, too
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_a_good_run_says_so_and_shows_no_trouble(cases: dict[str, _Case]) -> None:
    page = cases["good"].page
    assert "PASS Everything that was observed was allowed." in _title(page)
    assert "96,422 operations" in _title(page)
    assert set(page.sections) == {"", "hosts", "tests", "measurements", "consoles", "reproduce"}
    hosts = page.sections["hosts"]
    for fact in ("counter", runs.BUILD_ID, "4.17.6-pre", "arm64, tcg", "no svm or vmx"):
        assert fact in hosts


def test_a_failing_run_tells_the_story_first(cases: dict[str, _Case]) -> None:
    page = cases["failing"].page
    assert "FAIL qemu-x86_64: poll-leak: alloc_unbound never returned" in _title(page)
    order = list(page.sections)
    assert order[1:3] == ["troubles", "events"]
    assert order.index("leaks") < order.index("measurements")
    troubles = page.sections["troubles"]
    assert runs.STORY in troubles
    assert troubles.index("poll-of-free-port") < troubles.index("domu2's agent was cut off")
    assert "history/gone.parquet (not there)" in troubles
    assert "history/qemu-x86_64/witness-1.html" in page.links
    events = page.sections["events"]
    assert runs.PANIC in events
    assert "xen-panic" in events
    assert "<still> & there" in page.sections["leaks"]


def test_an_interrupted_run_says_where_and_shows_the_last_words(cases: dict[str, _Case]) -> None:
    page = cases["interrupted"].page
    assert "MISS qemu-x86_64: interrupted after agents" in _title(page)
    assert "The run was interrupted: this report shows the results until then" in _title(page)
    assert "cut off, dropped" in _title(page)
    assert "interrupted before it began" in page.sections["hosts"]
    assert "interrupted before it began" not in page.sections["troubles"]
    assert "line 89 <of> dom0" in page.sections["consoles"]


def test_a_running_run_says_so(tmp_path: Path) -> None:
    directory = create(tmp_path / "r")
    with Journal(directory.journal) as journal:
        journal.append(RunStart(1, ("x",), "0", ("a",)))
        assert "The run still goes on" in _title(_page(directory))


def test_an_empty_journal_still_gives_a_page(tmp_path: Path) -> None:
    directory = create(tmp_path / "r")
    directory.journal.touch()
    assert "MISS" in _title(_page(directory))


def test_whatever_the_records_hold_is_text_not_markup(tmp_path: Path) -> None:
    directory = create(tmp_path / "r")
    folder = directory.console(_NASTY.replace("/", "").replace("\0", ""))
    folder.parent.mkdir()
    host = folder.name.encode(errors="replace").decode()
    (folder.parent / host).mkdir()
    (folder.parent / host / "xen.log").write_text(f"2026-11-22T12:00:00Z {_NASTY[:-1]}\n")
    with Journal(directory.journal) as journal:
        for record in (
            RunStart(1, (_NASTY,), _NASTY, (host,)),
            HostStart(
                host,
                _NASTY,
                _NASTY,
                _NASTY,
                _NASTY,
                _NASTY,
                _NASTY,
                _NASTY,
                _NASTY,
                _NASTY,
                (Patch(_NASTY, _NASTY, _NASTY),),
                Model(_NASTY, _NASTY, _NASTY),
                (FoundRule(_NASTY, True, _NASTY, _NASTY),),
            ),
            Phase(host, _NASTY, 1.0),
            Phase(host, "load", 0.0),
            Test(host, _NASTY, Verdict.FAIL, 1.0, _NASTY, _NASTY, (_NASTY, "../../etc/passwd")),
            Sample(host, 0.0, 0.0),
            Latency(host, _NASTY, _NASTY, 1, 0.0, 0.0, 0.0, 0.0),
            Domain(host, _NASTY, _NASTY, 1),
            ConsoleEvent(host, "xen", datetime(2026, 11, 22, 12, tzinfo=UTC), _NASTY, _NASTY),
            ConsoleEvent(host, "xen", datetime(2026, 11, 22, tzinfo=UTC), _NASTY, _NASTY, False),
            Leak(host, _NASTY, _NASTY, _NASTY),
            HostEnd(host, Verdict.FAIL, 1, _NASTY),
            RunEnd(Verdict.FAIL, 1.0, _NASTY),
        ):
            journal.append(record)
    page = _page(directory)  # asserts that there is no <script>
    assert "<script>alert('x')</script>" in page.sections["troubles"]
    assert "{{ 7 * 7 }}" in page.sections["troubles"]
    assert "<script>alert('x')</script>" in page.sections["symptoms"]
    assert not any("passwd" in link for link in page.links)


def test_a_damaged_manifest_does_not_stop_the_report(tmp_path: Path) -> None:
    directory = create(tmp_path / "r")
    with Journal(directory.journal) as journal:
        journal.append(RunEnd(Verdict.PASS, 1.0))
    for content in ("{", "[]", "{}", '{"machine": {}, "ingredients": [{}]}'):
        directory.manifest.write_text(content)
        assert "PASS" in _title(_page(directory))


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (("/x/evtchn-harness", "run"), "evtchn-harness run --seed 7"),
        (("evtchn-harness", "run", "--seed", "9"), "evtchn-harness run --seed 9"),
        (("evtchn-harness", "run", "--seed=9", "--out=a b"), "evtchn-harness run --seed=9"),
        (("pytest", "testcases", "--out", "x", "-k", "a b"), "pytest testcases -k 'a b' --seed 7"),
        ((), ""),
    ],
)
def test_the_command_that_does_it_again(
    tmp_path: Path, argv: tuple[str, ...], command: str
) -> None:
    directory = create(tmp_path / "r")
    with Journal(directory.journal) as journal:
        journal.append(RunStart(7, argv, "0", ()))
    assert reproduce(load(directory.path)) == command
