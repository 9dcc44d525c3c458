# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness report``, run as a user runs it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from harness.results.document import run_document
from harness.results.store import load

from . import runs


def _report(*words: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "harness.cli", "report", *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_it_makes_the_reports_and_prints_the_path(tmp_path: Path) -> None:
    directory = runs.failing(tmp_path / "r")
    done = _report(directory.path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{directory.report}\n", "")
    assert directory.report.read_text().startswith("<!DOCTYPE html>")
    assert directory.junit.read_text().startswith("<?xml")


def test_json_is_the_runs_document_and_nothing_else(tmp_path: Path) -> None:
    directory = runs.good(tmp_path / "r")
    done = _report(directory.path, "--json")
    assert json.loads(done.stdout) == run_document(load(directory.path))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_killed_run_gets_its_report_and_the_damage_is_named(tmp_path: Path) -> None:
    directory = runs.interrupted(tmp_path / "r")
    done = _report(directory.path, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["state"] == "interrupted"
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: results.jsonl:")
    assert line.endswith("cut off, dropped")


def test_a_run_that_was_moved_still_has_its_report(tmp_path: Path) -> None:
    directory = runs.good(tmp_path / "r")
    moved = tmp_path / "moved and renamed"
    shutil.move(directory.path, moved)
    done = _report(moved)
    assert done.stdout == f"{moved / 'report.html'}\n"
    assert (moved / "report.html").is_file()


def test_no_run_is_one_clear_line_and_exit_2(tmp_path: Path) -> None:
    done = _report(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {tmp_path}/results.jsonl: cannot read the journal: "
        "No such file or directory; give the directory of a run\n"
    )
    as_json = _report(tmp_path, "--json")
    assert as_json.returncode == 2
    assert json.loads(as_json.stdout)["verdict"] == "ERROR"


def test_usage_errors_are_one_line_and_exit_2() -> None:
    done = _report("--nope")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: No such option")
    assert line.endswith("see evtchn-harness report --help")
