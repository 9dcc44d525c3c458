# SPDX-License-Identifier: GPL-2.0-or-later
"""A real bisection, killed in the middle and gone on with; a real comparison."""

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

HOST = "no-domus"  # arm64 builds in 25 s; without domUs it boots in as many
LAB = f"hosts:\n  {HOST}:\n    arch: arm64\n    domus: 0\n"
TEST = "test_hypercalls.py::test_binding_makes_the_local_end_pending"


def test_the_culprit_is_found_although_the_bisection_was_killed(tmp_path: Path) -> None:
    history = make(tmp_path / "xen", "bind-not-pending", seed=3, commits=3, broken_run=0)
    out = tmp_path / "out"
    (tmp_path / "lab.yaml").write_text(LAB)
    words = ["bisect", "--xen-git", str(history.repository), "--good", history.good]
    words += ["--bad", history.bad, "--test", TEST, "--out", str(out), "--json"]
    words += ["--host", HOST, "--lab", str(tmp_path / "lab.yaml")]
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


def test_a_known_bad_is_worse_and_is_told_why(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "lab.yaml").write_text(LAB)
    words = ["compare", "counter", "bind-not-pending", "--lab", str(tmp_path / "lab.yaml")]
    words += ["--host", HOST, "--rounds", "3", "--duration", "3", "--seed", "11"]
    ran = harness(*words, "--out", str(out), "--json")
    assert ran.code == 1, ran.stderr
    told = ran.document
    assert told["verdict"] == "worse"
    assert "without the first event" in told["summary"]
    assert told["rounds"] == 1  # a failure is enough
    assert any(one["subject"] == "binding-makes-the-local-end-pending" and one["worse"]
               for one in told["differences"])  # fmt: skip
    assert {one["name"] for one in told["ratios"]} >= {"throughput"}
    assert json.loads((out / "compare.json").read_text()) == told
    assert machines(HOST) == []
