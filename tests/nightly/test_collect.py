# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs of a CI, each with a store of its own, become one night."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config.nightly import Cell
from harness.nightly.collect import CollectRunner
from harness.nightly.dashboard import render_dashboard
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


# A shard is the job's: whoever controls the job may write anything into it.


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A folder of the collecting computer that looks like a run, and must not be published."""
    folder = tmp_path / "secret"
    folder.mkdir()
    (folder / "id_rsa").write_text("PRIVATE KEY")
    (tmp_path / "secret.log").write_text("PRIVATE KEY")
    return folder


def _collected(tmp_path: Path, attack: Callable[[Store, Path], None]) -> tuple[str, str, str]:
    """Collect a shard after ``attack`` on it; return verdict, message and the page."""
    asked = plan(hosts=("h1",), retries=0)
    with Store(tmp_path / "shard", write=True) as shard:
        begun = night(asked, shard, FakeRunner())
        (cell,) = shard.cells(begun.id)
        attack(shard, shard.home / cell.run)
    runner = CollectRunner([tmp_path / "shard"])
    with Store(tmp_path / "all", write=True) as store:
        opened = open_night(asked, store, lambda text: None, resume=False)
        assert opened is not None
        run_night(asked, opened, store, runner, parallel=1, notice=lambda text: None)
        (row,) = store.cells(opened.id)
        page = render_dashboard(store)
    for path in (tmp_path / "all").rglob("*"):
        assert not path.is_symlink()
        assert not path.is_file() or b"PRIVATE KEY" not in path.read_bytes(), path
    assert row.verdict is not None
    return row.verdict, row.message, page


def _with_run(run: str) -> Callable[[Store, Path], None]:
    def attack(shard: Store, _: Path) -> None:
        with shard.transaction() as cursor:
            cursor.execute("UPDATE cell SET run = ?", (run,))

    return attack


@pytest.mark.parametrize("run", ["{secret}", "../secret", "nights/../../secret", ""])
def test_a_shard_that_names_a_run_elsewhere_is_not_published(
    tmp_path: Path, secret: Path, run: str
) -> None:
    verdict, message, _ = _collected(tmp_path, _with_run(run.format(secret=secret)))
    assert verdict == "MISS"
    assert "names a run outside of itself" in message and "look at that job" in message


def test_nor_one_whose_run_is_a_link(tmp_path: Path, secret: Path) -> None:
    def attack(shard: Store, run: Path) -> None:
        run.rename(run.with_name("away"))
        run.symlink_to(secret)

    assert "outside of itself" in _collected(tmp_path, attack)[1]


@pytest.mark.parametrize("where", ["console/h1/dom0.log", "history/h1/more", "report", ".log"])
@pytest.mark.timeout(30)
def test_nor_one_with_a_link_or_a_pipe_in_it(tmp_path: Path, secret: Path, where: str) -> None:
    def attack(shard: Store, run: Path) -> None:
        if where == ".log":
            run.with_name(f"{run.name}.log").symlink_to(secret / "id_rsa")
        elif where == "report":
            os.mkfifo(run / "pipe")
        else:
            (run / where).symlink_to(secret if where.endswith("more") else secret / "id_rsa")

    verdict, message, page = _collected(tmp_path, attack)
    assert verdict == "MISS" and "neither a file nor a folder" in message
    assert "report.html" not in page, "nothing of it was kept"


def test_a_journal_that_names_files_elsewhere_gives_no_link_out_of_the_store(
    tmp_path: Path, secret: Path
) -> None:
    names = ("../../../../secret/id_rsa", str(secret / "id_rsa"), "in.txt")

    def attack(shard: Store, run: Path) -> None:
        (run / "in.txt").touch()
        journal = run / "results.jsonl"
        text = (
            journal.read_text()
            .replace('"history/h1/witness-1.html"', ", ".join(f'"{name}"' for name in names))
            .replace('"PASS"', '"FAIL"')
        )
        # Whoever forges a journal leaves out the checksums, as an older harness did.
        journal.write_text(re.sub(r', "line": \d+, "crc32": "[0-9a-f]{8}"', "", text))

    _, _, page = _collected(tmp_path, attack)
    assert "in.txt" in page and "id_rsa" not in page
