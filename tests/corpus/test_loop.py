# SPDX-License-Identifier: GPL-2.0-or-later
"""The loop over entries and hosts, with runs that boot nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.arch import Arch
from harness.corpus.entry import Entry
from harness.corpus.judge import Cell
from harness.corpus.loop import run_corpus
from harness.evidence import Change, Leak, codec

BAD = Entry.model_validate(
    {
        "name": "leak",
        "kind": "racy",
        "caught_by": "t.py::test_x",
        "shows": {"leak": "event channels"},
    }
)
NEVER = Entry(name="weak", kind="model-only", cannot_show="needs a weakly ordered CPU")
GOOD = Entry(name="counter", kind="good")


class Runs:
    """Answers with ``verdicts``, one a run."""

    def __init__(self, *verdicts: str) -> None:
        self.verdicts = list(verdicts)
        self.asked: list[tuple[str, str]] = []

    def __call__(self, entry: Entry, host: str, repeat: int, out: Path) -> list[dict[str, Any]]:
        self.asked.append((entry.name, entry.caught_by))
        verdict = self.verdicts.pop(0)
        if verdict == "stop":
            raise KeyboardInterrupt
        seen = Leak(changes=(Change(what="event channels", before="", after="9"),))
        test = {"name": "x", "verdict": verdict, "message": "a leak", "story": "", "seconds": 1.0}
        return [test | {"evidence": codec.to_json(seen)}]


def loop(tmp_path: Path, runs: Runs, *entries: Entry) -> list[Cell]:
    hosts = {"h": Arch.ARM64}
    return run_corpus(entries, hosts, repeat=1, out=tmp_path, run=runs, notice=lambda cell: None)


def test_the_matrix_is_kept_as_json_and_as_a_page(tmp_path: Path) -> None:
    runs = Runs("PASS", "FAIL")
    cells = loop(tmp_path, runs, GOOD, BAD, NEVER)
    assert [cell.outcome for cell in cells] == ["pass", "caught", "cannot-show"]
    assert runs.asked == [("counter", ""), ("leak", "t.py::test_x")]
    stored = json.loads((tmp_path / "corpus.json").read_text())
    assert [(row["entry"], row["outcome"]) for row in stored][1] == ("leak", "caught")
    page = (tmp_path / "corpus.html").read_text()
    assert "needs a weakly ordered CPU" in page and "1 caught" in page


def test_a_lab_fault_is_tried_once_more(tmp_path: Path) -> None:
    assert loop(tmp_path, Runs("MISS", "FAIL"), BAD)[0].outcome == "caught"
    assert loop(tmp_path, Runs("MISS", "MISS"), BAD)[0].outcome == "lab-fault"


def test_an_interrupted_loop_keeps_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        loop(tmp_path, Runs("PASS", "stop"), GOOD, BAD)
    assert len(json.loads((tmp_path / "corpus.json").read_text())) == 1


def test_what_only_some_machines_show_is_not_run_on_the_others(tmp_path: Path) -> None:
    entry = BAD.model_copy(update={"arches": (Arch.X86_64,), "cannot_show": "Arm has no PIRQs"})
    (cell,) = loop(tmp_path, Runs(), entry)
    assert (cell.outcome, cell.explanation) == ("cannot-show", "Arm has no PIRQs")
