# SPDX-License-Identifier: GPL-2.0-or-later
"""The harness as a child of the harness: it ends with its parent, and its document is read."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.config.options import RunOptions
from harness.run import child
from harness.verdict import ConfigError

pytestmark = pytest.mark.slow

PARENT = """
import sys, time
from harness.config.options import XenOptions
from harness.run import child
with child.started(["bench", "model"], XenOptions()) as started:
    print(started.pid, flush=True)
    time.sleep(120)
"""


# Stands for the harness: says what it was called with, and takes a second to end at SIGTERM.
SLOW = """
import pathlib, signal, sys, time
place = pathlib.Path(next(w for w in sys.argv if w.startswith("--out=")).removeprefix("--out="))
def end(*_):
    time.sleep(1)
    place.with_suffix(".ended").touch()
    print('{"message": "interrupted"}')
    sys.exit(130)
signal.signal(signal.SIGTERM, end)
place.with_suffix(".begun").touch()
time.sleep(120)
"""
LOOP = """
import sys
from pathlib import Path
from harness.config.options import RunOptions
from harness.run import child
sys.executable = sys.argv[1]
child.run(RunOptions(out=Path(sys.argv[2])))
"""


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A loop around runs, in its first run; ``out`` is in our directory."""
    program = tmp_path / "python"
    (tmp_path / "slow.py").write_text(SLOW)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path / "slow.py"} "$@"\n')
    program.chmod(0o755)
    words = [sys.executable, "-c", LOOP, str(program), str(tmp_path / "out")]
    started = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path / "out.begun")
    yield started
    started.kill()
    started.communicate()


def wait_for(path: Path, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


def test_ctrl_c_lets_it_end_in_order_however_often_it_is_pressed(
    tmp_path: Path, loop: subprocess.Popen[str]
) -> None:
    for _ in range(3):
        loop.send_signal(signal.SIGINT)
        time.sleep(0.2)
    _, said = loop.communicate(timeout=30)
    assert (tmp_path / "out.ended").exists()
    assert "KeyboardInterrupt" in said


def test_it_has_time_to_end_in_order_when_its_parent_is_killed(
    tmp_path: Path, loop: subprocess.Popen[str]
) -> None:
    loop.kill()
    wait_for(tmp_path / "out.ended")


def _program(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Have ``text`` run in place of the harness."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def test_one_that_is_killed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path, monkeypatch, "kill -KILL $$")
    assert child.run(RunOptions()) == {"error": "the run was killed by signal 9"}


def test_what_it_leaves_behind_does_not_hold_us_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(tmp_path, monkeypatch, 'sleep 300 & echo "{\\"pid\\": $!}"')
    began = time.monotonic()
    left = child.run(RunOptions())["pid"]
    assert time.monotonic() - began < 10
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(left).wait(5)


def test_it_ends_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    orphan = psutil.Process(int(parent.stdout.readline()))
    deadline = time.monotonic() + 10
    while "bench" not in orphan.cmdline():  # it becomes the harness
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert orphan.is_running()
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    gone, alive = psutil.wait_procs([orphan], timeout=20)
    assert alive == [] and gone


def test_what_cannot_begin_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown host 'nowhere'"):
        child.run(RunOptions(host=("nowhere",), out=tmp_path / "out"))
    with pytest.raises(ConfigError, match="--no-such-option: no such test file"):
        child.run(RunOptions(), ["--no-such-option"])


@pytest.mark.parametrize("said", [b"", b"no json", b"[]", b"{", b"\xff"])
def test_a_child_that_left_no_document(said: bytes) -> None:
    assert child.read(said) == {}


def test_it_is_the_harness_that_starts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the working directory has another one: a checkout, and we are installed."""
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").write_text("raise SystemExit('another harness')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="unknown host 'nowhere'"):
        child.run(RunOptions(host=("nowhere",)))
