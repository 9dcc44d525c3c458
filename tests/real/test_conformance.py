# SPDX-License-Identifier: GPL-2.0-or-later
"""The bare guest and random sequences on real Xen, and the coverage that comes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.arch import Arch
from harness.run.bare import TYPES
from tests.real.conftest import ROOT, harness

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]
FOLDER = ROOT / "testcases" / "conformance"
_RACE = "test_close_under_a_sender"
GUESTS = {
    "qemu-arm64": ["arm64 domU"],
    "qemu-x86_64": ["x86_64 pv", "x86_64 pvh", "x86_64 hvm"],
}


@pytest.mark.parametrize("host", ["qemu-arm64", "qemu-x86_64"])
def test_what_linux_would_not_survive(host: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tests = [str(FOLDER / "test_bare.py"), str(FOLDER / "test_random.py")]
    if host == "qemu-x86_64":  # the device model has ports by then that dom0's agent once had
        tests += [str(FOLDER / "test_xen_bound.py"), f"{FOLDER.parent}/test_race.py::{_RACE}"]
    options = ["--host", host, "--seed", "11", "--keep-going", "--json", "--out", str(out)]
    ran = harness("run", *options, *tests)
    assert ran.code == 0, ran.stderr
    (result,) = ran.document["hosts"]
    assert result["leaks"] == []

    for type_ in TYPES[Arch(host.removeprefix("qemu-"))]:
        told = json.loads((out / f"random-{host}-{type_}.json").read_text())
        assert told["sequences"] >= 1 and told["operations"] >= 10 and told["disagreements"] == []

    found = json.loads(harness("coverage", str(out), "--json", timeout=60).stdout)
    assert found["contradictions"] == []
    tested = {
        (cell["guest"], cell["row"], cell["abi"])
        for cell in found["cells"]
        if cell["state"] == "tested"
    }
    for guest in GUESTS[host]:
        for abi in ("2L", "FIFO"):
            assert (guest, "reset: all closed but Xen-bound, back to 2L", abi) in tested
            assert (guest, "guest: event taken", abi) in tested
        assert (guest, "init_control: switched to FIFO", "2L") in tested
        assert (guest, "alloc: busy port skipped", "FIFO") in tested
