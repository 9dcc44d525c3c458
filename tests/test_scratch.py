# SPDX-License-Identifier: GPL-2.0-or-later
"""Scratch directories go with their run, and those of dead runs with the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
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


def test_a_killed_run_is_swept_by_the_next() -> None:
    script = (
        "import time\nfrom harness.scratch import scratch\n"
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
