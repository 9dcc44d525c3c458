# SPDX-License-Identifier: GPL-2.0-or-later
"""Orders that Armv8 allows, taken by a real Xen under QEMU: what its code leaves open shows.

Where the barrier is, there is nothing to force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import harness, machines, repository

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]
_HOST = "qemu-arm64"
# The compiler keeps the order, the CPU need not.
_WITHOUT_BARRIER = """\
From 1111111111111111111111111111111111111111 Mon Sep 17 00:00:00 2001
From: A Test <test@example.org>
Date: Tue, 15 Dec 2020 14:00:00 +0100
Subject: [PATCH] evtchn/FIFO: no barrier before the control block is published

---
--- a/xen/common/event_fifo.c
+++ b/xen/common/event_fifo.c
@@ -501,4 +501,4 @@ static int map_control_block(struct vcpu *v, uint64_t gfn, uint32_t offset)
     /* All queue heads must have been set before setting the control block. */
-    smp_wmb();
+    barrier();

     v->evtchn_fifo->control_block = control_block;
"""


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


def forced(tmp_path: Path, ref: str, *series: str, repeat: int = 3) -> dict[tuple[str, str], Any]:
    """Force what the machine code of upstream's ``ref`` leaves open; return by scenario and by
    what is moved what the document has of it."""
    tree = ["--xen-git", str(repository()), "--xen-ref", ref]
    words = [*tree, *series, "--repeat", str(repeat), "--out", str(tmp_path / "run"), "--json"]
    ran = harness("interleave", "reorder", *words)
    assert (ran.code, ran.document["verdict"]) == (1, "FAIL"), ran.stdout + ran.stderr
    for part in ran.document["scenarios"]:
        assert (part["tried"], part["shown"]) == (repeat, repeat), part
    assert machines(_HOST) == []
    return {(part["scenario"], part["moved"]): part for part in ran.document["scenarios"]}


def test_before_xsa_340_a_send_crashes_xen_each_time(tmp_path: Path) -> None:
    parts = forced(tmp_path, "112992b05b2d^")
    for moved in ("a store done late", "a load satisfied early"):
        assert "Data Abort" in parts["send-alloc", moved]["message"]
    assert {scenario for scenario, _ in parts} == {"send-alloc", "send-switch", "send-map"}


def test_before_xsa_358_a_send_crashes_xen_each_time(tmp_path: Path) -> None:
    """The program itself publishes the control block first."""
    (part,) = forced(tmp_path, "c5e63651fdc7^").values()
    assert part["scenario"] == "send-map"
    assert part["moved"].startswith("nothing: the program itself")
    assert "Data Abort" in part["message"]


def test_without_the_barrier_of_that_fix_a_store_comes_late(tmp_path: Path) -> None:
    series = tmp_path / "series.eml"
    series.write_text(_WITHOUT_BARRIER)
    (part,) = forced(tmp_path, "c5e63651fdc7", "--series", str(series)).values()
    assert (part["scenario"], part["moved"]) == ("send-map", "a store done late")
    assert "Data Abort" in part["message"]


def test_before_xsa_359_a_send_crashes_xen_each_time(tmp_path: Path) -> None:
    parts = forced(tmp_path, "dc8b01affd7f^")
    part = parts["send-switch", "a load satisfied early"]
    assert part["function"] == "evtchn_fifo_set_pending"
    assert "Data Abort" in part["message"]


def test_after_the_fixes_nothing_is_offered() -> None:
    tree = ["--xen-git", str(repository()), "--xen-ref", "c5e63651fdc7"]
    ran = harness("interleave", "reorder", *tree, "--json")
    assert (ran.code, ran.document["verdict"]) == (0, "PASS"), ran.stdout + ran.stderr
    assert ran.document["left_open"] == ran.document["scenarios"] == []
