# SPDX-License-Identifier: GPL-2.0-or-later
"""The findings of many nights in a row, while the hypervisor changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from kcidb_io import schema

from harness.config.nightly import Cell, Kcidb, Suite
from harness.nightly.dashboard import render_dashboard
from harness.nightly.detect import Finding, read_findings
from harness.nightly.loop import open_night
from harness.nightly.night_report import read_night
from harness.nightly.report_files import document, write_night
from harness.nightly.store import Store
from harness.verdict import HarnessError, LabError, Verdict
from tests.nightly.fake import FakeResult, FakeRunner, night, night_with_reports, plan

pytestmark = pytest.mark.slow

PASS, FAIL, MISS = Verdict.PASS, Verdict.FAIL, Verdict.MISS


class Lab:
    """Hosts whose hypervisor has a new build from night ``new_on`` on, which is what is given."""

    def __init__(self, *, new_on: int = 99, slower: float = 1.0, breaks: bool = False) -> None:
        self.night = 0
        self._new_on, self._slower, self._breaks = new_on, slower, breaks
        self._noise = np.random.default_rng(42)

    def __call__(self, cell: Cell) -> FakeResult:
        is_new = self.night >= self._new_on
        noise = np.exp(self._noise.normal(0, 0.03, 2))
        slow = self._slower if is_new else 1.0
        return FakeResult(
            {"load": FAIL if is_new and self._breaks else PASS, "close": PASS},
            build=("bb" if is_new else "aa") * 20,
            rate=float(1000 * noise[0] / slow),
            latency=float(10 * noise[1] * slow),
        )


def _nights(home: Path, lab: Lab, count: int) -> list[list[Finding]]:
    """Return the findings of each of ``count`` nights."""
    found = []
    with Store(home, write=True) as store:
        for lab.night in range(count):
            done = night(plan(), store, FakeRunner(lab))
            found.append(read_findings(store, done))
    return found


def test_twenty_nights_of_the_same_build_say_nothing(tmp_path: Path) -> None:
    assert _nights(tmp_path, Lab(), 20) == [[]] * 20


def test_a_planted_slow_down_of_a_fifth_is_found_and_stays(tmp_path: Path) -> None:
    nights = _nights(tmp_path, Lab(new_on=12, slower=1.25), 20)
    first = next(number for number, found in enumerate(nights) if found)
    assert 14 <= first <= 16
    told = {(f.host, f.name) for f in nights[19]}
    for host in ("h1", "h2"):
        assert (host, "operations_per_second") in told
        assert (host, "send.domu.p50_us") in told and (host, "send.dom0.p50_us") in told
    for finding in nights[19]:
        assert finding.judgement.kind == "slower" and not finding.is_new
        assert (finding.judgement.build_before, finding.judgement.build_after) == (
            "aa" * 20,
            "bb" * 20,
        )
        value = finding.judgement.value or 0
        assert 0.75 < (value if finding.name == "operations_per_second" else 1 / value) < 0.85


def test_a_planted_regression_is_new_once_then_known_then_fixed(tmp_path: Path) -> None:
    lab = Lab(new_on=3, breaks=True)
    nights = _nights(tmp_path, lab, 5)
    assert nights[:3] == [[], [], []]
    assert {(f.host, f.name, f.judgement.kind, f.is_new) for f in nights[3]} == {
        ("h1", "load", "failing", True),
        ("h2", "load", "failing", True),
    }
    assert [f.is_new for f in nights[4]] == [False, False]

    def mended(cell: Cell) -> FakeResult:
        return FakeResult({"load": PASS, "close": PASS}, build="cc" * 20)

    with Store(tmp_path, write=True) as store:
        fixed = read_findings(store, night(plan(), store, FakeRunner(mended)))
        quiet = read_findings(store, night(plan(), store, FakeRunner(mended)))
    assert {(f.host, f.name, f.judgement.kind) for f in fixed} == {
        ("h1", "load", "fixed"),
        ("h2", "load", "fixed"),
    }
    assert quiet == []


def _always(told: FakeResult) -> Callable[[Cell], FakeResult]:
    return lambda cell: told


def test_a_night_on_which_the_lab_failed_neither_breaks_nor_mends(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        asked = plan(hosts=("h1",), retries=0)
        for told in (
            FakeResult({"load": PASS}),
            FakeResult({"load": FAIL}, build="bb" * 20),
            FakeResult({"boot": MISS}, build="cc" * 20),
        ):
            done = night(asked, store, FakeRunner(_always(told)))
        (finding,) = read_findings(store, done)
    assert (finding.judgement.kind, finding.is_new, finding.name) == ("failing", False, "load")


def test_what_a_console_complains_of_is_a_finding(tmp_path: Path) -> None:
    found = []
    with Store(tmp_path, write=True) as store:
        for build, warnings in (("aa", 0), ("bb", 3), ("bb", 1), ("cc", 0)):
            told = FakeResult(build=build * 20, warnings=warnings)
            done = night(plan(hosts=("h1",)), store, FakeRunner(_always(told)))
            found.append([(f.name, f.judgement.text, f.is_new) for f in read_findings(store, done)])
            page = render_dashboard(store)
            assert ("Xen WARN at x.c:1" in page) is bool(warnings)
    name = "xen console: warning"
    assert found == [
        [],
        [(name, "Xen WARN at x.c:1 (3 times)", True)],
        [(name, "Xen WARN at x.c:1", False)],
        [],
    ]


def test_a_cell_that_left_the_plan_leaves_the_findings(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        bad = FakeRunner(lambda cell: FakeResult({"load": FAIL}))
        night(plan(hosts=("h1", "h2")), store, bad)
        done = night(plan(hosts=("h1",)), store, bad)
        assert {f.host for f in read_findings(store, done)} == {"h1"}


def _mixed(cell: Cell) -> FakeResult | HarnessError:
    match cell.host.name:
        case "bad":
            return FakeResult({"load": FAIL, "close": PASS}, message="port 7 <lost> an event\x00")
        case "broken":
            return LabError("the place is taken")
        case _:
            return FakeResult({"load": PASS, "close": Verdict.SKIP})


def test_every_report_tells_the_night(tmp_path: Path) -> None:
    suites = [Suite(name="load"), Suite(name="long", duration=86400)]
    asked = plan(hosts=("good", "bad", "broken"), suites=suites, retries=0)
    with Store(tmp_path, write=True) as store:
        folder = night_with_reports(asked, store, FakeRunner(_mixed))
        report = read_night(store, store.nights(1)[0])
    assert report.verdict is FAIL and report.exit_code == 1

    suite = {s.get("name"): s for s in ElementTree.parse(folder / "junit.xml").iter("testsuite")}
    assert suite["bad counter load"].get("failures") == "1"
    assert suite["broken counter load"].get("errors") == "1"
    assert suite["good counter long"].get("skipped") == "1"

    sent = json.loads((folder / "kcidb.json").read_text())
    assert schema.LATEST.is_valid_exactly(sent)
    statuses = sorted((test["path"], test["status"]) for test in sent["tests"])
    assert statuses == [
        ("xen_evtchn.load.close", "PASS"),
        ("xen_evtchn.load.close", "SKIP"),
        ("xen_evtchn.load.load", "FAIL"),
        ("xen_evtchn.load.load", "PASS"),
        ("xen_evtchn.load.run", "MISS"),
    ]
    builds = {build["id"]: build["status"] for build in sent["builds"]}
    assert sorted(builds.values()) == ["MISS", "PASS"]
    assert {test["build_id"] for test in sent["tests"]} == set(builds)
    assert {build["checkout_id"] for build in sent["builds"]} == {
        c["id"] for c in sent["checkouts"]
    }

    text = (folder / "summary.txt").read_text()
    assert text.startswith("Subject: [evtchn nightly] FAIL ")
    assert "1 newly failing" in text and "bad counter load load: port 7 <lost> an event" in text
    assert "broken counter load: MISS the place is taken" in text
    assert "Not run (3)" in text
    assert all(len(line) <= 72 for line in text.splitlines()[2:-1])

    page = (tmp_path / "dashboard.html").read_text()
    assert "port 7 &lt;lost&gt; an event" in page and "newly failing" in page
    run = f"nights/{report.night.id}/bad-counter-load"
    for file in ("report.html", "history/bad/witness-1.html", "console/bad/xen.log"):
        assert f'href="{run}/{file}"' in page and (tmp_path / run / file).is_file()


def test_kcidb_s_links_need_an_address(tmp_path: Path) -> None:
    asked = plan(hosts=("good",))
    with Store(tmp_path, write=True) as store:
        done = night(asked, store, FakeRunner())
        write_night(store, done, Kcidb(origin="my_lab", url="https://ci.example/nightly"))
        (sent,) = [json.loads(path.read_text()) for path in tmp_path.glob("nights/*/kcidb.json")]
    (test,) = sent["tests"]
    assert test["origin"] == "my_lab" and test["id"].startswith("my_lab:")
    run = f"https://ci.example/nightly/nights/{done.id}/good-counter-load"
    assert test["log_url"] == f"{run}/report.html"
    assert test["output_files"][0]["url"] == f"{run}/history/good/witness-1.html"


def test_a_slower_xen_is_no_success(tmp_path: Path) -> None:
    lab = Lab(new_on=12, slower=1.25)
    codes = []
    with Store(tmp_path, write=True) as store:
        for lab.night in range(20):
            done = night(plan(hosts=("h1",)), store, FakeRunner(lab))
            codes.append(read_night(store, done).exit_code)
        page = render_dashboard(store)
    assert sum(codes) >= 1 and codes[:14] == [0] * 14 and codes[-1] == 0
    assert "still slower" in page and 'class="since"' in page


def test_what_was_not_run_tonight_is_not_new_tomorrow(tmp_path: Path) -> None:
    """A budget that reaches some cells only, and a night that is closed because it was cut."""
    lab = Lab(new_on=12, slower=1.25)
    asked = plan(hosts=("h1",), retries=0)
    with Store(tmp_path, write=True) as store:
        for lab.night in range(20):
            known = read_findings(store, night(asked, store, FakeRunner(lab)))
        assert {f.judgement.kind for f in known} == {"slower"}
        lost = night(asked, store, FakeRunner(lambda cell: LabError("no power")))
        assert [f.is_new for f in read_findings(store, lost)] == [False] * len(known)
        begun = open_night(asked, store, lambda text: None, resume=False)
        assert begun is not None
        store.db.execute("UPDATE night SET deadline = started - 1 WHERE id = ?", (begun.id,))
        after = read_findings(store, night(asked, store, FakeRunner(lab)))
        assert store.night(begun.id).ended is not None
    assert {(f.name, f.is_new) for f in after} == {(f.name, False) for f in known}


def test_a_night_that_goes_on_can_be_looked_at(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        begun = store.begin_night("x", [("h1", "counter", "load")], 1_800_000_000.0, 3600)
        report = write_night(store, begun, Kcidb())
        said = document(report, store.home)
    assert said["state"] == "unfinished" and said["verdict"] == "MISS"
    assert "has not ended" in (tmp_path / "dashboard.html").read_text()
