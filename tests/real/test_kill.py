"""Ctrl-C, SIGTERM and SIGKILL of the harness: no machine stays, what was measured stays."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness.results import store
from tests.real.conftest import harness, machines, scratch_directories, start

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]
HOST = "qemu-x86_64"


def wait_for(words: str, journal: Path, child: subprocess.Popen[str]) -> None:
    """Wait until the journal has ``words``."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and child.poll() is None:
        if journal.exists() and words in journal.read_text():
            return
        time.sleep(0.2)
    pytest.fail(f"{words} never came: {child.communicate(timeout=60)}")


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize(
    ("phase", "words"), [("boot", '"kind": "host-start"'), ("load", '"kind": "sample"')]
)
def test_nothing_is_left(blow: signal.Signals, phase: str, words: str, tmp_path: Path) -> None:
    before = scratch_directories()
    out = tmp_path / "out"
    child = start("run", "--host", HOST, "--duration", "60", "--out", str(out), "--json")
    wait_for(words, out / "results.jsonl", child)
    time.sleep(1.5)  # well into the phase
    child.send_signal(blow)
    began = time.monotonic()
    child.communicate(timeout=60)
    if blow is signal.SIGKILL:
        assert child.returncode == -signal.SIGKILL
        assert harness("doctor", timeout=60).code == 0  # the next command to start
    else:
        assert child.returncode == 130
        assert time.monotonic() - began < 30
    deadline = time.monotonic() + 10  # libvirt needs a moment to see that its client died
    while machines(HOST) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert machines(HOST) == []
    result = store.load(out)
    assert result.verdict == "MISS"
    assert harness("report", str(out), timeout=60).code == 0
    assert (out / "report.html").stat().st_size > 0
    if blow is not signal.SIGKILL:
        assert scratch_directories() <= before
