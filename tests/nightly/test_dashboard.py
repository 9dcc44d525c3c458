# SPDX-License-Identifier: GPL-2.0-or-later
"""The page: what it shows of few nights and of many, and that all of its links lead somewhere."""

from __future__ import annotations

import re
import time
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.nightly import bench
from harness.nightly.dashboard import render_dashboard, write_dashboard
from harness.nightly.detect import detect_findings
from harness.nightly.sparkline import strip, trend
from harness.nightly.store import Store
from harness.verdict import ConfigError, Verdict
from tests.nightly.fake import FakeResult, FakeRunner, night, night_with_reports, plan


def test_every_link_leads_to_a_file(tmp_path: Path) -> None:
    runner = FakeRunner(
        lambda cell: FakeResult({"load": Verdict.FAIL if cell.host.name == "h1" else Verdict.PASS})
    )
    with Store(tmp_path, write=True) as store:
        night_with_reports(plan(), store, runner)
        night_with_reports(plan(), store, runner)
        page = write_dashboard(store).read_text()
    links = [unquote(link) for link in re.findall(r'href="([^"#]+)"', page)]
    assert any(link.endswith("witness-1.html") for link in links)
    assert any(link.endswith("summary.txt") for link in links)
    assert [link for link in links if not (tmp_path / link).is_file()] == []
    strips = re.findall(r'<svg class="strip".*?</svg>', page)
    assert sum(strip.count("<a href") for strip in strips) == 2  # both bad nights of h1
    # it loads nothing from anywhere
    assert "http" not in page.replace("http-equiv", "")


def test_runs_may_be_deleted(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        night(plan(), store, FakeRunner())
        for file in sorted(tmp_path.glob("nights/**/*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        page = render_dashboard(store)
    assert "report.html" not in page and 'class="tile pass"' in page


def test_what_a_run_says_cannot_break_the_page(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script>'
    with Store(tmp_path, write=True) as store:
        night(
            plan(), store, FakeRunner(lambda cell: FakeResult({"load": Verdict.FAIL}, message=evil))
        )
        assert "<script>" not in render_dashboard(store)


def test_an_empty_store_has_no_page(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store, pytest.raises(ConfigError, match="no night yet"):
        render_dashboard(store)


@pytest.mark.slow
def test_a_big_lab(tmp_path: Path) -> None:
    """A tenth of what ``bench dashboard`` makes, with what was planted in it."""
    bench.fill_store(tmp_path, 100, 60)
    with Store(tmp_path, write=True) as store:
        found = detect_findings(store, store.nights(1)[0])
        began = time.monotonic()
        page = write_dashboard(store).read_text()
        assert time.monotonic() - began < 5
    slower = {f.host for f in found if f.judgement.kind == "slower"}
    assert slower == {f"host{number:04}" for number in range(5, 10)}
    failing = {f.host for f in found if f.judgement.kind == "failing" and f.name == "test-0"}
    assert failing == {f"host{number:04}" for number in range(5)}
    assert page.count('<tr class="row" data-host="host0099"') == 2  # matrix and trends


@given(
    st.lists(
        st.sampled_from([("", ""), ("PASS", ""), ("FAIL", "a"), ("FAIL", "b?x=1&y"), ("MISS", "")]),
        max_size=40,
    )
)
def test_a_strip_shows_every_night_and_its_link(nights: list[tuple[str, str]]) -> None:
    picture = ElementTree.fromstring(strip(nights))
    shown = [("", "")] * len(nights)
    for part in picture:
        (tile,) = part if part.tag == "a" else [part]
        x, width = int(tile.get("x", "")), int(tile.get("width", ""))
        for index in range(x // 7, (x + width + 1) // 7):
            shown[index] = (tile.get("class") or "").upper(), part.get("href") or ""
    assert shown == nights


@given(
    st.dictionaries(st.integers(0, 59), st.floats(1e-3, 1e9), min_size=1),
    st.one_of(st.none(), st.integers(0, 59)),
)
def test_a_trend_stays_within_its_frame(values: dict[int, float], since: int | None) -> None:
    picture = ElementTree.fromstring(trend(values, 60, since))
    (line,) = picture.iter("polyline")
    for point in (line.get("points") or "").split():
        x, y = map(float, point.split(","))
        assert 0 <= x <= float(picture.get("width", "0"))
        assert 0 <= y <= float(picture.get("height", "0"))
    assert len(list(picture.iter("path"))) == (since is not None)
