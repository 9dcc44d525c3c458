# SPDX-License-Identifier: GPL-2.0-or-later
"""A run directory that somebody else wrote: what it names is looked for inside it only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.evidence import Hang
from harness.results import records
from harness.results.directory import RunDirectory, create, is_below, write_whole
from harness.results.html import render_html
from harness.results.journal import Journal
from harness.results.store import load
from harness.run import old_runs
from harness.verdict import Verdict

SECRET = "2026-11-22T12:00:00Z root:secret-hash\n"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the computer, with a file that is nobody's business."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "shadow.log").write_text(SECRET)
    (folder / "old.parquet").write_text(SECRET)
    return folder


def _run(tmp_path: Path, host: str = "h", artifacts: tuple[str, ...] = ()) -> RunDirectory:
    directory = create(tmp_path / "run")
    with Journal(directory.journal) as journal:
        journal.append(records.RunStart(1, ("x",), "0", (host,)))
        journal.append(records.Test(host, "t", Verdict.FAIL, 1.0, "m", "s", artifacts))
        journal.append(records.RunEnd(Verdict.FAIL, 1.0))
    return directory


@pytest.mark.parametrize("host", ["{outside}", "../../outside", "../../../outside/../outside"])
def test_consoles_of_a_host_whose_name_is_a_path(tmp_path: Path, outside: Path, host: str) -> None:
    directory = _run(tmp_path, host.format(outside=outside))
    (directory.path / "console").mkdir()
    assert "secret-hash" not in render_html(load(directory.path))


@pytest.mark.parametrize("what", ["folder", "log", "all"])
def test_links_in_the_place_of_consoles(tmp_path: Path, outside: Path, what: str) -> None:
    directory = _run(tmp_path)
    folder = directory.console("h")
    match what:
        case "all":
            (outside / "h").symlink_to(outside)
            folder.parent.symlink_to(outside)
        case "folder":
            folder.parent.mkdir()
            folder.symlink_to(outside)
        case "log":
            folder.mkdir(parents=True)
            (folder / "xen.log").symlink_to(outside / "shadow.log")
    assert "secret-hash" not in render_html(load(directory.path))


@pytest.mark.timeout(20)
def test_a_pipe_in_the_place_of_a_console_does_not_hold_the_report(tmp_path: Path) -> None:
    directory = _run(tmp_path)
    directory.console("h").mkdir(parents=True)
    os.mkfifo(directory.console("h") / "xen.log")
    (directory.console("h") / "dom0.log").write_text("2026-11-22T12:00:00Z hello\n")
    assert "hello" in render_html(load(directory.path))


def test_artifacts_outside_are_not_linked(tmp_path: Path, outside: Path) -> None:
    names = ("../outside/shadow.log", str(outside / "shadow.log"), "link", "a\0b", "x" * 5000)
    directory = _run(tmp_path, artifacts=(*names, "in.txt"))
    (directory.path / "link").symlink_to(outside / "shadow.log")
    (directory.path / "in.txt").touch()
    page = render_html(load(directory.path))
    assert 'href="in.txt"' in page
    assert "shadow.log" in page and 'href="link"' not in page
    assert page.count("shadow.log (not there)") == 2


def test_an_old_runs_histories_are_read_in_its_folder_only(
    tmp_path: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def note(path: Path) -> Hang | None:
        read.append(path)
        return None

    monkeypatch.setattr(old_runs, "first_violation", note)
    directory = _run(tmp_path)
    (directory.path / "in.parquet").touch()
    (directory.path / "link.parquet").symlink_to(outside / "old.parquet")
    names = ("../outside/old.parquet", str(outside / "old.parquet"), "link.parquet", "in.parquet")
    old_runs.evidence_of(records.Test("h", "t", Verdict.FAIL, 1.0, artifacts=names), directory.path)
    assert read == [directory.path / "in.parquet"]


def test_a_report_is_not_written_through_a_planted_link(tmp_path: Path, outside: Path) -> None:
    """Of the file itself, nor of the one beside it that becomes the file."""
    for name in ("report.html", f".report.html.{os.getpid()}.new"):
        (tmp_path / name).symlink_to(outside / "shadow.log")
    write_whole(tmp_path / "report.html", "text")
    assert (tmp_path / "report.html").read_text() == "text"
    assert (outside / "shadow.log").read_text() == SECRET


@pytest.mark.parametrize(
    ("name", "below"),
    [
        ("history/h/x.parquet", True),
        ("a..b/c", True),
        ("../x", False),
        ("a/../../x", False),
        ("/etc/passwd", False),
        ("a\n../x", False),
        ("a\0", False),
    ],
)
def test_paths_that_can_only_be_below(name: str, below: bool) -> None:
    assert is_below(name) is below
