# SPDX-License-Identifier: GPL-2.0-or-later
"""Histories from real machines that the checker once judged wrongly."""

from __future__ import annotations

import numpy as np
import pytest

from harness.history.checker import check
from harness.history.format.history import History, ThreadLog
from harness.history.format.record import RECORD, Op, Via
from harness.verdict import Verdict

US = 1000


def log(domid: int, thread: int, rows: list[tuple[int, int, Op, int, int, int]]) -> ThreadLog:
    records = np.zeros(len(rows), RECORD)
    for index, (call, ret, op, port, arg, result) in enumerate(rows):
        records[index] = (call * US, ret * US, port, arg, result, 0, op, Via.DEVICE)
    return ThreadLog(domid, f"dom{domid}", thread, 0, records, 10**9, 0, 0)


@pytest.mark.parametrize("cpu_error_us", [0, 20, 500])
def test_an_event_that_came_while_the_port_was_masked(cpu_error_us: int) -> None:
    """Two sends before one RECV, of which the second is delivered after ENABLE: no invention.

    Seen on a busy x86-64 machine, where the CPUs' clocks were known to 41 ms only and the
    ENABLE of a RECV came 0.3 ms after it.
    """
    mine = [
        (10, 20, Op.ALLOC_UNBOUND, 0x7FF0, 1, 30),
        (5000, 5010, Op.RECV, 30, 0, 0),
        (5020, 5030, Op.ENABLE, 30, 0, 0),
        (9000, 9010, Op.RECV, 30, 0, 0),
        (9020, 9030, Op.ENABLE, 30, 0, 0),
        (9040, 9050, Op.RECV, 30, 0, 0),
        (9060, 9070, Op.ENABLE, 30, 0, 0),
        (12000, 12010, Op.CLOSE, 30, 0, 0),
    ]
    theirs = [
        (3100, 3110, Op.BIND_INTERDOMAIN, 30, 0, 40),
        (4000, 4010, Op.SEND, 40, 0, 0),
        (7000, 7010, Op.SEND, 40, 0, 0),
        (8000, 8010, Op.SEND, 40, 0, 0),
        (11000, 11010, Op.CLOSE, 40, 0, 0),
    ]
    meta = {"cpu_error_ns": cpu_error_us * US}
    threads = (log(0, 0, mine), log(1, 0, theirs))
    legal = History("counter", (4, 17), "x86_64", "test", threads, meta)
    assert check(legal).verdict is Verdict.PASS

    fewer = theirs[:3] + theirs[4:]  # one send less: then the last delivery is invented
    threads = (log(0, 0, mine), log(1, 0, fewer))
    bad = History("counter", (4, 17), "x86_64", "test", threads, meta)
    assert [v.property for v in check(bad).violations] == ["invented-event"]
