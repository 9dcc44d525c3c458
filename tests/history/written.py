# SPDX-License-Identifier: GPL-2.0-or-later
"""Histories written out by hand, row by row."""

from __future__ import annotations

import numpy as np

from harness.history.checker import check
from harness.history.format.history import History, ThreadLog
from harness.history.format.record import RECORD, Op, Via

Row = tuple[int, int, Op, int, int, int, Via]  # call, ret, op, port, arg, result, via


def threads(*logs: tuple[int, list[Row]], flavour: str = "rwlock", **meta: int) -> History:
    made = []
    for number, (domid, rows) in enumerate(logs):
        records = np.zeros(len(rows), RECORD)
        for index, (call, ret, op, port, arg, result, via) in enumerate(rows):
            records[index] = (call, ret, port, arg, result, 0, op, via)
        made.append(ThreadLog(domid, f"dom{domid}", number, 0, records, 10**9, 0, 0))
    return History(flavour, (4, 17), "x86_64", "test", tuple(made), dict(meta))


def found(history: History) -> set[str]:
    return {violation.property for violation in check(history).violations}
