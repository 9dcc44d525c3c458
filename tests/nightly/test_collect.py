# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs of a CI, each with a store of its own, become one night."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.nightly import Cell
from harness.nightly.collect import CollectRunner
from harness.nightly.detect import read_findings
from harness.nightly.loop import open_night, run_night
from harness.nightly.plan import limit_to_hosts
from harness.nightly.store import Store
from harness.verdict import ConfigError, HarnessError, LabError, Verdict
from tests.nightly.fake import FakeResult, FakeRunner, night, plan


def _told(cell: Cell) -> FakeResult | HarnessError:
    if cell.host.name == "h2":
        return FakeResult({"load": Verdict.FAIL})
    if cell.host.name == "h3":
        return LabError("the place is taken")
    return FakeResult()


def test_one_night_of_many_stores(tmp_path: Path) -> None:
    asked = plan(hosts=("h1", "h2", "h3", "h4"), retries=0)
    for host in ("h1", "h2", "h3"):
        with Store(tmp_path / host, write=True) as shard:
            night(limit_to_hosts(asked, [host]), shard, FakeRunner(_told))
    runner = CollectRunner([tmp_path / host for host in ("h1", "h2", "h3")])
    with Store(tmp_path / "all", write=True) as store:
        begun = open_night(asked, store, lambda text: None, resume=False)
        assert begun is not None
        run_night(asked, begun, store, runner, parallel=3, notice=lambda text: None)
        found = read_findings(store, begun)
        cells = {cell.host: cell for cell in store.cells(begun.id)}
    assert {host: (cell.verdict, cell.message) for host, cell in cells.items()} == {
        "h1": ("PASS", ""),
        "h2": ("FAIL", "port 7 lost an event"),
        "h3": ("MISS", "the place is taken"),
        "h4": ("MISS", "no job ran this cell"),
    }
    assert (tmp_path / "all" / cells["h2"].run / "history/h2/witness-1.html").is_file()
    assert [(f.host, f.judgement.kind) for f in found] == [("h2", "failing")]


def test_a_directory_without_a_store_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no store"):
        CollectRunner([tmp_path])
