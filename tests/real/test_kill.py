# SPDX-License-Identifier: GPL-2.0-or-later
"""Ctrl-C, SIGTERM and SIGKILL of the harness: no machine stays, what was measured stays."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from harness.hypervisor import source
from harness.results import store
from tests.real.conftest import ROOT, harness, machines, scratch_directories, start

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


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_build(blow: signal.Signals, tmp_path: Path) -> None:
    tree = tmp_path / "xen-tree"
    shutil.copytree(source.from_apt().tree, tree)
    with (tree / "xen/common/event_channel.c").open("a") as file:
        file.write(f"/* {blow.name} {os.getpid()} */\n")  # a tree that nobody has built yet
    words = ["run", "--host", "qemu-arm64", "--xen-src", str(tree), "--out", str(tmp_path / "out")]
    child = start(*words, "--json")
    deadline = time.monotonic() + 120
    while not (compilers := children_of(child.pid, "make")):
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.1)
    time.sleep(2)
    child.send_signal(blow)
    child.communicate(timeout=60)
    assert child.returncode == (130 if blow is signal.SIGINT else -signal.SIGKILL)
    _, alive = psutil.wait_procs(compilers, timeout=5)
    assert alive == []
    assert store.load(tmp_path / "out").verdict == "MISS"
    assert harness("report", str(tmp_path / "out"), timeout=60).code == 0


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_the_verdict_stands_when_the_report_is_interrupted(
    blow: signal.Signals, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    tests = str(ROOT / "testcases" / "test_notify_vcpu.py")
    child = start("run", "--host", "qemu-arm64", "--out", str(out), "--json", tests)
    wait_for('"kind": "run-end"', out / "results.jsonl", child)
    child.send_signal(blow)
    child.communicate(timeout=60)
    assert child.returncode in (-signal.SIGKILL, 130, 0)  # 0: the report was there already
    assert machines("qemu-arm64") == []
    assert store.load(out).verdict == "PASS"
    assert harness("report", str(out), timeout=60).code == 0
    assert (out / "report.html").stat().st_size > 0 and (out / "junit.xml").stat().st_size > 0


def children_of(pid: int, name: str) -> list[psutil.Process]:
    """Return the programs below process ``pid``, once one of them is called ``name``."""
    try:
        found = psutil.Process(pid).children(recursive=True)
        return found if any(process.name() == name for process in found) else []
    except psutil.Error:
        return []
