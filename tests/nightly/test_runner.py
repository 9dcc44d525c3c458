# SPDX-License-Identifier: GPL-2.0-or-later
"""The real runner: what it starts, how it ends, and what it says when nothing could be run."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from threading import Event
from typing import get_args

import psutil
import pytest

from harness.cli.run import SUITES
from harness.config.nightly import Cell, PlanHost, Suite, Xen
from harness.config.options import words
from harness.nightly.runner import ChildRunner, xen_options
from harness.verdict import ConfigError, LabError

pytestmark = pytest.mark.slow

TESTCASES = Path(__file__).parents[2] / "testcases"


def _cell(host: PlanHost | None = None, xen: Xen | None = None, suite: Suite | None = None) -> Cell:
    return Cell(host or PlanHost(name="qemu-arm64"), xen or Xen(name="c"), suite or Suite(name="s"))


def _runner(home: Path, notices: list[str] | None = None) -> ChildRunner:
    return ChildRunner(None, home, TESTCASES, (notices if notices is not None else []).append)


def test_a_cell_becomes_the_options_of_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").touch()
    xen = Xen(name="x", flavour="rwlock", git="https://xen.example/xen.git", ref="staging")
    tests = ("mine.py::test_a", "test_load.py")
    suite = Suite(name="s", tests=tests, duration=2.5, repeat=3, seed=9, snapshot=True)
    runner = ChildRunner(Path("/lab.yaml"), tmp_path, TESTCASES, print)
    assert words(runner.options(_cell(xen=xen, suite=suite))) == [
        "--host=qemu-arm64",
        "--duration=2.5",
        "--seed=9",
        "--snapshot",
        "--no-snapshot",
        "--repeat=3",
        "--keep-going",
        "--lab=/lab.yaml",
        "--flavour=rwlock",
        "--xen-git=https://xen.example/xen.git",
        "--xen-ref=staging",
    ]
    assert [runner.find(test) for test in tests] == [
        tmp_path / "mine.py::test_a",
        TESTCASES / "test_load.py",
    ]


def test_our_own_tests_are_a_suite_of_run_s(tmp_path: Path) -> None:
    assert set(get_args(Suite.model_fields["suite"].annotation)) == set(SUITES)
    cell = _cell(suite=Suite(name="s", suite="conformance"))
    assert "--suite=conformance" in words(_runner(tmp_path).options(cell))


def test_paths_are_from_the_plan(tmp_path: Path) -> None:
    (tmp_path / "xen.git").mkdir()
    local = Xen(name="x", git="xen.git", ref="HEAD")
    assert xen_options(local, tmp_path).xen_git == str(tmp_path / "xen.git")
    assert xen_options(Xen(name="x", src="xen"), tmp_path).xen_src == tmp_path / "xen"
    mails = Xen(name="x", src="xen", series=("a.mbox", "/b.eml"), model="rwlock")
    found = xen_options(mails, tmp_path)
    assert (found.series, found.model) == ((tmp_path / "a.mbox", Path("/b.eml")), "rwlock")


def test_an_error_of_run_is_passed_on(tmp_path: Path) -> None:
    cell = _cell(host=PlanHost(name="nobody"))
    with pytest.raises(ConfigError, match="unknown host 'nobody'"):
        _runner(tmp_path)(cell, tmp_path / "out", 60, Event())
    assert "unknown host" in (tmp_path / "out.log").read_text()


def test_a_host_that_cannot_be_acquired_is_a_lab_fault(tmp_path: Path) -> None:
    held = tmp_path / "held"
    host = PlanHost(name="nobody", acquire="echo taken by ann >&2; false", release=f"touch {held}")
    with pytest.raises(LabError, match=r"nobody: acquire: .*taken by ann"):
        _runner(tmp_path)(_cell(host=host), tmp_path / "out", 60, Event())
    assert not held.exists()  # what was not acquired is not released
    assert not (tmp_path / "out.log").exists()


def test_a_host_is_released_whatever_happens(tmp_path: Path) -> None:
    log = tmp_path / "log"
    host = PlanHost(
        name="nobody", acquire=f"echo have >> {log}", release=f"echo gone >> {log}; false"
    )
    notices: list[str] = []
    with pytest.raises(ConfigError):
        _runner(tmp_path, notices)(_cell(host=host), tmp_path / "out", 60, Event())
    assert log.read_text() == "have\ngone\n"
    assert len(notices) == 1 and notices[0].startswith("nobody was not released: ")


# Stands for a run that takes its time: tells of SIGTERM, leaves a child behind.
_LONG = """\
import pathlib, signal, subprocess, sys, time
out = pathlib.Path(next(w for w in sys.argv if w.startswith("--out=")).removeprefix("--out="))
def ended(*_):
    out.with_suffix(".ended").touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, ended)
child = subprocess.Popen(["sleep", "300"])
out.with_suffix(".child").write_text(str(child.pid))
time.sleep(300)
"""


@pytest.fixture
def long_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make runs long; returns the directory that such a run is to write."""
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path / "long.py"} "$@"\n')
    program.chmod(0o755)
    (tmp_path / "long.py").write_text(_LONG)
    monkeypatch.setattr(sys, "executable", str(program))
    return tmp_path / "out"


def _wait_for(path: Path) -> int:
    deadline = time.monotonic() + 20
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(path.read_text())


def _stop_once(written: Path, stop: Event) -> None:
    _wait_for(written)
    stop.set()


def _is_gone(pid: int) -> bool:
    """Return whether process ``pid`` ends within 5 seconds (its entry may stay a moment more)."""
    try:
        psutil.Process(pid).wait(5)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True


def test_a_run_that_takes_too_long_is_ended_gently(tmp_path: Path, long_run: Path) -> None:
    with pytest.raises(LabError, match="did not end within"):
        _runner(tmp_path)(_cell(), long_run, 2.0, Event())
    assert long_run.with_suffix(".ended").exists()
    assert _is_gone(_wait_for(long_run.with_suffix(".child")))


def test_a_run_is_stopped_when_the_night_is(tmp_path: Path, long_run: Path) -> None:
    stop = Event()
    threading.Thread(target=_stop_once, args=(long_run.with_suffix(".child"), stop)).start()
    with pytest.raises(LabError, match="stopped"):
        _runner(tmp_path)(_cell(), long_run, 60.0, stop)
    assert long_run.with_suffix(".ended").exists()


def test_waiting_for_a_host_can_be_stopped(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    host = PlanHost(name="nobody", acquire=f"echo 1 > {begun}; sleep 300")
    stop = Event()
    threading.Thread(target=_stop_once, args=(begun, stop)).start()
    with pytest.raises(LabError, match="stopped"):
        _runner(tmp_path)(_cell(host=host), tmp_path / "out", 400.0, stop)


def test_a_run_ends_when_the_nightly_is_killed(tmp_path: Path, long_run: Path) -> None:
    """kill -9 of the nightly leaves no run behind."""
    pid = os.fork()
    if pid == 0:
        try:
            _runner(tmp_path)(_cell(), long_run, 60.0, Event())
        finally:
            os._exit(1)
    grandchild = _wait_for(long_run.with_suffix(".child"))
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    assert _is_gone(grandchild)


def test_the_child_is_the_harness_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the working directory has another one: a checkout, and we are installed."""
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").write_text("raise SystemExit('another harness')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="unknown host 'nobody'"):
        _runner(tmp_path)(_cell(host=PlanHost(name="nobody")), tmp_path / "out", 60, Event())
