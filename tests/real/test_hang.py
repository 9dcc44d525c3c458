# SPDX-License-Identifier: GPL-2.0-or-later
"""A hung Xen, explained by what it prints itself when a debug key is pressed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real import hung
from tests.real.conftest import harness

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]


@pytest.mark.parametrize("host", ["qemu-x86_64", "qemu-arm64"])
def test_the_console_explains_a_hang(host: str, tmp_path: Path) -> None:
    words = ["--host", host, "--flavour", "poll-leak", "--out", str(tmp_path / "out"), "--json"]
    ran = harness("run", *words, f"{hung.__file__}::test_the_console_explains")
    tests = {test["name"]: test for test in ran.document["hosts"][0]["tests"]}
    assert tests["the-console-explains"]["verdict"] == "PASS", ran.stderr


def test_a_hang_costs_its_test_and_the_next_has_a_fresh_machine(tmp_path: Path) -> None:
    words = ["--host", "qemu-arm64", "--flavour", "poll-leak", "--keep-going", "--json"]
    words += ["--out", str(tmp_path / "out")]
    cases = Path(__file__).parents[2] / "testcases" / "test_hypercalls.py"
    names = (
        "test_poll_of_a_closed_port_leaves_it_usable",
        "test_send_on_a_closed_port_leaves_it_usable",
    )
    ran = harness("run", *words, *(f"{cases}::{name}" for name in names))
    tests = {test["name"]: test for test in ran.document["hosts"][0]["tests"]}
    assert tests["poll-of-a-closed-port-leaves-it-usable"]["evidence"]["kind"] == "hang"
    assert tests["send-on-a-closed-port-leaves-it-usable"]["verdict"] == "PASS", ran.stderr
