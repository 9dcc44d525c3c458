"""The harness as a child of the harness: it ends with its parent, and its document is read."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.config.options import RunOptions
from harness.run import child
from harness.verdict import ConfigError

PARENT = """
import sys, time
from harness.config.options import XenOptions
from harness.run import child
with child.started(["bench", "model"], XenOptions()) as started:
    print(started.pid, flush=True)
    time.sleep(120)
"""


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
    with pytest.raises(ConfigError, match="No such option"):
        child.run(RunOptions(), ["--no-such-option"])


@pytest.mark.parametrize("said", [b"", b"no json", b"[]", b"{", b"\xff"])
def test_a_child_that_left_no_document(said: bytes) -> None:
    assert child.read(said) == {}
