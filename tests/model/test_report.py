# SPDX-License-Identifier: GPL-2.0-or-later
"""The report, the bench and the command line of the model."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.cli import main
from harness.model import bench, findings
from harness.model.findings import ReportSection, ReportTrace, build_report
from harness.model.lock.scenarios import Bounds
from harness.model.report import text
from harness.results.model_page import html


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["model", *words])
    said = capsys.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, said.out, said.err


class _Outline(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.rows = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [str(v) for name, v in attrs if name in ("src", "href")]
        self.rows += tag == "tr"
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_page_is_self_contained_and_escaped() -> None:
    section = ReportSection(
        "A < B", "why & how", ("x",), (("<1>",), ("refuted",)), (ReportTrace("t", ("L<2",)),)
    )
    page = html((section,))
    outline = _Outline()
    outline.feed(page)
    assert not outline.open and not outline.links and outline.rows == 3
    assert "A &lt; B" in page and "L&lt;2" in page and "why &amp; how" in page
    assert 'class="bad"' in page
    assert "refuted" in text((section,))


def test_a_report_is_made_of_parts_in_a_fixed_order(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = tuple(part for part in findings._PARTS if part[0] in ("Lock order", "Litmus tests"))
    assert len(cheap) == 2 and len(findings._PARTS) == 9
    monkeypatch.setattr(findings, "_PARTS", cheap)
    heard: list[str] = []
    made = build_report(heard.append)
    assert heard == [section.title for section in made] == ["Lock order", "Litmus tests"]
    assert "DIFFERS" not in text(made)
    assert "event_lock(d) -> channel lock -> vm_event lock -> event_lock(d)" in text(made)


def test_check_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("check", "--flavour", "counter-v2", "--readers", "2", "--writers", "1", "--json")
    code, out, _ = run(capsys, *words, "--unreduced")
    document = json.loads(out)
    assert code == 1
    keys = ("flavour", "readers", "writers", "memory", "states", "exhausted", "seconds")
    assert [document[key] for key in keys[:4]] == ["counter-v2", 2, 1, "sc"]
    assert set(keys) <= set(document)
    assert document["states_unreduced"] > 0
    assert {v["name"] for v in document["violations"]} >= {"poll-leak", "virq-vcpu0"}
    code, out, _ = run(capsys, *words)
    assert "states_unreduced" not in json.loads(out)


def test_check_of_a_good_flavour_exits_0_and_a_stopped_one_3(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = run(capsys, "check", "--flavour", "rwlock", "--readers", "2", "--writers", "1")
    assert code == 0 and "proved" in out
    code, out, _ = run(capsys, "check", "--readers", "30", "--max-states", "100")
    assert code == 3 and "not exhausted" in out and "proved" not in out
    code, out, _ = run(capsys, "check", "--readers", "64", "--max-memory", "1")
    assert code == 3 and "NOT EXHAUSTED" in out


def test_too_many_threads_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("check", "--flavour", "rwlock", "--readers", "4000", "--writers", "60")
    code, _, err = run(capsys, *words)
    assert code == 2 and "ask for fewer" in err


def test_nobody_at_all_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "check", "--readers", "0", "--writers", "0")
    assert code == 2 and "nobody uses the lock" in err


def test_a_trace_of_what_does_not_fail_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "trace", "--readers", "1")
    assert code == 0 and "nothing fails" in out


def test_trace_of_one_violation(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "trace", "--flavour", "counter-v2", "--name", "virq-vcpu0")
    assert code == 0 and "send_guest_global_virq" in out and "poll" not in out
    code, out, _ = run(capsys, "trace", "--flavour", "counter-v2", "--json", "--name", "poll-leak")
    assert code == 0 and json.loads(out)[0]["name"] == "poll-leak"
    code, _, err = run(capsys, "trace", "--flavour", "counter-v2", "--name", "nonsense")
    assert code == 2 and "poll-leak" in err


def test_export(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "export", "--to", "promela", "--flavour", "rwlock")
    assert code == 0 and "active [3] proctype send_0()" in out
    target = tmp_path / "m.pml"
    assert run(capsys, "export", "--to", "promela", "--output", str(target))[0] == 0
    assert "#define W 8192" in target.read_text()
    code, _, err = run(capsys, "export", "--to", "promela", "--output", str(tmp_path / "no" / "m"))
    assert code == 3 and "cannot write" in err


def test_report_writes_the_page_and_prints_the_text(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cheap = tuple(part for part in findings._PARTS if part[0] == "Lock order")
    monkeypatch.setattr(findings, "_PARTS", cheap)
    page = tmp_path / "page.html"
    code, out, err = run(capsys, "report", "--output", str(page))
    assert code == 0 and "Lock order" in out and "Lock order" in err
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_the_bench_gives_figures_with_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "BOUNDS", Bounds(16, 2))
    figures = bench.run()
    assert figures["exhausted"] == 1 and figures["violations"] == 0
    assert figures["states_unreduced"] > figures["states"] > 1000
    assert figures["states_per_second"] == pytest.approx(figures["states"] / figures["seconds"])
    assert figures["peak_rss_bytes"] > 1 << 20
