"""The harness as a child of the harness: it ends with its parent, and its document is read."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.run import child
from harness.verdict import ConfigError

pytestmark = pytest.mark.slow

PARENT = """
import sys, time
from harness.run import child
print(child.start(["bench", "model"]).pid, flush=True)
time.sleep(120)
"""


def test_it_ends_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    orphan = psutil.Process(int(parent.stdout.readline()))
    deadline = time.monotonic() + 10
    while "setpriv" in (words := orphan.cmdline() or ["setpriv"])[0]:  # it becomes the harness
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert orphan.is_running() and "bench" in words
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    gone, alive = psutil.wait_procs([orphan], timeout=20)
    assert alive == [] and gone


def test_what_cannot_begin_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown host 'nowhere'"):
        child.run(["--host", "nowhere", "--out", str(tmp_path / "out")])
    with pytest.raises(ConfigError, match="No such option"):
        child.run(["--no-such-option"])


@pytest.mark.parametrize("said", ["", "no json", "[]", "{"])
def test_a_child_that_left_no_document(said: str) -> None:
    assert child.read(said) == {}


def test_it_is_the_harness_that_starts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the working directory has another one: a checkout, and we are installed."""
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").write_text("raise SystemExit('another harness')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="unknown host 'nowhere'"):
        child.run(["--host", "nowhere"])
