# SPDX-License-Identifier: GPL-2.0-or-later
"""The second run of a build goes on from the booted machine; a damaged one costs a boot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import cache
from tests.real.conftest import harness

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]
_CASES = Path(__file__).parents[2] / "testcases" / "test_hypercalls.py"
ONE_TEST = f"{_CASES}::test_channel_between_two_domains"


def run(host: str, out: Path, *words: str) -> tuple[dict[str, Any], str]:
    ran = harness(
        "run", f"--host={host}", "--duration=1", "--seed=7", "--json", f"--out={out}", *words
    )
    assert ran.code == 0, ran.stderr
    return ran.document["hosts"][0], ran.stderr


@pytest.mark.parametrize("host", ["qemu-arm64", "qemu-x86_64"])
def test_the_second_run_does_not_boot(host: str, tmp_path: Path) -> None:
    booted, _ = run(host, tmp_path / "0", "--no-snapshot", ONE_TEST)
    assert booted["restored"] == ""
    first, _ = run(host, tmp_path / "1")  # keeps one, if there is none of this build
    second, _ = run(host, tmp_path / "2")
    assert second["restored"] != ""
    assert second["verdict"] == "PASS"
    assert [test["name"] for test in second["tests"]] == [test["name"] for test in first["tests"]]
    assert {one["name"] for one in second["domains"]} == {"dom0", "domu1", "domu2"}
    assert second["seconds"]["boot"] < booted["seconds"]["boot"] + booted["seconds"]["domains"]


def test_a_damaged_snapshot_costs_a_boot_and_a_line(tmp_path: Path) -> None:
    run("qemu-arm64", tmp_path / "1", ONE_TEST)
    used = max((cache.root() / "machine").glob("*/about.json"), key=lambda one: one.stat().st_mtime)
    disk = used.with_name("root.qcow2")
    with disk.open("r+b") as file:
        file.seek(disk.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    host, told = run("qemu-arm64", tmp_path / "2")
    assert host["verdict"] == "PASS"
    assert "booting it instead" in told and "the snapshot is damaged" in told
