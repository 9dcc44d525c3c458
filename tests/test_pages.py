# SPDX-License-Identifier: GPL-2.0-or-later
"""Every page that the harness writes: nothing that a history, a console or a host says becomes
markup, and each page has a policy that would stop it if it did."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

import harness
from harness import page
from harness.arch import Arch
from harness.conformance.cells import catalogue
from harness.conformance.report import CellCoverage, Coverage
from harness.conformance.report import render as render_coverage
from harness.corpus import loop as corpus
from harness.corpus.judge import Cell
from harness.corpus.mutants import report as mutants_report
from harness.corpus.mutants.choose import Mutant
from harness.corpus.mutants.journal import MutantJournal
from harness.corpus.mutants.operators import Fault
from harness.corpus.mutants.outcome import Outcome
from harness.history.explain.picture import picture
from harness.history.format.record import Op, Via
from harness.interleave.force_orders import TriedOrder
from harness.interleave.order_runner import OrderOutcome, OrderResult, StepResult
from harness.interleave.page import PageHeader
from harness.interleave.page import render as render_scenario
from harness.interleave.scenarios import SCENARIOS
from harness.model.explore.interleavings import interleavings
from harness.model.findings import ReportSection, ReportTrace
from harness.nightly.dashboard import render_dashboard
from harness.nightly.detect import detect_findings
from harness.nightly.outcome import RunOutcome
from harness.nightly.store import Store
from harness.results import lines as lines_report
from harness.results import records
from harness.results.directory import RunDirectory, create
from harness.results.html import render_html
from harness.results.journal import Journal
from harness.results.manifest import Ingredient, write_manifest
from harness.results.model_page import html as render_model
from harness.results.store import load
from harness.verdict import Verdict
from tests.history.written import threads

# The hostile names are too long for the plots.
pytestmark = pytest.mark.filterwarnings("ignore:constrained_layout not applied")
HOME = Path(harness.__file__).parent
NAME = "javascript:\"'><script>alert(1)<!--<b onclick=x>"  # of hosts and streams: also of files
# What ends a text, an attribute, a style sheet, JSON, a comment; what a template would replace;
# what ends a line in a script; markup that is escaped already.
TEXT = (
    "\"'><script>alert(1)</script><img src=x onerror=alert(2)><!--<script>]]>@STORY@@DATA@@TITLE@"
    "{{ 7 * 7 }}{% raw %}\\\u2028;*{color:red}&lt;svg onload=alert(3)&gt;"
    "</script></style></title></pre></textarea><script>alert(5)</script>"
)


def _report(name: str, text: str, folder: Path) -> str:
    directory = create(folder / "run")
    console = directory.console(name)
    console.mkdir(parents=True)
    (console / f"{name}.log").write_text(f"2026-11-22T12:00:00Z {text}\n{text}\n", errors="replace")
    write_manifest(
        directory,
        seed=1,
        argv=(text,),
        hosts=(),
        ingredients=[Ingredient(text, text, text, text)],
    )
    patch, model = records.Patch(text, text, text), records.Model(text, text, text)
    rule = records.FoundRule(text, True, text, text)
    stamp = datetime(2026, 11, 22, 12, tzinfo=UTC)
    with Journal(directory.journal) as journal:
        for record in (
            records.RunStart(1, (text,), text, (name,)),
            records.HostStart(
                name,
                text,
                text,
                text,
                text,
                text,
                text,
                text,
                toolstack=text,
                toolstack_reason=text,
                series=(patch,),
                model=model,
                rules=(rule,),
            ),
            records.Phase(name, "load", 1.0),
            records.Test(name, text, Verdict.FAIL, 1.0, text, text, (text, "report.html")),
            records.Sample(name, 1.0, 1.0),
            records.Latency(name, text, text, 1, 1.0, 1.0, 1.0, 1.0),
            records.Domain(name, text, name, 1),
            records.ConsoleEvent(name, name, stamp, text, text),
            records.Leak(name, text, text, text),
            records.HostEnd(name, Verdict.FAIL, 1, text),
            records.RunEnd(Verdict.FAIL, 1.0, text),
        ):
            journal.append(record)
    return render_html(load(directory.path))


def _dashboard(name: str, text: str, folder: Path) -> str:
    keys = [(f"{name}{number}", name, name) for number in range(14)]  # so many are filtered
    with Store(folder / "store", write=True) as store:
        for start in (1e9, 1e9 + 86400):
            night = store.begin_night(text, keys, start, 60)
            for cell in store.cells(night.id):
                attempt = store.begin_attempt(cell)
                run = RunDirectory(store.home / attempt.run)
                console = run.console(name)
                console.mkdir(parents=True)
                (console / f"{name}.log").touch()
                (run.path / name).touch()
                run.report.touch()
                test = records.Test(name, text, Verdict.FAIL, 1.0, text, text, (name,))
                metrics = {"operations_per_second": 1.0, text: 2.0}
                outcome = RunOutcome(
                    Verdict.FAIL,
                    message=text,
                    arch=text,
                    flavour=text,
                    version=text,
                    source=text,
                    build=text,
                    tests=(test,),
                    metrics=metrics,
                )
                store.end_attempt(attempt, outcome, state="done")
            detect_findings(store, night)
            store.end_night(night.id, Verdict.FAIL, text)
        return render_dashboard(store)


def _corpus(name: str, text: str, folder: Path) -> str:
    corpus.write([Cell(name, name, False, text, "caught", explanation=text, tries=1)], folder)
    return (folder / corpus.PAGE).read_text()


def _mutants(name: str, text: str, folder: Path) -> str:
    fault = Fault("lock-moved", text, 0, 1, text, "statement")
    journal = MutantJournal(folder, {})
    journal.add(Outcome(1, text, "survived", name, text, text, tests=1))
    told = mutants_report.Told(name, text, text, 1)
    mutants_report.write(told, [Mutant(1, name, 1, fault, f"+{text}")], {}, journal, folder)
    return (folder / mutants_report.PAGE).read_text()


def _coverage(name: str, text: str, folder: Path) -> str:
    cells = list(catalogue())[:2]
    found = [
        CellCoverage(replace(cells[0], row=f"{name}: {text}"), (text,), ""),
        CellCoverage(replace(cells[1], row=f"{name}: {text}"), (), text),
    ]
    return render_coverage(Coverage(tuple(found), (text,)))


def _lines(name: str, text: str, folder: Path) -> str:
    source = lines_report.FileLines(f"{text}\n", frozenset({1}), frozenset({1}))
    found = lines_report.HostLines(name, text, text, {text: source})
    return lines_report.write([found], folder).read_text()


def _scenario(name: str, text: str, folder: Path) -> str:
    scenario = SCENARIOS["send-close"]
    order = next(iter(interleavings(scenario.system("counter", Arch.ARM64))))
    header = PageHeader(
        replace(scenario, name=name, description=text),
        name,
        text,
        text,
        text,
        text,
        text,
        text,
        12,
        2.0,
    )
    step = StepResult(0, text, False, text, {name: 0}, {name: 1}, text)
    result = OrderResult(OrderOutcome.MISMATCH, text, (step,), (0, None), 0.1, 9)
    return render_scenario(header, [TriedOrder(1, order, result)], {1: text})


def _model(name: str, text: str, folder: Path) -> str:
    trace = ReportTrace(text, (text,))
    return render_model((ReportSection(name, text, (text,), ((text,),), (trace,)),))


def _witness(name: str, text: str, folder: Path) -> str:
    history = threads((0, [(1, 2, Op.SEND, 1, 0, 0, Via.RAW)]))
    logs = tuple(replace(log, domain=text) for log in history.threads)
    return picture(history.columns, logs, 0, name, text)


# By the template, so that a new page must be here.
PAGES: dict[str, Callable[[str, str, Path], str]] = {
    "report.html.j2": _report,
    "dashboard.html.j2": _dashboard,
    "corpus.html.j2": _corpus,
    "mutants.html.j2": _mutants,
    "coverage.html.j2": _coverage,
    "lines.html.j2": _lines,
    "scenario.html.j2": _scenario,
    "model.html.j2": _model,
    "witness.html.j2": _witness,
}


class Outline(HTMLParser):
    """The elements of a page with the names of their attributes, its policy and what may run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, ...]] = []
        self.attributes: list[tuple[str, str]] = []
        self.policy: dict[str, list[str]] = {}
        self.inline: dict[str, list[str]] = {"style": [], "script": []}
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.elements.append((tag, *given))
        self.attributes += given.items()
        if given.get("http-equiv") == "Content-Security-Policy":
            assert self.inline == {"style": [], "script": []}, "it comes before what it judges"
            rules = (rule.split() for rule in given["content"].split(";"))
            self.policy = {name: values for name, *values in rules}
        is_data = given.get("type") == "application/json"
        self._inside = tag if tag in self.inline and not is_data else ""

    def handle_endtag(self, tag: str) -> None:
        self.elements.append((f"/{tag}",))
        self._inside = ""

    def handle_comment(self, data: str) -> None:
        self.elements.append(("comment",))

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.inline[self._inside].append(data)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every page, of a run in which everything is hostile."""
    return {
        template: make(NAME, TEXT, tmp_path_factory.mktemp("hostile"))
        for template, make in PAGES.items()
    }


@pytest.mark.parametrize("template", PAGES)
def test_no_tag_of_a_hostile_host_history_or_console_survives(
    template: str, pages: dict[str, str], tmp_path: Path
) -> None:
    """The page has the same elements, with the same attributes, as with a harmless name."""
    hostile, outline = pages[template], Outline(pages[template])
    assert outline.elements == Outline(PAGES[template]("host", "text", tmp_path)).elements
    assert "alert(1)" in hostile and "{{ 7 * 7 }}{% raw %}" in hostile, "text stays text"
    links = [value for name, value in outline.attributes if name in ("href", "src")]
    assert not [link for link in links if re.match(r"\s*[a-zA-Z][a-zA-Z0-9+.-]*:|//", link)]
    assert not [name for name, _ in outline.attributes if name.startswith("on")]
    assert "\u2028" not in "".join(outline.inline["script"])


@pytest.mark.parametrize("template", PAGES)
def test_every_page_has_a_policy_that_runs_only_our_own(
    template: str, pages: dict[str, str]
) -> None:
    outline = Outline(pages[template])
    assert outline.policy["default-src"] == ["'none'"]
    assert outline.policy["base-uri"] == outline.policy["form-action"] == ["'none'"]
    assert "unsafe" not in " ".join(outline.policy.get("script-src", []))
    assert outline.policy["style-src"] == [_hash(text) for text in outline.inline["style"]]
    assert outline.policy.get("script-src", []) == [_hash(t) for t in outline.inline["script"]]
    assert ("style-src-attr" in outline.policy) == (template == "report.html.j2")
    styled = [value for name, value in outline.attributes if name == "style"]
    assert bool(styled) == ("style-src-attr" in outline.policy), "no permission without need"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_there_is_no_other_page() -> None:
    templates = {path.name for path in HOME.rglob("*.html.j2")}
    assert templates == {*PAGES, "page.html.j2"}
    for path in HOME.rglob("*.html.j2"):
        text = path.read_text()
        assert "|safe" not in text.replace(" ", "") and "autoescape" not in text
        assert path.name == "page.html.j2" or '{% extends "page.html.j2" %}' in text


def test_nobody_makes_html_by_hand() -> None:
    for path in HOME.rglob("*.py"):
        text = path.read_text().lower()
        assert "<html" not in text and "<script" not in text and "<!doctype" not in text, path


def test_json_in_a_page_reads_back_and_cannot_end_its_element() -> None:
    text = page.json_text({"a": TEXT + "&\ud800"})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"a": TEXT + "&\ud800"}
