"""Starvation under named fairness, lock order, and the predictions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.model.liveness import Fairness, least_fairness, starvation
from harness.model.lockorder import NEW_TREE, OLD_TREE, Edge, Tree, deadlocks, edges
from harness.model.locks import LOCKS
from harness.model.predictions import predictions, weak_memory
from harness.model.program import Program, Role, System, Variable, chain, on, rmw
from harness.model.scenarios import Bounds, lock, mixed, unmask
from harness.model.tickets import ticketed

FEW = Bounds(2, 1)


def test_a_counter_writer_cannot_starve_if_who_can_run_runs() -> None:
    system = lock("counter", FEW)
    assert least_fairness(system, "writer") is Fairness.WEAK
    lasso = starvation(system, "writer", Fairness.NONE)
    assert lasso is not None
    assert all(not step.startswith("writer") for step in lasso.cycle)
    assert lasso.cycle


def test_xens_ticket_locks_are_fairer_than_any_waiter_may_be_next() -> None:
    system = lock("spinlock", FEW)
    assert least_fairness(system, "writer") is Fairness.STRONG
    assert least_fairness(ticketed(system, "lock", "elock"), "writer") is Fairness.WEAK


def test_a_rwlock_reader_in_the_slow_path_needs_strong_fairness() -> None:
    system = ticketed(mixed("rwlock", Bounds(1, 1)), "qlock", "elock")
    assert least_fairness(system, "send") is Fairness.STRONG
    lasso = starvation(system, "send", Fairness.WEAK)
    assert lasso is not None and any(step.startswith("writer") for step in lasso.cycle)


def test_an_exploration_cut_short_decides_no_starvation() -> None:
    endless = chain((rmw("add", "n", "", on("", "add", n=1)),))
    roles = (Role(Program("t", endless), 1),)
    system = System("endless", roles, (Variable("n", 0, 0, 3),), home=False)
    with pytest.raises(ValueError, match="not exhausted"):
        least_fairness(system, "t")


def test_an_unmask_that_insists_can_be_beaten_by_writers_without_end() -> None:
    """Not even strong fairness helps: a writer comes between its read and its add, each time."""
    assert least_fairness(unmask("counter", FEW), "unmask") is None
    lasso = starvation(unmask("counter", FEW), "unmask", Fairness.STRONG)
    assert lasso is not None
    assert any("undo" in step for step in lasso.cycle)
    assert least_fairness(ticketed(unmask("rwlock", FEW), "qlock"), "unmask") is Fairness.STRONG


@pytest.mark.parametrize("flavour", LOCKS)
def test_lock_order(flavour: str) -> None:
    assert not deadlocks(edges(flavour, NEW_TREE))
    abba = deadlocks(edges(flavour, OLD_TREE))
    assert abba and {"channel lock", "vm_event lock"} <= {e.held for e in abba[0]}
    unordered = deadlocks(edges(flavour, Tree(False, by_address=False)))
    assert {len(cycle) for cycle in unordered} == {2}
    recursive = deadlocks(edges(flavour, Tree(False, irqs_off=False)))
    assert bool(recursive) is (flavour == "spinlock")


def test_a_try_breaks_a_cycle() -> None:
    ring = [Edge("a", "b", True, ""), Edge("b", "c", True, ""), Edge("c", "a", True, "")]
    assert [len(cycle) for cycle in deadlocks(ring)] == [3]
    assert not deadlocks([*ring[:2], replace(ring[2], waits=False)])
    assert [len(cycle) for cycle in deadlocks([*ring, Edge("b", "a", True, "")])] == [2, 3]


HOLDS = {
    ("below-w", "counter"): True,
    ("exactly-w", "counter"): False,
    ("above-w", "counter"): False,
    ("two-writers", "spinlock"): True,
    ("two-writers", "counter-v2"): False,
    ("two-writers", "counter"): False,
    ("two-writers", "rwlock"): True,
    ("interrupt", "spinlock"): True,
    ("interrupt", "counter-v2"): True,
    ("interrupt", "counter"): True,
    ("interrupt", "rwlock"): True,
    ("interrupt-blocks", "spinlock"): False,
    ("interrupt-blocks", "counter"): False,
    ("leak", "spinlock"): False,
    ("leak", "counter-v2"): False,
    ("leak", "counter"): False,
    ("leak", "rwlock"): False,
    ("poll-pending", "spinlock"): True,
    ("poll-pending", "counter"): False,
    ("poll-pending", "rwlock"): True,
}


@pytest.mark.slow
def test_predictions() -> None:
    found = list(predictions())
    assert {(p.name, p.flavour): p.holds for p in found if p.name != "consumer-callback"} == HOLDS
    callbacks = [p for p in found if p.name == "consumer-callback"]
    assert [p.holds for p in callbacks] == [False, True] * len(LOCKS)
    for one in found:
        assert one.holds or one.moves or one.name == "above-w"
    inside = {p.flavour for p in found if p.name == "interrupt" and p.moves}
    assert inside == {"rwlock"}  # the lock lets its own CPU in


def test_the_weak_memory_question_is_settled() -> None:
    refuted = {(w.lock, w.memory.value) for w in weak_memory() if w.moves is not None}
    assert refuted == {("counter", "arm"), ("counter-v2", "arm")}
