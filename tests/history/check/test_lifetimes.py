# SPDX-License-Identifier: GPL-2.0-or-later
"""Which close ends which lifetime of a port: the pictures of harness.history.check.lifetimes."""

from __future__ import annotations

from harness.history.check.lifetimes import Lifetimes
from harness.history.check.piece import prepare
from harness.history.check.scope import scope_of
from harness.history.format.columns import NEVER
from harness.history.format.record import Op, Via
from harness.model.evtchn.abi import DOMID_SELF
from tests.history.written import Row, threads


def lifetimes(*logs: list[Row]) -> Lifetimes:
    history = threads(*((0, rows) for rows in logs))
    scope = scope_of(history, [log.last_ns() for log in history.threads])
    return prepare(history.columns, scope).lifetimes


def alloc(call: int, ret: int, port: int = 1) -> Row:
    return (call, ret, Op.ALLOC_UNBOUND, DOMID_SELF, DOMID_SELF, port, Via.RAW)


def close(call: int, ret: int, port: int = 1) -> Row:
    return (call, ret, Op.CLOSE, port, 0, 0, Via.RAW)


def test_allocations_and_closes_take_turns() -> None:
    found = lifetimes([alloc(10, 20), close(30, 40), alloc(50, 60), close(70, 80), alloc(90, 95)])
    assert found.alloc.tolist() == [0, 2, 4]
    assert found.close.tolist() == [1, 3, -1]
    assert found.close_low.tolist() == [30, 70, 96]  # without a close: when the domain was gone
    assert found.close_high.tolist() == [40, 80, NEVER]
    assert found.next_ret.tolist() == [60, 95, NEVER]
    assert not found.doubtful.any() and not len(found.not_free)


def test_a_lifetime_begins_when_the_one_before_it_has_been_closed() -> None:
    found = lifetimes([alloc(10, 20)], [alloc(25, 60)], [close(30, 40)])
    assert found.begin_low.tolist() == [10, 30]


def test_a_surplus_close_that_overlaps_an_allocation_makes_its_lifetime_doubtful() -> None:
    rows, other = [alloc(10, 20), close(30, 40), alloc(60, 90)], [close(70, 110)]
    assert lifetimes(rows, other).doubtful.tolist() == [False, True]
    assert lifetimes(rows, [close(45, 55)]).doubtful.tolist() == [False, False]  # a kernel's


def test_a_missing_close_is_a_port_given_away_twice() -> None:
    found = lifetimes([alloc(10, 20), alloc(30, 40), close(50, 60), alloc(70, 80)])
    assert found.not_free.tolist() == [1]


def test_each_domain_has_ports_of_its_own() -> None:
    history = threads((0, [alloc(10, 20)]), (1, [alloc(30, 40)]))
    scope = scope_of(history, [log.last_ns() for log in history.threads])
    found = prepare(history.columns, scope).lifetimes
    assert found.channel.tolist() == [0, 1]
    assert found.find(found.keys[::-1]).tolist() == [1, 0]
