# SPDX-License-Identifier: GPL-2.0-or-later
"""What is carried from piece to piece while an operation is under way for very long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from harness.history import checker
from harness.history.bench import repeat
from harness.history.check.scope import scope_of
from harness.history.check.stream import stream
from harness.history.checker import check
from harness.history.format.columns import Columns
from harness.history.format.history import History
from harness.history.format.record import RECORD, Op, Via
from harness.history.simulate.run import Recipe, generate
from harness.verdict import Verdict

_PIECE = 4096


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker, "PIECE", _PIECE)
    monkeypatch.setattr("harness.history.check.stream._LONGEST", _PIECE)


def long_history(op: Op, *, returns: bool, result: int = 0) -> History:
    """A load over and over again, and beside it one operation on port 1 from its begin on."""
    load = repeat(generate(Recipe(seed=1, operations=2000, domains=2, threads=2)), 60_000)
    first = min(int(log.call_ns()[0]) for log in load.threads if len(log.records))
    last = max(log.last_ns() for log in load.threads)
    record = np.zeros(1, RECORD)
    call, ret = (ns * load.threads[0].tick_hz // 10**9 for ns in (first + 1000, last - 1000))
    record[0] = (call, ret if returns else 0, 1, 0, result, 0, op, Via.RAW)
    slow = replace(load.threads[0], thread=99, ticks_at_zero=0, records=record)
    return replace(load, threads=(*load.threads, slow))


def sizes(history: History) -> list[int]:
    columns = history.columns

    def pieces() -> Iterator[Columns]:
        for start in range(0, len(columns), _PIECE):
            yield columns.take(slice(start, start + _PIECE))

    scope = scope_of(history, [log.last_ns() for log in history.threads])
    return [len(judged.piece.columns) for judged in stream(pieces(), scope)]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("returns", [True, False])
@pytest.mark.parametrize("op", [Op.SEND, Op.STATUS, Op.RECV, Op.CLOSE, Op.BIND_INTERDOMAIN])
def test_what_is_carried_does_not_grow_with_the_history(op: Op, returns: bool) -> None:
    found = sizes(long_history(op, returns=returns))
    assert len(found) > 12
    assert max(found[6:]) < 1.1 * max(found[:6]) < 4 * _PIECE


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("result", [0, -99])
def test_what_was_under_way_for_too_long_is_undecided(result: int) -> None:
    slow = check(long_history(Op.SEND, returns=True, result=result))
    never = check(long_history(Op.SEND, returns=False))
    assert slow.verdict is never.verdict is Verdict.PASS
    assert slow.undecided == never.undecided + 1
    assert (len(slow.in_flight), len(never.in_flight)) == (0, 1)


def test_what_is_under_way_for_less_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker, "PIECE", _PIECE)
    impossible = check(long_history(Op.SEND, returns=True, result=-99))
    assert impossible.verdict is Verdict.FAIL
