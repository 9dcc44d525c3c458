# SPDX-License-Identifier: GPL-2.0-or-later
"""Run directories: new or empty, apart from each other, and `latest`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.results.directory import create, unused, write_whole
from harness.verdict import EXIT_USAGE, ConfigError, LabError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_default_place_is_named_by_utc_time_and_chance(here: Path) -> None:
    one, other = create(), create()
    assert one.path.parent == here / "results"
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", one.path.name)
    assert one.path != other.path


def test_latest_points_at_the_newest_and_can_be_moved_along(here: Path) -> None:
    create()
    newest = create()
    latest = here / "results" / "latest"
    assert latest.resolve() == newest.path
    assert not latest.readlink().is_absolute()
    assert len(list((here / "results").iterdir())) == 3  # two runs and the link, no litter


def test_latest_is_a_convenience_only(here: Path) -> None:
    in_the_way = here / "results" / "latest"
    in_the_way.mkdir(parents=True)
    (in_the_way / "file").touch()
    made = create()
    assert made.path.is_dir()
    assert sorted(p.name for p in (here / "results").iterdir()) == [made.path.name, "latest"]


def test_out_may_be_new_or_empty(here: Path) -> None:
    assert create(Path("a/b")).path == here / "a" / "b"
    (here / "empty").mkdir()
    assert create(Path("empty")).path == here / "empty"
    assert not (here / "results").exists()


def test_out_must_not_hold_earlier_results(here: Path) -> None:
    create(Path("out")).journal.touch()
    with pytest.raises(ConfigError) as caught:
        create(Path("out"))
    assert str(caught.value) == (
        "out: the directory is not empty; "
        "give --out a new directory, so that no earlier result is lost"
    )
    assert caught.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_out_must_be_a_directory(here: Path, out: str) -> None:
    (here / "file").touch()
    with pytest.raises(ConfigError, match="not a directory"):
        create(Path(out))


def test_out_where_nothing_can_be_made() -> None:
    with pytest.raises(LabError, match="cannot write the results"):
        create(Path("/proc/nowhere"))


def test_files_are_replaced_whole_or_not_at_all(here: Path) -> None:
    path = here / "report.html"
    write_whole(path, "old")
    write_whole(path, "new \ud800")
    assert path.read_text() == "new \\ud800"
    assert [p.name for p in here.iterdir()] == ["report.html"]


def test_a_failed_write_leaves_no_litter(here: Path) -> None:
    (here / "report.html").mkdir()
    with pytest.raises(LabError, match=r"cannot write the results: Is a directory"):
        write_whole(here / "report.html", "text")
    assert [p.name for p in here.iterdir()] == ["report.html"]


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    path = tmp_path / "load.parquet"
    assert unused(path) == path
    path.touch()
    assert unused(path) == tmp_path / "load-2.parquet"
    (tmp_path / "load-2.parquet").touch()
    assert unused(path) == tmp_path / "load-3.parquet"
