# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run says on the terminal while its tests go by."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from harness.progress import Progress
from harness.results import directory, records
from harness.results.store import load
from harness.run.recorder import Recorder
from harness.verdict import Verdict
from tests.run.toy_plan import plan


def test_what_did_not_pass_is_said_at_once(tmp_path: Path) -> None:
    said = io.StringIO()
    recorder = Recorder(plan(), directory.create(tmp_path / "run"), Progress(said))
    recorder.add(records.Test("rack1", "first", Verdict.PASS, 0.1))
    recorder.add(records.Test("rack1", "second", Verdict.FAIL, 0.1, "port 3 is not closed"))
    recorder.add(records.Test("rack1", "third", Verdict.SKIP, 0.1, "arm64 only"))
    recorder.close()
    assert said.getvalue().splitlines() == ["rack1        FAIL      second: port 3 is not closed"]


def test_a_long_row_of_passes_shows_that_it_goes_on(tmp_path: Path) -> None:
    said = io.StringIO()
    progress = Progress(said)
    recorder = Recorder(plan(), directory.create(tmp_path / "run"), progress)
    progress._printed -= 60
    for name in ("first", "second"):
        recorder.add(records.Test("rack1", name, Verdict.PASS, 0.1))
    recorder.close()
    assert said.getvalue().splitlines() == ["rack1        tests     1 over, first"]


@pytest.mark.parametrize(
    ("skipped", "strict", "verdict", "message"),
    [
        (1, False, Verdict.PASS, ""),
        (2, False, Verdict.PASS, "2 of 4 tests were skipped"),
        (1, True, Verdict.PASS, ""),
        (2, True, Verdict.MISS, "2 of 4 tests were skipped"),
    ],
)
def test_a_pass_that_skipped_much_says_so(
    tmp_path: Path, skipped: int, strict: bool, verdict: Verdict, message: str
) -> None:
    place = directory.create(tmp_path / "run")
    recorder = Recorder(replace(plan(), strict=strict), place, Progress(io.StringIO()))
    for number in range(2 + skipped):
        seen = Verdict.PASS if number < 2 else Verdict.SKIP
        recorder.add(records.Test("rack1", f"test-{number}", seen, 0.1, "no domU" * (number > 1)))
    recorder.end_host("rack1")
    assert recorder.end_run() is verdict
    recorder.close()
    (host,) = load(place.path).hosts
    assert (host.verdict, host.message) == (verdict, message)
