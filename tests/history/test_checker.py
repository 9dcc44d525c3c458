"""The oracle: no false alarm, no visible bug missed, the same verdicts as brute force.

The samples here are small; the same functions run over 10,000 seeds by hand.
"""

from __future__ import annotations

import random
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from harness.history import checker, rules
from harness.history.checker import check
from harness.history.history import DOMID_SELF, History, ThreadLog, write
from harness.history.record import RECORD, Op, Via
from harness.history.simulate.bugs import ANSWERS, BUGS, inject
from harness.history.simulate.run import Recipe, generate
from harness.model.flavour import FLAVOURS
from harness.verdict import Verdict
from tests.history.brute import explained
from tests.history.tiny import tiny

EINVAL = -22
R, D = Via.RAW, Via.DEVICE


def recipe(seed: int, *, crash: bool = True) -> Recipe:
    rng = random.Random(seed)
    return Recipe(
        seed,
        flavour=rng.choice(list(FLAVOURS)),
        operations=rng.choice([30, 100, 300]),
        domains=rng.choice([1, 2, 3]),
        threads=rng.choice([1, 2, 4]),
        skew_ns=rng.choice([0, 0, 500, 5_000]),
        crash=crash and rng.random() < 0.3,
        kernel=rng.choice([0, 0.05, 0.3]),
    )


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_no_false_alarm(first: int) -> None:
    for seed in range(first, first + 20):
        result = check(generate(recipe(seed)))
        assert result.verdict is Verdict.PASS, (seed, result.violations[0].story)


@pytest.mark.parametrize("seed", [41436, 6000333])
def test_no_false_alarm_where_there_once_was(seed: int) -> None:
    assert check(generate(recipe(seed))).verdict is Verdict.PASS


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_visible_bugs_are_found_and_told_in_few_lines(bug: str) -> None:
    sizes: list[int] = []
    seed = 0
    while len(sizes) < 2 and seed < 400:
        injected = inject(recipe(seed, crash=bug in ANSWERS), bug)
        seed += 1
        if injected is not None:
            result = check(injected[0])
            assert result.verdict is Verdict.FAIL, (bug, seed - 1)
            sizes.append(len(result.violations[0].operations))
    assert sizes, f"no seed shows {bug}"
    assert median(sizes) <= 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bug", "seed"),
    [
        ("status wrong port", 20853),
        ("status wrong port", 21205),
        ("status wrong port", 21269),
        ("status unbound", 5044),
        ("bind refused", 377),
        ("status unbound", 21092),
        ("status unbound", 23540),
        ("status unbound", 27332),
        ("status unbound", 29332),
        ("send lost", 23388),
        ("bind refused", 24969),
        ("event invented", 18974),
        ("event invented", 25486),
        ("send refused", 29968),
        ("bind refused", 108569),  # STATUS told that it cannot have been that port
        ("bind refused", 109657),  # the other end's number was given anew
        ("event invented", 112206),  # an UNMASK of the life before
        ("event invented", 3000126),  # which life it was is not known, but nobody ever sent
        ("unmask lost", 3010605),  # a slow bind was not to the life that was for another domain
    ],
)
def test_bugs_beside_what_overlaps_a_birth_or_a_close(bug: str, seed: int) -> None:
    injected = inject(recipe(seed, crash=bug in ANSWERS), bug)
    assert injected is not None
    assert check(injected[0]).verdict is Verdict.FAIL


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 300, 50))
def test_same_verdicts_as_brute_force(first: int) -> None:
    for seed in range(first, first + 50):
        history = tiny(seed)
        assert (check(history).verdict is Verdict.PASS) == explained(history), seed


def test_no_port_is_connected_to_itself() -> None:
    """Here brute force once believed everything of a port whose other end is a kernel's."""
    assert not explained(tiny(30997)) and check(tiny(30997)).verdict is Verdict.FAIL


@pytest.mark.parametrize("seed", [4084, 4889, 4001250])
def test_brute_force_once_knew_better(seed: int) -> None:
    assert check(tiny(seed)).verdict is Verdict.FAIL


def test_tiny_histories_are_of_both_sorts() -> None:
    verdicts = [explained(tiny(seed)) for seed in range(60)]
    assert 5 < verdicts.count(False) < 55


@pytest.mark.slow
def test_pieces_give_the_verdict_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {seed: check(generate(recipe(seed))).verdict for seed in range(30)}
    bad = [inject(recipe(seed, crash=False), "send refused") for seed in range(30)]
    monkeypatch.setattr(checker, "PIECE", 64)
    monkeypatch.setattr("harness.history.stream._OVERLAP", 16)
    for seed, verdict in whole.items():
        assert check(generate(recipe(seed))).verdict is verdict, seed
    seen = [check(injected[0]).verdict is Verdict.FAIL for injected in bad if injected]
    assert len(seen) > 15
    assert sum(seen) > 0.9 * len(seen)  # 64 operations are few: less can be known at borders


def test_file_gives_the_verdict_of_the_memory(tmp_path: Path) -> None:
    injected = next(h for s in range(50) if (h := inject(recipe(s, crash=False), "status closed")))
    write(injected[0], tmp_path / "h.parquet")
    one, two = check(injected[0]), check(tmp_path / "h.parquet")
    assert one.violations == two.violations
    assert one.operations == two.operations == injected[0].operations


# -- one rule at a time --------------------------------------------------------------------

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


# -- the notify vCPU -------------------------------------------------------------------------


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


def test_the_kernel_may_move_its_own_ports() -> None:
    alloc: Row = (10, 20, Op.ALLOC_UNBOUND, DOMID_SELF, DOMID_SELF, 1, D)
    assert not found(threads((0, [alloc, (50, 60, Op.STATUS, 1, 0, 1 | 1 << 8, R)])))


def test_the_witness_of_a_vcpu_keeps_the_move_that_it_forgot() -> None:
    rows = [SELF, move(30, 1), move(45, 2), move(60, 0), (75, 80, Op.STATUS, 1, 0, 1 | 1 << 8, R)]
    (violation,) = check(threads((0, rows))).violations
    lines = [line for line in violation.story.splitlines() if "bind_vcpu(" in line]
    assert "vcpu 1) = 0" in lines[0] and len(lines) == 2, violation.story
    assert "Seen: vCPU 1." in violation.story
