# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate: good flavours pass, known-bad ones are caught, on pristine machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real.conftest import harness, machines

pytestmark = [pytest.mark.real, pytest.mark.timeout(2400)]

HOST = "qemu-arm64"  # builds in 25 s
WANTED = {
    "counter": "pass",
    "rwlock": "pass",
    "poll-leak": "caught",  # a hang, diagnosed from outside
    "send-wrong-vcpu": "caught",  # a wrong answer, deterministic
    "unmask-dropped": "caught",  # a race, fought for by two vCPUs
}


def test_two_good_and_three_bad_flavours(tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    words = [word for name in WANTED for word in ("--entry", name)]
    ran = harness(
        "corpus", *words, "--host", HOST, "--repeat", "1", "--out", str(out), "--json", timeout=2300
    )
    cells = json.loads(ran.stdout)
    assert {cell["entry"]: cell["outcome"] for cell in cells} == WANTED, ran.stderr
    assert ran.code == 0
    leak = next(cell for cell in cells if cell["entry"] == "poll-leak")
    assert "lock word = 129 = one writer + 1 reader" in leak["explanation"]
    journal = (out / "runs" / f"{HOST}-poll-leak" / "results.jsonl").read_text()
    assert " < do_event_channel_op" in journal, "whose call hangs is told"
    assert json.loads((out / "corpus.json").read_text()) == cells
    assert "2 good ones pass" in (out / "corpus.html").read_text()
    assert machines(HOST) == []


def test_every_repetition_meets_a_xen_of_its_own(tmp_path: Path) -> None:
    """One panic must not be counted for all the tries that came after it."""
    out = tmp_path / "run"
    test = "testcases/test_hypercalls.py::test_life_of_a_channel"
    words = ["--host", HOST, "--flavour", "peer-left", "--snapshot", "--repeat", "2"]
    ran = harness("run", *words, "--keep-going", "--out", str(out), "--json", test)
    assert ran.code == 1, ran.stderr
    tests = [test for test in ran.document["hosts"][0]["tests"] if test["name"] != "boot"]
    assert [(test["name"], test["verdict"]) for test in tests] == [
        ("life-of-a-channel", "FAIL")
    ] * 4  # twice in dom0, twice in a domU
    said = (out / "console" / HOST / "xen.log").read_text()
    assert said.count("Panic on CPU") == 4
    # Under TCG the TSC is not rewound: were it not the only clock, Xen's time would leap and crawl.
    assert "unexpectedly wrapped" not in said
    assert "booting anew" not in ran.stderr
