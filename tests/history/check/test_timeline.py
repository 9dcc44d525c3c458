# SPDX-License-Identifier: GPL-2.0-or-later
"""When ports changed their state: the pictures of the timeline, of changes and connections."""

from __future__ import annotations

import numpy as np

from harness.history.check.changes import find_timeline
from harness.history.check.piece import Piece, prepare
from harness.history.check.scope import scope_of
from harness.history.check.states import (
    ANYTHING,
    INTERDOMAIN,
    OPEN,
    UNBOUND,
    domid_of,
    other_end,
    stat_of,
)
from harness.history.check.timeline import Timeline
from harness.history.format.record import Op, Via
from harness.model.evtchn.abi import DOMID_SELF
from tests.history.written import Row, threads

R = Via.RAW


def piece(*logs: list[Row]) -> Piece:
    history = threads(*((0, rows) for rows in logs))
    scope = scope_of(history, [log.last_ns() for log in history.threads])
    return prepare(history.columns, scope)


def alloc(call: int, ret: int, port: int) -> Row:
    return (call, ret, Op.ALLOC_UNBOUND, DOMID_SELF, DOMID_SELF, port, R)


def bind(call: int, ret: int, remote: int, port: int) -> Row:
    return (call, ret, Op.BIND_INTERDOMAIN, remote, DOMID_SELF, port, R)


def close(call: int, ret: int, port: int) -> Row:
    return (call, ret, Op.CLOSE, port, 0, 0, R)


def status(call: int, ret: int, port: int, stat: int) -> Row:
    return (call, ret, Op.STATUS, port, 0, stat, R)


Change = tuple[int, int, int]  # EVTCHNSTAT that it leads to, and its bounds


def changes(timeline: Timeline, port: int) -> list[Change]:
    mine = timeline.lifetimes.keys[timeline.channel] == port
    stats, lows, highs = stat_of(timeline.after), timeline.low, timeline.high
    return list(zip(stats[mine].tolist(), lows[mine].tolist(), highs[mine].tolist(), strict=True))


def test_a_server_and_its_clients_one_after_the_other() -> None:
    rows = [alloc(10, 20, 1), bind(30, 40, 1, 2), close(50, 60, 2)]
    rows += [bind(70, 80, 1, 3), close(90, 100, 3), close(110, 120, 1)]
    timeline = find_timeline(piece(rows))
    assert changes(timeline, 1) == [
        (UNBOUND, 10, 20),
        (INTERDOMAIN, 30, 40),
        (UNBOUND, 50, 60),
        (INTERDOMAIN, 70, 80),
        (UNBOUND, 90, 100),
        (ANYTHING, 110, 120),
    ]
    assert changes(timeline, 2) == [
        (INTERDOMAIN, 30, 40),
        (UNBOUND, 50, 60),  # not later than its own close
        (ANYTHING, 50, 60),
    ]


def test_bounds_are_narrowed_in_the_order_of_a_ports_changes() -> None:
    timeline = find_timeline(piece([alloc(10, 20, 1)], [bind(30, 90, 1, 2)], [close(40, 45, 1)]))
    assert timeline.connections.links.server.tolist() == []  # the close overlaps the bind
    first = find_timeline(piece([alloc(10, 20, 1)], [bind(30, 90, 1, 2), close(95, 99, 2)]))
    assert changes(first, 1)[1] == (INTERDOMAIN, 30, 90)
    answered = first.with_answers(*(np.array([n]) for n in (0, 2, 50, 60)))  # after the bind
    assert changes(answered, 1)[:2] == [(UNBOUND, 10, 20), (INTERDOMAIN, 30, 60)]


def test_bounds_are_narrowed_across_the_two_ports_of_a_bind() -> None:
    work = piece([alloc(10, 20, 1), bind(30, 90, 1, 2)])
    timeline = find_timeline(work).with_answers(*(np.array([n]) for n in (0, 2, 50, 60)))
    assert changes(timeline, 2)[0] == (INTERDOMAIN, 30, 90)
    assert changes(timeline.across_ports(work.columns), 2)[0] == (INTERDOMAIN, 30, 60)


def test_positions_are_between_the_changes_that_may_be_near() -> None:
    timeline = find_timeline(piece([alloc(10, 20, 1), bind(30, 60, 1, 2), close(80, 90, 2)]))
    zero = np.zeros(4, np.int64)
    call, ret = np.array([1, 22, 40, 70]), np.array([5, 25, 70, 75])
    first, last = timeline.positions(zero, call, ret)
    assert first.tolist() == [0, 1, 1, 2]
    assert last.tolist() == [0, 1, 2, 2]
    assert stat_of(timeline.state(zero, last)).tolist() == [
        ANYTHING,
        UNBOUND,
        INTERDOMAIN,
        INTERDOMAIN,
    ]


def test_nothing_is_claimed_about_a_port_after_a_violation() -> None:
    timeline = find_timeline(piece([alloc(10, 20, 1), alloc(30, 40, 2)]))
    disclaimed = timeline.disclaimed(np.array([0]))
    assert (disclaimed.after[0], disclaimed.operation[0]) == (ANYTHING, -1)
    assert changes(disclaimed, 2) == changes(timeline, 2)


def two_lifetimes(*more: Row) -> Timeline:
    """Port 1 is closed and allocated again while port 2 is bound to it."""
    first: list[Row] = [alloc(10, 20, 1), close(35, 40, 1), alloc(45, 50, 1), *more]
    return find_timeline(piece(first, [bind(30, 60, 1, 2)]))


def test_a_bind_that_two_lifetimes_overlap_is_not_certain() -> None:
    timeline = two_lifetimes()
    assert len(timeline.connections.links.bind) == 0
    assert not timeline.connections.known.any()
    assert [stat for stat, _, _ in changes(timeline, 2)] == [OPEN, ANYTHING]


def test_a_status_excludes_the_lifetime_that_is_still_open() -> None:
    timeline = two_lifetimes(status(70, 75, 2, UNBOUND))
    # The second lifetime is not what port 2 was bound to: it stays known.
    assert timeline.connections.known.tolist() == [False, True, False]


def test_when_the_number_is_allocated_again_the_other_end_is_gone() -> None:
    timeline = two_lifetimes(close(100, 110, 1), alloc(120, 130, 1))
    assert timeline.connections.unknown_peers.closed_high.tolist() == [130]
    assert [stat for stat, _, _ in changes(timeline, 2)] == [OPEN, UNBOUND, ANYTHING]
    assert changes(timeline, 2)[1][2] == 130


def test_what_an_open_port_may_be_connected_to() -> None:
    timeline = two_lifetimes()
    lifetime = np.flatnonzero(timeline.lifetimes.keys[timeline.lifetimes.channel] == 1)
    ports = np.full(len(lifetime), 2)
    assert timeline.connections.possible_peer(lifetime, ports).all()
    assert not timeline.connections.possible_peer(lifetime, ports + 1).any()


def test_states_name_the_other_end() -> None:
    states = find_timeline(piece([alloc(10, 20, 1), bind(30, 40, 1, 2)])).after.tolist()
    assert [other_end(s) for s in states if stat_of(s) == INTERDOMAIN] == [2, 1]
    assert domid_of(states[0]) == 0
