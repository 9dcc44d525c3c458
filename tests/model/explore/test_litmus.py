"""The memory models against the literature."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.model.explore.litmus import TESTS, Litmus, fenced, read, run, store
from harness.model.explore.memory_model import Memory
from harness.model.explore.program import Fence


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
