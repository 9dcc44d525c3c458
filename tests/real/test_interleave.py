# SPDX-License-Identifier: GPL-2.0-or-later
"""Forced interleavings: a real Xen takes the model's orders, a faulty one is caught by its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real.conftest import harness, machines

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]


def test_every_order_of_a_good_lock_is_walked_on_x86(tmp_path: Path) -> None:
    host, out = "qemu-x86_64", tmp_path / "run"
    names = ["send-close", "unmask-bind", "close-bind", "dump-bind"]
    ran = harness("interleave", "run", *names, "--host", host, "--out", str(out), "--json")
    document = ran.document
    assert (ran.code, document["verdict"]) == (0, "PASS"), ran.stdout + ran.stderr
    assert document["mismatches"] == [] and document["infeasible"] == []
    assert document["walked"] == document["schedules"] == 16 + 22 + 2 + 11
    for part in document["scenarios"]:
        page = Path(part["page"]).read_text()
        assert f"{part['schedules']} walked (every step as the model has it)" in page
    kept = json.loads((out / "interleave" / "schedule-send-close-1.json").read_text())
    assert kept["outcome"] == "walked" and all(turn["seen"] for turn in kept["turns"])
    assert machines(host) == []


def test_a_dropped_unmask_is_shown_and_shown_again_on_arm64(tmp_path: Path) -> None:
    host, out = "qemu-arm64", tmp_path / "run"
    words = ["--host", host, "--json"]
    ran = harness(
        "interleave", "run", "unmask-bind", "--flavour", "unmask-dropped", "--out", str(out), *words
    )
    document = ran.document
    assert (ran.code, document["verdict"]) == (1, "FAIL"), ran.stdout + ran.stderr
    whys = {each["why"] for each in document["mismatches"]}
    assert "CPU0 goes back to the guest, the model has it at 'again'" in whys
    assert document["walked"] > 0, "orders in which the two do not meet go as they should"
    file = document["mismatches"][0]["file"]
    again = harness("interleave", "replay", file, "--repeat", "5", "--json")
    assert (again.code, again.document["same"]) == (1, 5), again.stdout + again.stderr
    assert machines(host) == []


def test_with_random_delays_every_end_of_the_model_occurs(tmp_path: Path) -> None:
    host = "qemu-x86_64"
    words = ["--delays", "--host", host, "--out", str(tmp_path / "run"), "--json"]
    ran = harness("interleave", "run", "send-close", "close-bind", "poll-alloc", *words)
    document = ran.document
    assert (ran.code, document["verdict"]) == (0, "PASS"), ran.stdout + ran.stderr
    assert document["forced_by"] == "delays" and document["mismatches"] == []
    for part in document["scenarios"]:
        assert sum(part["ends"].values()) == part["walked"] == 300
        assert len(part["ends"]) == 2 and all(part["ends"].values()), part["ends"]
    assert machines(host) == []


def test_with_random_delays_a_reader_that_does_not_step_back_is_explained(tmp_path: Path) -> None:
    host = "qemu-x86_64"
    words = ["--delays", "--host", host, "--out", str(tmp_path / "run"), "--json"]
    ran = harness("interleave", "run", "send-close", "--flavour", "try-no-step-back", *words)
    (part,) = ran.document["scenarios"]
    assert (ran.code, part["verdict"]) == (1, "FAIL"), ran.stdout + ran.stderr
    assert "spins in evtchn_write_lock (evtchn_" in part["message"]
    assert " on port " in part["message"]
    assert "one writer + 1 reader" in part["message"]
    assert machines(host) == []
