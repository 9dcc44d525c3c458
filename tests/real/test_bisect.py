"""A real bisection: a git history of a real Xen, killed in the middle, and gone on with."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.bisect.xen_history import make
from tests.real.conftest import harness, machines, start

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]

HOST = "qemu-arm64"  # builds in 25 s
TEST = "test_hypercalls.py::test_binding_makes_the_local_end_pending"


def test_the_culprit_is_found_although_the_bisection_was_killed(tmp_path: Path) -> None:
    history = make(tmp_path / "xen", "bind-not-pending", seed=3, commits=3, broken_run=0)
    out = tmp_path / "out"
    words = ["bisect", "--xen-git", str(history.repository), "--good", history.good]
    words += ["--bad", history.bad, "--test", TEST, "--host", HOST, "--out", str(out), "--json"]
    child = start(*words)
    journal = out / "bisect.jsonl"
    deadline = time.monotonic() + 600
    while '"kind": "tested"' not in (journal.read_text() if journal.exists() else ""):
        assert time.monotonic() < deadline and child.poll() is None, child.communicate()
        time.sleep(0.5)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    before = journal.read_text().splitlines()

    ran = harness(*words)
    assert ran.code == 0, ran.stderr
    told = ran.document
    assert told["culprit"] == history.culprit
    assert told["confirmed"] is True
    assert told["confirmation"]["passes_with_it_reverted"] is True
    assert told["confidence"] >= 0.95
    assert told["steps"] <= 2
    lines = journal.read_text().splitlines()
    assert lines[: len(before)] == before  # nothing was done twice
    assert told["boots"] == sum(json.loads(line)["kind"] == "tested" for line in lines)
    assert f"# first bad commit: [{history.culprit}]" in (out / "bisect.log").read_text()
    assert machines(HOST) == []
