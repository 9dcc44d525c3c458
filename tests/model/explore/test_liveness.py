# SPDX-License-Identifier: GPL-2.0-or-later
"""Starvation under named fairness."""

from __future__ import annotations

import pytest

from harness.model.explore.liveness import Fairness, least_fairness, starvation
from harness.model.explore.program import Program, Role, System, Variable, on, rmw
from harness.model.lock.scenarios import Bounds, lock_scenario, mixed, unmask
from harness.model.lock.ticket_lock import ticketed

FEW = Bounds(2, 1)


def test_a_counter_writer_cannot_starve_if_who_can_run_runs() -> None:
    system = lock_scenario("counter", FEW)
    assert least_fairness(system, "writer") is Fairness.WEAK
    lasso = starvation(system, "writer", Fairness.NONE)
    assert lasso is not None
    assert all(not step.startswith("writer") for step in lasso.cycle)
    assert lasso.cycle


def test_xens_ticket_locks_are_fairer_than_any_waiter_may_be_next() -> None:
    system = lock_scenario("spinlock", FEW)
    assert least_fairness(system, "writer") is Fairness.STRONG
    assert least_fairness(ticketed(system, "lock", "elock"), "writer") is Fairness.WEAK


def test_a_rwlock_reader_in_the_slow_path_needs_strong_fairness() -> None:
    system = ticketed(mixed("rwlock", Bounds(1, 1)), "qlock", "elock")
    assert least_fairness(system, "send") is Fairness.STRONG
    lasso = starvation(system, "send", Fairness.WEAK)
    assert lasso is not None and any(step.startswith("writer") for step in lasso.cycle)


def test_an_exploration_cut_short_decides_no_starvation() -> None:
    endless = (rmw("add", "n", "", on("", "add", n=1)),)
    roles = (Role(Program("t", endless), 1),)
    system = System("endless", roles, (Variable("n", 0, 0, 3),), returns_to_rest=False)
    with pytest.raises(ValueError, match="not exhausted"):
        least_fairness(system, "t")


def test_an_unmask_that_insists_can_be_beaten_by_writers_without_end() -> None:
    """Not even strong fairness helps: a writer comes between its read and its add, each time."""
    assert least_fairness(unmask("counter", FEW), "unmask") is None
    lasso = starvation(unmask("counter", FEW), "unmask", Fairness.STRONG)
    assert lasso is not None
    assert any("undo" in step for step in lasso.cycle)
    assert least_fairness(ticketed(unmask("rwlock", FEW), "qlock"), "unmask") is Fairness.STRONG
