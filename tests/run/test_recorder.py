# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run says on the terminal while its tests go by."""

from __future__ import annotations

import io
from pathlib import Path

from harness.progress import Progress
from harness.results import directory, records
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
