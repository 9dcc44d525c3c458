# SPDX-License-Identifier: GPL-2.0-or-later
"""One rule at a time, on histories written out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.history.check import rules
from harness.history.checker import check
from harness.history.format.history import History, ThreadLog
from harness.history.format.record import Op, Via
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.changed_rules import Rule
from harness.model.lock.flavours import FLAVOURS
from harness.verdict import Verdict
from tests.history.written import Row, found, threads

EINVAL = -22
R, D = Via.RAW, Via.DEVICE

ALLOC: Row = (10, 20, Op.ALLOC_UNBOUND, DOMID_SELF, 0, 1, R)
BIND: Row = (30, 40, Op.BIND_INTERDOMAIN, 1, 0, 2, R)


def test_send_on_an_open_port_cannot_fail() -> None:
    assert found(threads((0, [ALLOC, (50, 60, Op.SEND, 1, 0, EINVAL, R)]))) == {rules.ANSWER}


def test_send_may_fail_while_the_port_is_closed() -> None:
    closer = [(45, 70, Op.CLOSE, 1, 0, 0, R)]
    assert not found(threads((0, [ALLOC, (50, 60, Op.SEND, 1, 0, EINVAL, R)]), (0, closer)))


def test_port_told_that_no_bind_could_have_made() -> None:
    alloc = (10, 40, Op.ALLOC_UNBOUND, DOMID_SELF, 0, 1, R)
    beside_the_birth = (12, 30, Op.BIND_INTERDOMAIN, 1, 0, 2, R)

    def told(port: int) -> Row:
        return (50, 60, Op.STATUS, 1, port, 2, R)

    assert not found(threads((0, [alloc, told(2)]), (0, [beside_the_birth])))
    assert found(threads((0, [alloc, told(9)]), (0, [beside_the_birth]))) == {rules.ANSWER}


def test_connection_is_known_until_the_first_bind_that_may_have_missed() -> None:
    close, late = (200, 220, Op.CLOSE, 1, 0, 0, R), (100, 210, Op.BIND_INTERDOMAIN, 1, 0, 3, R)
    gone = (70, 75, Op.CLOSE, 2, 0, 0, R)

    def of(row: Row, *, before: bool) -> set[str]:
        rows = [row, BIND] if before else [BIND, row]
        return found(threads((0, [ALLOC, *rows, gone, close]), (0, [late])))

    assert of((25, 28, Op.BIND_INTERDOMAIN, 1, 0, EINVAL, R), before=True) == {rules.ANSWER}
    assert of((50, 60, Op.STATUS, 1, 0, 1, R), before=False) == {rules.ANSWER}
    assert not of((50, 60, Op.STATUS, 1, 2, 2, R), before=False)


def test_answers_of_the_device_prove_nothing() -> None:
    assert not found(threads((0, [ALLOC, (50, 60, Op.SEND, 1, 0, -107, D)])))


def test_port_of_a_kernel_may_answer_anything() -> None:
    rows: list[Row] = [(10, 20, Op.STATUS, 7, 0, 4 | 1 << 8, R), (30, 40, Op.CLOSE, 7, 0, 0, R)]
    assert not found(threads((0, rows)))


def test_number_out_of_range() -> None:
    assert rules.RESULT in found(threads((0, [ALLOC, (50, 60, Op.SEND, 1, 0, -17, R)])))


def test_port_given_away_twice() -> None:
    again = (50, 60, Op.ALLOC_UNBOUND, DOMID_SELF, 0, 1, R)
    assert rules.ALLOCATION in found(threads((0, [ALLOC, again])))


def test_virq_bound_twice() -> None:
    rows: list[Row] = [
        (10, 20, Op.BIND_VIRQ, 17, 0, 1, R),
        (30, 40, Op.BIND_VIRQ, 17, 0, 2, R),
    ]
    assert found(threads((0, rows))) == {rules.VIRQ}


def test_bind_for_somebody_else() -> None:
    server: list[Row] = [(10, 20, Op.ALLOC_UNBOUND, DOMID_SELF, 2, 1, R)]
    client: list[Row] = [(30, 40, Op.BIND_INTERDOMAIN, 1, 0, 1, R)]
    other: list[Row] = [(5, 8, Op.STATUS, 60, 0, 0, R), (90, 95, Op.STATUS, 60, 0, 0, R)]
    late: Row = (90, 95, Op.STATUS, 60, 0, 0, R)
    history = threads((0, [*server, late]), (1, [*client, late]), (2, other))
    assert found(history) == {rules.BIND}


def test_two_answers_that_contradict_each_other() -> None:
    """Each is right at some instant of the bind, but not in this order."""
    one: list[Row] = [ALLOC, (50, 100, Op.BIND_INTERDOMAIN, 1, 0, 2, R)]
    two: list[Row] = [
        (60, 65, Op.STATUS, 1, 2, 2, R),
        (70, 75, Op.STATUS, 1, 0, 1, R),
    ]
    assert found(threads((0, one), (0, two))) == {rules.ORDER}
    assert not found(threads((0, one), (0, [two[0]])))
    assert not found(threads((0, one), (0, [two[1]])))


DEVICE_PAIR: list[Row] = [
    (10, 20, Op.ALLOC_UNBOUND, DOMID_SELF, 0, 1, D),
    (30, 40, Op.BIND_INTERDOMAIN, 1, 0, 2, D),
]


def test_event_that_nobody_sent() -> None:
    reader: list[Row] = [(5, 100, Op.RECV, 1, 0, 0, D)]
    assert found(threads((0, DEVICE_PAIR), (0, reader))) == {rules.INVENTED}


def test_bind_sets_the_local_port_pending() -> None:
    reader: list[Row] = [(5, 100, Op.RECV, 2, 0, 0, D)]
    assert not found(threads((0, DEVICE_PAIR), (0, reader)))


def test_delivery_before_the_port_is_enabled() -> None:
    sender = [*DEVICE_PAIR, (50, 60, Op.SEND, 2, 0, 0, R), (110, 120, Op.SEND, 2, 0, 0, R)]
    reader: list[Row] = [(5, 100, Op.RECV, 1, 0, 0, D), (130, 140, Op.RECV, 1, 0, 0, D)]
    assert found(threads((0, sender), (0, reader))) == {rules.MASKED}
    enabled = [reader[0], (105, 108, Op.ENABLE, 1, 0, 0, D), reader[1]]
    assert not found(threads((0, sender), (0, enabled)))


@pytest.mark.parametrize("op", [Op.ENABLE, Op.UNMASK])
def test_an_enable_may_return_after_its_port_was_closed_and_given_anew(op: Op) -> None:
    """Seen on x86-64: one thread's ENABLE, not back yet, is what lets the next event through."""
    sends: list[Row] = [(50, 60, Op.SEND, 2, 0, 0, R), (110, 120, Op.SEND, 2, 0, 0, R)]
    again: list[Row] = [
        (150, 160, Op.CLOSE, 1, 0, 0, D),
        (170, 180, Op.ALLOC_UNBOUND, DOMID_SELF, 0, 1, D),
    ]
    slow: list[Row] = [(5, 100, Op.RECV, 1, 0, 0, D), (105, 200, op, 1, 0, 0, D)]
    other: list[Row] = [(5, 140, Op.RECV, 1, 0, 0, D)]
    writer = [*DEVICE_PAIR, *sends, *again]
    assert not found(threads((0, writer), (0, slow), (0, other)))
    assert found(threads((0, writer), (0, slow[:1]), (0, other))) == {rules.MASKED}
    never: list[Row] = [slow[0], (105, 0, op, 1, 0, 0, D)]
    assert not found(threads((0, writer), (0, never), (0, other)))


def test_the_witness_of_a_masked_port_keeps_the_delivery_before() -> None:
    """Else the ENABLEs in between could be left out, and the story would not be true."""
    sender = list(DEVICE_PAIR)
    reader: list[Row] = []
    for at in (100, 200, 300):
        sender.append((at, at + 5, Op.SEND, 2, 0, 0, R))
        reader.append((at - 40, at + 20, Op.RECV, 1, 0, 0, D))
        reader.append((at + 22, at + 24, Op.ENABLE, 1, 0, 0, D))
    sender.append((350, 355, Op.SEND, 2, 0, 0, R))
    reader[-1] = (360, 370, Op.RECV, 1, 0, 0, D)  # nobody enabled the port after the third
    (violation,) = check(threads((0, sender), (0, reader))).violations
    assert violation.property == rules.MASKED
    received = [line for line in violation.story.splitlines() if "recv(" in line]
    assert len(received) == 2 and "0.310" in received[0], violation.story


def test_delivery_on_a_port_nobody_opened() -> None:
    assert found(threads((0, [*DEVICE_PAIR, (50, 60, Op.RECV, 9, 0, 0, D)]))) == {rules.STRAY}


def drained(flavour: str, *more: Row) -> History:
    """A send, silence, and both ports closed; ``more`` happens around the send."""
    ends: list[Row] = [
        (5_000, 5_010, Op.CLOSE, 2, 0, 0, D),
        (5_020, 5_030, Op.CLOSE, 1, 0, 0, D),
    ]
    first: list[Row] = [(45, 48, Op.RECV, 2, 0, 0, D), (49, 50, Op.ENABLE, 2, 0, 0, D)]
    sender: list[Row] = [*DEVICE_PAIR, *first, (100, 110, Op.SEND, 2, 0, 0, R), *ends]
    return threads((0, sender), (0, list(more)), flavour=flavour, drained_ns=1_000)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_lost_event(flavour: str) -> None:
    assert found(drained(flavour)) == {rules.LOST}


def test_delivered_event_is_not_lost() -> None:
    assert not found(drained("counter", (90, 300, Op.RECV, 1, 0, 0, D)))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_drop_is_legal_only_where_the_flavour_drops_and_a_writer_overlaps(flavour: str) -> None:
    """A STATUS proves the link before the bind returns: its writer may still be inside."""
    server: list[Row] = [
        (10, 20, Op.ALLOC_UNBOUND, DOMID_SELF, 0, 1, D),
        (40, 44, Op.STATUS, 1, 2, 2, R),
        (60, 70, Op.SEND, 1, 0, 0, R),
        (5_020, 5_030, Op.CLOSE, 1, 0, 0, D),
    ]
    client: list[Row] = [
        (30, 99, Op.BIND_INTERDOMAIN, 1, 0, 2, D),
        (5_000, 5_010, Op.CLOSE, 2, 0, 0, D),
    ]
    reader: list[Row] = [(35, 49, Op.RECV, 2, 0, 0, D), (50, 55, Op.ENABLE, 2, 0, 0, D)]
    history = threads((0, server), (0, client), (0, reader), flavour=flavour, drained_ns=1_000)
    assert found(history) == (set() if "counter" in flavour else {rules.LOST})


def test_without_the_promise_nothing_is_called_lost() -> None:
    history = drained("rwlock")
    silent = History(history.flavour, (4, 17), "x86_64", "test", history.threads)
    assert not found(silent)


def test_lost_records_end_all_claims() -> None:
    bad = threads((0, [ALLOC, (50, 60, Op.SEND, 1, 0, EINVAL, R)]))
    late: list[Row] = [(22, 25, Op.STATUS, 60, 0, 0, R)]
    other = threads((0, late)).threads[0]
    lossy = ThreadLog(0, "dom0", 5, 0, other.records, 10**9, 0, 0, lost=3)
    history = History("rwlock", (4, 17), "x86_64", "test", (*bad.threads, lossy))
    assert check(history).verdict is Verdict.PASS
    assert found(bad) == {rules.ANSWER}


def test_operation_in_flight_is_named() -> None:
    result = check(threads((0, [ALLOC, (50, 0, Op.CLOSE, 1, 0, 0, R)])))
    assert result.verdict is Verdict.PASS
    assert result.in_flight == (1,)


def test_nothing_recorded_is_no_pass() -> None:
    assert check(threads((0, []))).verdict is Verdict.MISS


def test_skew_makes_the_difference() -> None:
    """What is wrong on good clocks may be right on bad ones."""
    server: list[Row] = [(10, 20, Op.ALLOC_UNBOUND, DOMID_SELF, 1, 1, R)]
    server += [(200, 210, Op.STATUS, 60, 0, 0, R)]
    client: list[Row] = [
        (30, 40, Op.BIND_INTERDOMAIN, 1, 0, EINVAL, R),
        (200, 210, Op.STATUS, 60, 0, 0, R),
    ]
    good = threads((0, server), (1, client))
    assert found(good) == {rules.ANSWER}
    logs = tuple(
        ThreadLog(t.domid, t.domain, t.thread, 0, t.records, 10**9, 0, 30) for t in good.threads
    )
    assert not found(History("rwlock", (4, 17), "x86_64", "test", logs))


STATUS_EACCES: list[Row] = [(10, 20, Op.STATUS, 7, 0, -13, R)]
BIND_EBUSY: list[Row] = [(10, 20, Op.BIND_VIRQ, 3, 0, -16, R)]
PRIORITY_EACCES: list[Row] = [(10, 20, Op.SET_PRIORITY, 7, 3, -13, R)]


@pytest.mark.parametrize(
    ("rows", "rule"),
    [
        (STATUS_EACCES, Rule.STATUS_HIDES_XEN_BOUND),
        (BIND_EBUSY, Rule.VIRQ_WANTS_HANDLER),
        (PRIORITY_EACCES, Rule.UNUSABLE_PORT_UNTOUCHED),
    ],
)
def test_an_error_that_only_a_xen_with_the_rule_gives(rows: list[Row], rule: Rule) -> None:
    older = threads((0, rows))
    assert rules.RESULT not in found(older)  # nobody recorded which rules held
    assert rules.RESULT not in found(replace(older, rules=frozenset({rule.value})))
    assert rules.RESULT in found(replace(older, rules=frozenset()))


def test_a_witness_names_the_rules_that_are_not_the_releases_own() -> None:
    bad = replace(threads((0, STATUS_EACCES)), rules=frozenset({Rule.ARM_BIND_PIRQ.value}))
    (violation,) = check(bad).violations
    assert "Xen 4.17 with arm_bind_pirq without " in violation.story
