# SPDX-License-Identifier: GPL-2.0-or-later
"""Orders that Armv8 allows, taken by a real Xen under QEMU: what its code leaves open shows.

Where the barrier is, there is nothing to force."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.conftest import harness, machines, repository

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]
_HOST = "qemu-arm64"


def test_a_reader_that_leaves_early_loses_an_event_each_time(tmp_path: Path) -> None:
    words = ["--flavour", "unlock-no-barrier", "--out", str(tmp_path / "run"), "--json"]
    ran = harness("interleave", "reorder", *words)
    assert (ran.code, ran.document["verdict"]) == (1, "FAIL"), ran.stdout + ran.stderr
    (part,) = ran.document["scenarios"]
    assert (part["scenario"], part["tried"], part["shown"]) == ("poll-close", 20, 20)
    assert part["message"].startswith("lost event: dom0's vCPU 0 goes to sleep in its poll of port")
    assert any("evtchn_read_unlock" in line for line in part["trace"] + [part["what"]])
    assert machines(_HOST) == []


def test_with_the_barrier_nothing_is_offered_and_nothing_is_booted() -> None:
    ran = harness("interleave", "reorder", "--flavour", "counter", "--json")
    assert (ran.code, ran.document["verdict"]) == (0, "PASS"), ran.stdout + ran.stderr
    assert ran.document["left_open"] == ran.document["scenarios"] == []
    assert ran.document["path"] == ""


def test_before_xsa_340_a_send_crashes_xen_each_time(tmp_path: Path) -> None:
    tree = ["--xen-git", str(repository()), "--xen-ref", "112992b05b2d^"]
    words = [*tree, "--repeat", "3", "--out", str(tmp_path / "run"), "--json"]
    ran = harness("interleave", "reorder", *words)
    assert (ran.code, ran.document["verdict"]) == (1, "FAIL"), ran.stdout + ran.stderr
    moved = {part["moved"]: part for part in ran.document["scenarios"]}
    assert set(moved) == {"a store done late", "a load satisfied early"}
    for part in moved.values():
        assert (part["scenario"], part["tried"], part["shown"]) == ("send-alloc", 3, 3)
        assert "Data Abort" in part["message"]
    assert machines(_HOST) == []
