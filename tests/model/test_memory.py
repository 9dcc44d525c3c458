"""The memory models against the literature, and the lock under them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.model.explore import Limits
from harness.model.litmus import TESTS, Litmus, fenced, read, run, store
from harness.model.locks import COUNTER_LOCK, LOCKS
from harness.model.memory import Memory
from harness.model.mutants import SPIN_BARRIER, lock_of
from harness.model.program import Fence
from harness.model.sections import reader_seen_whole, weak_systems, writer_seen_whole
from harness.model.weak import explore_weak


@pytest.mark.parametrize("memory", Memory)
@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.name)
def test_litmus(test: Litmus, memory: Memory) -> None:
    assert run(test, memory) is (memory in test.allowed), test.source


def test_the_table_has_every_shape_with_and_without_barriers() -> None:
    for shape in ("SB", "MP", "LB", "S", "R", "2+2W", "IRIW", "CoRR"):
        variants = [t.name for t in TESTS if t.name == shape or t.name.startswith(f"{shape}+")]
        assert shape in variants
        assert any("mb" in name for name in variants)
    assert all(test.source for test in TESTS)


def test_what_sc_allows_the_weaker_models_allow_too() -> None:
    for test in TESTS:
        assert Memory.SC not in test.allowed
        assert Memory.TSO not in test.allowed or Memory.ARM in test.allowed


def test_sc_sees_every_interleaving_of_message_passing() -> None:
    test = Litmus(
        "MP",
        ((store("x", 1), store("y", 1)), (read("y", "r1"), read("x", "r2"))),
        "r1 == 0 and r2 == 1",
        frozenset(),
        "",
    )
    assert run(test, Memory.SC)
    assert run(replace(test, outcome="r1 == 0 and r2 == 0"), Memory.SC)
    assert run(replace(test, outcome="r1 == 1 and r2 == 1"), Memory.SC)


def test_a_write_barrier_does_not_order_loads() -> None:
    threads = (
        (store("x", 1), store("y", 1)),
        (fenced(read("y", "r1"), Fence.WRITE), read("x", "r2")),
    )
    test = Litmus("", threads, "r1 == 1 and r2 == 0", frozenset(), "")
    assert run(test, Memory.ARM)


@pytest.mark.parametrize("memory", Memory)
@pytest.mark.parametrize("flavour", LOCKS)
def test_sections_under_sc_do_what_the_explorer_proves(flavour: str, memory: Memory) -> None:
    for system in weak_systems(flavour, 1, 2):
        explored = explore_weak(system, memory)
        assert explored.exhausted
        early = memory is Memory.ARM and flavour.startswith("counter")
        assert bool(explored.found) <= early


def test_a_read_barrier_after_the_spin_cures_the_counter() -> None:
    cured = lock_of(SPIN_BARRIER)
    for readers in (1, 2, 3):
        sick = explore_weak(reader_seen_whole(COUNTER_LOCK, readers, 1), Memory.ARM)
        well = explore_weak(reader_seen_whole(cured, readers, 1), Memory.ARM)
        assert sick.found and not well.found and well.exhausted
        assert not explore_weak(writer_seen_whole(cured, readers, 1), Memory.ARM).found


def test_the_trace_is_one_that_memory_can_show() -> None:
    """Replayed: each value read is what memory then held."""
    (found,) = explore_weak(reader_seen_whole(COUNTER_LOCK, 1, 1), Memory.ARM).found
    before = {"L": 0, "x": 0, "y": 0}
    for move in found.moves:
        if move.step.startswith("read "):
            word = move.step.split()[1]
            assert f"read {word} = {before[word]}" in move.access
        before = dict(move.values)
    assert before["L"] == 0


def test_weak_exploration_stops_at_limits() -> None:
    system = reader_seen_whole(COUNTER_LOCK, 2, 1)
    assert not explore_weak(system, Memory.ARM, Limits(states=100)).exhausted
    assert not explore_weak(system, Memory.ARM, Limits(memory=10_000)).exhausted
