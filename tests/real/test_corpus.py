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
    assert json.loads((out / "corpus.json").read_text()) == cells
    assert "2 good ones pass" in (out / "corpus.html").read_text()
    assert machines(HOST) == []
