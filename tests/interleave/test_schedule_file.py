# SPDX-License-Identifier: GPL-2.0-or-later
"""Replay files: what is written is what is read, and what is wrong with one is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.arch import Arch
from harness.interleave.order_runner import OrderOutcome, OrderResult, StepResult
from harness.interleave.scenarios import SCENARIOS
from harness.interleave.schedule_file import ScheduleFile, read_file, to_file
from harness.model.explore.interleavings import interleavings
from harness.verdict import ConfigError

MODEL = SCENARIOS["send-close"].system("counter", Arch.X86_64)
ORDER = list(interleavings(MODEL, waits=True))[5]


def made() -> ScheduleFile:
    row = StepResult(
        0, ORDER[0].step.name, False, "", {"L": 0}, {"L": 0}, "evtchn_tryread_lock+0x0"
    )
    result = OrderResult(OrderOutcome.MISMATCH, "L is 1, not 0", (row,), (0, None), 0.1, 9)
    return to_file(
        "send-close",
        ORDER,
        result,
        flavour="my-bug",
        design="counter",
        arch=Arch.X86_64,
        host="qemu-x86_64",
        build_id="ab12",
    )


def test_a_schedule_survives_its_file(tmp_path: Path) -> None:
    file = tmp_path / "schedule.json"
    file.write_text(made().model_dump_json(indent=1))
    again = read_file(file)
    assert again == made()
    assert again.order() == ORDER
    assert [bool(turn.seen) for turn in again.turns] == [True] + [False] * (len(ORDER) - 1)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"scenario": "nothing"}, "no scenario 'nothing'"),
        ({"design": "futex"}, "no lock 'futex'"),
        ({"version": 9}, "version"),
        ({"arch": "vax"}, "arch"),
        ({"turns": [{"cpu": -1, "step": "read"}]}, "turns.0.cpu"),
        ({"more": 1}, "more"),
    ],
)
def test_an_error_says_what_is_wrong_with_a_file(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    file = tmp_path / "schedule.json"
    file.write_text(json.dumps(made().model_dump(mode="json") | change))
    with pytest.raises(ConfigError, match=said):
        read_file(file)


def test_no_file_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_file(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ConfigError, match="not a replay file"):
        read_file(tmp_path / "bad.json")


@pytest.mark.parametrize("turns", [[], [0], [7] * 9, [0] * 20])
def test_an_order_that_the_model_does_not_have(turns: list[int]) -> None:
    file = made().model_dump(mode="json")
    file["turns"] = [{"cpu": cpu, "step": "read"} for cpu in turns]
    with pytest.raises(ConfigError, match="no order of the model"):
        ScheduleFile.model_validate(file).order()


def test_steps_that_have_other_names_now() -> None:
    file = made().model_dump(mode="json")
    file["turns"][0]["step"] = "peek"
    with pytest.raises(ConfigError, match="step 1 is 'peek' in the file, 'read' in the model"):
        ScheduleFile.model_validate(file).order()


def test_a_changed_file_is_noticed_and_one_without_a_checksum_is_read(tmp_path: Path) -> None:
    file = tmp_path / "schedule.json"
    changed = json.loads(made().model_dump_json()) | {"host": "qemu-x86_65"}
    file.write_text(json.dumps(changed))
    with pytest.raises(ConfigError, match="wrong checksum"):
        read_file(file)
    changed.pop("crc32")  # by an older harness
    file.write_text(json.dumps(changed))
    assert read_file(file).host == "qemu-x86_65"
