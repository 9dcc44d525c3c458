# SPDX-License-Identifier: GPL-2.0-or-later
"""Random programmes on real Xen: a known bug is found from nothing, and told in a few steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real.conftest import harness

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]


def test_a_wrong_answer_is_found(tmp_path: Path) -> None:
    """A send on a port that has no peer is not refused."""
    corpus = tmp_path / "corpus"
    options = ["--flavour", "send-unusable-ok", "--seed", "1", "--duration", "20", "--json"]
    ran = harness("fuzz", "--host", "qemu-arm64", *options, "--corpus", str(corpus))
    assert ran.code == 1, ran.stderr
    found = ran.document
    assert found["verdict"] == "FAIL" and found["seen_again"] and found["steps"] <= 6
    assert "send(" in found["calls"][-1]
    (file,) = corpus.glob("programme-*.json")
    assert found["programme"] == str(file)
    assert json.loads(file.read_text())["message"] == found["message"]


def test_a_race_of_two_vcpus_is_found_and_made_short(tmp_path: Path) -> None:
    """An unmask that meets a writer is forgotten: the port stays masked."""
    options = ["--flavour", "unmask-dropped", "--duration", "60", "--json"]
    for seed in ("1", "2"):  # to be seen again is a matter of chance
        ran = harness("fuzz", "--host", "qemu-arm64", "--seed", seed, *options)
        assert ran.code == 1, ran.stderr
        found = ran.document
        if found["seen_again"]:
            break
    assert "masked is 0x1, not 0x0" in found["message"]
    assert found["seen_again"] and found["steps"] <= 20
    assert any("unmask(" in call for call in found["calls"])


def test_a_fault_that_takes_two_domains_is_found_and_shown_again(tmp_path: Path) -> None:
    """After a close the other domain's end waits for its own domain."""
    options = ["--host", "qemu-arm64", "--flavour", "close-wrong-peer", "--json"]
    for seed in ("1", "2"):  # a restored machine does not always answer: then it is not seen again
        ran = harness("fuzz", *options, "--seed", seed, "--duration", "60")
        assert ran.code == 1, ran.stderr
        found = ran.document
        if found["seen_again"]:
            break
    assert found["two_domains"] > 0 and found["seen_again"] and found["steps"] <= 20
    assert "status(" in found["calls"][-1]
    assert {call.partition(" ")[0] for call in found["calls"]} == {"guest", "dom0"}
    assert json.loads(Path(found["programme"]).read_text())["dom0"]
    again = harness("fuzz", *options, "--replay", found["programme"])
    assert again.code == 1 and again.document["message"] == found["message"]
