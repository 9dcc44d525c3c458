# SPDX-License-Identifier: GPL-2.0-or-later
"""Thread logs and their clocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.history.format.columns import NEVER
from harness.history.format.history import History, ThreadLog
from harness.history.format.parquet import write
from harness.history.format.record import RECORD, Op
from harness.verdict import ConfigError


def log(*rows: tuple[int, int], hz: int = 1_000_000_000, zero: int = 0) -> ThreadLog:
    records = np.zeros(len(rows), RECORD)
    records["op"] = Op.SEND
    for index, (call, ret) in enumerate(rows):
        records[index]["call"], records[index]["ret"] = call, ret
    return ThreadLog(0, "dom0", 0, 0, records, hz, zero, 0)


def history(*logs: ThreadLog) -> History:
    return History("counter", (4, 17), "x86_64", "test", logs)


def test_times_round_outwards() -> None:
    third = log((0, 1), (2, 5), hz=300_000_000)  # a tick is 3 1/3 ns
    assert third.call_ns().tolist() == [0, 6]
    assert third.ret_ns().tolist() == [4, 17]


def test_times_before_zero_and_after_weeks() -> None:
    long = log((0, 10), (3_000_000_000 * 86_400 * 30, 0), hz=3_000_000_000, zero=6)
    assert long.call_ns().tolist() == [-2, 86_400 * 30 * 10**9 - 2]
    assert long.ret_ns().tolist() == [2, NEVER]


def test_counter_that_wrapped() -> None:
    wrapped = log((5, 7), zero=(1 << 64) - 3)
    assert wrapped.call_ns().tolist() == [8]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (log((5, 3)), "returned before it was called"),
        (log((1, 4), (2, 5)), "record 1 was called before record 0 returned"),
        (log((1, 0), (2, 5)), "never returned, but is not the thread's last"),
        (replace(log((1, 2)), tick_hz=0), "rate cannot be 0"),
        (replace(log((1, 2)), lost=-1), "cannot be negative"),
    ],
)
def test_impossible_logs(bad: ThreadLog, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        write(history(bad), tmp_path / "h.parquet")
    assert not list(tmp_path.iterdir())


def test_thread_twice() -> None:
    with pytest.raises(ConfigError, match="two logs of thread dom0/t0"):
        history(log((1, 2)), log((1, 2))).validate()
