# SPDX-License-Identifier: GPL-2.0-or-later
"""Scratch directories go with their run, and those of dead runs with the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from harness.scratch import scratch, sweep


@pytest.fixture(autouse=True)
def own_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_gone_at_the_end_whatever_happens() -> None:
    with pytest.raises(RuntimeError), scratch() as folder:
        (folder / "file").write_text("x")
        raise RuntimeError
    assert not folder.exists()


def test_private_and_short() -> None:
    with scratch() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_living_run_keeps_its_directory() -> None:
    with scratch() as folder:
        assert sweep() == []
        assert folder.is_dir()


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
def test_a_killed_run_is_swept_by_the_next(umask: int) -> None:
    script = (
        f"import os, time\nos.umask({umask})\nfrom harness.scratch import scratch\n"
        "with scratch() as f:\n    print(f, flush=True)\n    time.sleep(60)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert child.stdout is not None
    dead = Path(child.stdout.readline().strip())
    assert dead.is_dir()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with scratch() as mine:
        assert not dead.exists()
        assert mine.is_dir()


# -- Trust: /tmp is everybody's; what another user plants there hung the sweep, or misled it -------


def _planted(tmp_path: Path, name: str = "planted") -> Path:
    folder = tmp_path / f"evtchn-harness-{os.getuid()}-{name}"
    folder.mkdir(mode=0o700)
    return folder


def test_a_planted_fifo_does_not_hang_the_sweep(tmp_path: Path) -> None:
    os.mkfifo(_planted(tmp_path) / "owner")
    began = time.monotonic()
    swept = subprocess.run(
        [sys.executable, "-c", "from harness.scratch import sweep; print(sweep())"],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert swept.stdout == "[]\n" and time.monotonic() - began < 20


@pytest.mark.parametrize("what", ["folder", "owner"])
def test_a_planted_link_is_not_followed(tmp_path: Path, what: str) -> None:
    """A file or folder elsewhere was opened and locked, and told as removed."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / "owner").write_text("valuable")
    if what == "folder":
        (tmp_path / f"evtchn-harness-{os.getuid()}-planted").symlink_to(elsewhere)
    else:
        (_planted(tmp_path) / "owner").symlink_to(elsewhere / "owner")
    with scratch():
        assert sweep() == []
    assert (elsewhere / "owner").read_text() == "valuable"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
@pytest.mark.parametrize("whose", ["folder", "owner"])
def test_what_another_user_made_is_not_ours_to_sweep(tmp_path: Path, whose: str) -> None:
    folder = _planted(tmp_path)
    (folder / "owner").write_text("")
    os.chown(folder if whose == "folder" else folder / "owner", 65534, 65534)
    assert sweep() == [] and folder.is_dir()


def test_a_folder_that_others_may_write_to_is_not_ours(tmp_path: Path) -> None:
    folder = _planted(tmp_path)
    (folder / "owner").write_text("")
    folder.chmod(0o777)
    assert sweep() == [] and folder.is_dir()
    folder.chmod(0o700)
    assert sweep() == [folder] and not folder.exists()


def test_a_folder_without_an_owner_is_left(tmp_path: Path) -> None:
    folder = _planted(tmp_path)
    assert sweep() == [] and folder.is_dir()
