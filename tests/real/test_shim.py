# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest inside xen-shim: events reach it, and a shim that hangs is told as that."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.conftest import harness, machines

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

HOST = "qemu-x86_64"
CASES = "testcases/conformance/test_bare_in_shim.py"


def test_a_shim_that_keeps_the_read_side_is_caught(tmp_path: Path) -> None:
    """The event of dom0 is injected all the same; the next writer in the shim never gets in."""
    words = ["--host", HOST, "--flavour", "shim-inject-leak", "--out", str(tmp_path), "--json"]
    names = (
        "test_what_the_shim_answers_otherwise",
        "test_a_port_is_usable_after_an_injection",
    )
    ran = harness("run", *words, *(f"{CASES}::{name}" for name in names))
    tests = {test["name"]: test for test in ran.document["hosts"][0]["tests"]}
    assert tests["what-the-shim-answers-otherwise"]["verdict"] == "PASS", ran.stderr
    caught = tests["a-port-is-usable-after-an-injection"]
    assert caught["verdict"] == "FAIL", ran.stderr
    hang = caught["evidence"]
    assert (hang["kind"], hang["in_shim"]) == ("hang", True)
    (spin,) = [cpu for cpu in hang["cpus"] if cpu["cause"]]
    assert (spin["function"], spin["fault"]) == ("evtchn_write_lock", "leaked-reader")
    assert caught["message"].startswith("xen-shim hangs: ")
    assert machines(HOST) == []
