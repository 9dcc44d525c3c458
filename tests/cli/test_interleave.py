# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness interleave`` without a machine: what it lists, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.interleave.scenarios import SCENARIOS
from harness.model.lock.locks import LOCKS


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["interleave", *words])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_list_counts_orders(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)["scenarios"]
    assert [each["name"] for each in listed] == list(SCENARIOS)
    for each in listed:
        assert set(each["orders"]) == set(LOCKS)
        assert all(count >= 1 for count in each["orders"].values())
    counter = next(each for each in listed if each["name"] == "send-close")["orders"]["counter"]
    assert counter == 16
    assert run("list") == 0
    assert "send-close-peer" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, said",
    [
        (["run", "nothing"], "SCENARIO: no scenario nothing; there are send-close"),
        (["run", "masked-close", "--host", "qemu-arm64"], "masked-close is for x86_64"),
        (["run", "send-close", "--reduce", "--preemptions", "1"], "exclude each other"),
        (["run", "send-close", "--host", "nowhere"], "nowhere"),
        (["expose", "send-close", "--flavour", "counter", "--stress", "sun"], "no stress sun"),
        (["replay", "/nonexistent.json"], "cannot be read"),
        (["reorder", "--host", "qemu-x86_64"], "qemu-x86_64 is no QEMU host with arm64"),
        (["run"], "Missing argument"),
    ],
)
def test_a_mistake_is_one_clear_error(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_schedule_fits_one_architecture_and_one_lock(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "schedule.json"
    content = {"version": 1, "scenario": "send-close", "flavour": "counter", "design": "counter"}
    content |= {"arch": "x86_64", "host": "qemu-x86_64", "build_id": "", "outcome": "walked"}
    file.write_text(json.dumps(content | {"why": "", "turns": []}))
    assert run("replay", str(file), "--host", "qemu-arm64") == 2
    assert "the schedule is for x86_64, qemu-arm64 is arm64" in capsys.readouterr().err
    assert run("replay", str(file), "--flavour", "rwlock") == 2
    assert "is an order of counter, rwlock is made from rwlock" in capsys.readouterr().err


def test_a_replay_of_another_lock_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "schedule.json"
    file.write_text(json.dumps({"version": 1, "scenario": "send-close"}))
    assert run("replay", str(file)) == 2
    assert f"{file}: flavour: not a replay file: Field required" in capsys.readouterr().err
