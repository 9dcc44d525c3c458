# SPDX-License-Identifier: GPL-2.0-or-later
"""The vCPU that STATUS tells."""

from __future__ import annotations

import pytest

from harness.history.check import rules
from harness.history.checker import check
from harness.history.format.record import Op, Via
from harness.model.evtchn.abi import DOMID_SELF
from tests.history.written import Row, found, threads

EINVAL = -22
R, D = Via.RAW, Via.DEVICE


def status(call: int, vcpu: int, port: int = 1) -> Row:
    return (call, call + 10, Op.STATUS, port, DOMID_SELF, 1 | vcpu << 8, R)


def move(call: int, vcpu: int, ret: int = 0, port: int = 1, result: int = 0) -> Row:
    return (call, ret or call + 10, Op.BIND_VCPU, port, vcpu, result, R)


SELF: Row = (10, 20, Op.ALLOC_UNBOUND, DOMID_SELF, DOMID_SELF, 1, R)


@pytest.mark.parametrize(
    ("rows", "fine"),
    [
        ([SELF, status(50, 0)], True),
        ([SELF, status(50, 1)], False),
        ([SELF, move(30, 1), status(50, 1)], True),
        ([SELF, move(30, 1), status(50, 0)], False),  # the move was lost
        ([SELF, move(30, 1), move(45, 0), status(60, 1)], False),
        ([SELF, move(30, 9, result=-2), status(50, 9)], False),  # refused, and done
        ([SELF, move(30, 1), (45, 50, Op.CLOSE, 1, 0, 0, R), (55, 60, *SELF[2:]),
          status(70, 0)], True),
        ([SELF, move(30, 1), (45, 50, Op.CLOSE, 1, 0, 0, R), (55, 60, *SELF[2:]),
          status(70, 1)], False),  # kept across a close
    ],
)  # fmt: skip
def test_status_tells_the_vcpu_bound_last(rows: list[Row], fine: bool) -> None:
    own = [(*row[:4], 0, *row[5:]) if row[2] is Op.STATUS else row for row in rows]
    assert found(threads((0, own))) == (set() if fine else {rules.NOTIFY})


@pytest.mark.parametrize("vcpu", [0, 1, 2])
def test_moves_under_way_leave_both_vcpus_open(vcpu: int) -> None:
    rows = [SELF, move(30, 1), (60, 70, Op.STATUS, 1, 0, 1 | vcpu << 8, R)]
    other = [move(25, 2, ret=80)]
    assert bool(found(threads((0, rows), (0, other)))) == (vcpu == 0)


def test_a_move_that_never_returned_may_have_happened_at_any_time() -> None:
    rows = [SELF, (60, 70, Op.STATUS, 1, 0, 1 | 3 << 8, R)]
    flying: Row = (30, 0, Op.BIND_VCPU, 1, 3, 0, R)
    assert not found(threads((0, rows), (0, [flying])))


@pytest.mark.parametrize(("called", "vcpu"), [(65, 3), (65, 2), (75, 3)])
def test_a_move_that_never_returned_explains_no_answer_from_before_its_call(
    called: int, vcpu: int
) -> None:
    """While the answer was made it may have happened: STATUS and the move overlap."""
    rows = [SELF, (60, 70, Op.STATUS, 1, 0, 1 | vcpu << 8, R)]
    flying: Row = (called, 0, Op.BIND_VCPU, 1, 3, 0, R)
    explained = called < 70 and vcpu == 3
    assert bool(found(threads((0, rows), (0, [flying])))) is not explained


def test_the_kernel_may_move_its_own_ports() -> None:
    alloc: Row = (10, 20, Op.ALLOC_UNBOUND, DOMID_SELF, DOMID_SELF, 1, D)
    assert not found(threads((0, [alloc, (50, 60, Op.STATUS, 1, 0, 1 | 1 << 8, R)])))


def test_the_witness_of_a_vcpu_keeps_the_move_that_it_forgot() -> None:
    rows = [SELF, move(30, 1), move(45, 2), move(60, 0), (75, 80, Op.STATUS, 1, 0, 1 | 1 << 8, R)]
    (violation,) = check(threads((0, rows))).violations
    lines = [line for line in violation.story.splitlines() if "bind_vcpu(" in line]
    assert "vcpu 1) = 0" in lines[0] and len(lines) == 2, violation.story
    assert "Seen: vCPU 1." in violation.story
