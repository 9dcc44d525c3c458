# SPDX-License-Identifier: GPL-2.0-or-later
"""The lock under the memory models: what critical sections see of one another."""

from __future__ import annotations

import pytest

from harness.model.explore.memory_model import MemoryModel
from harness.model.explore.search import Limits
from harness.model.explore.weak_memory import explore_weak
from harness.model.lock.counter import COUNTER_LOCK, POSTED_COUNTER_LOCK
from harness.model.lock.critical_sections import (
    reader_seen_whole,
    weak_systems,
    writer_seen_whole,
)
from harness.model.lock.locks import LOCKS


@pytest.mark.parametrize("memory", MemoryModel)
@pytest.mark.parametrize("flavour", LOCKS)
def test_sections_under_sc_do_what_the_explorer_proves(flavour: str, memory: MemoryModel) -> None:
    for system in weak_systems(flavour, 1, 2):
        explored = explore_weak(system, memory)
        assert explored.exhausted
        early = memory is MemoryModel.ARM and flavour == "counter-v2"
        assert bool(explored.counterexamples) <= early


def test_a_read_barrier_after_the_spin_cures_the_posted_counter() -> None:
    for readers in (1, 2, 3):
        sick = explore_weak(reader_seen_whole(POSTED_COUNTER_LOCK, readers, 1), MemoryModel.ARM)
        well = explore_weak(reader_seen_whole(COUNTER_LOCK, readers, 1), MemoryModel.ARM)
        assert sick.counterexamples and not well.counterexamples and well.exhausted
        assert not explore_weak(
            writer_seen_whole(COUNTER_LOCK, readers, 1), MemoryModel.ARM
        ).counterexamples


def test_the_trace_is_one_that_memory_can_show() -> None:
    """Replayed: each value read is what memory then held."""
    (found,) = explore_weak(
        reader_seen_whole(POSTED_COUNTER_LOCK, 1, 1), MemoryModel.ARM
    ).counterexamples
    before = {"L": 0, "x": 0, "y": 0}
    for move in found.trace:
        if move.step.startswith("read "):
            word = move.step.split()[1]
            assert f"read {word} = {before[word]}" in move.access
        before = dict(move.values)
    assert before["L"] == 0


def test_weak_exploration_stops_at_limits() -> None:
    system = reader_seen_whole(COUNTER_LOCK, 2, 1)
    assert not explore_weak(system, MemoryModel.ARM, Limits(states=100)).exhausted
    assert not explore_weak(system, MemoryModel.ARM, Limits(memory=10_000)).exhausted
