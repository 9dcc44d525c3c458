# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory models against the literature."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.model.explore.litmus import LITMUS_TESTS, Litmus, fenced, is_observable, read, write
from harness.model.explore.memory_model import MemoryModel
from harness.model.explore.program import Fence


@pytest.mark.parametrize("memory", MemoryModel)
@pytest.mark.parametrize("test", LITMUS_TESTS, ids=lambda test: test.name)
def test_litmus(test: Litmus, memory: MemoryModel) -> None:
    assert is_observable(test, memory) is (memory in test.allowed), test.source


def test_the_table_has_every_shape_with_and_without_barriers() -> None:
    for shape in ("SB", "MP", "LB", "S", "R", "2+2W", "IRIW", "CoRR"):
        variants = [
            t.name for t in LITMUS_TESTS if t.name == shape or t.name.startswith(f"{shape}+")
        ]
        assert shape in variants
        assert any("mb" in name for name in variants)
    assert all(test.source for test in LITMUS_TESTS)


def test_what_sc_allows_the_weaker_models_allow_too() -> None:
    for test in LITMUS_TESTS:
        assert MemoryModel.SC not in test.allowed
        assert MemoryModel.TSO not in test.allowed or MemoryModel.ARM in test.allowed


def test_sc_sees_every_interleaving_of_message_passing() -> None:
    test = Litmus(
        "MP",
        ((write("x", 1), write("y", 1)), (read("y", "r1"), read("x", "r2"))),
        "r1 == 0 and r2 == 1",
        frozenset(),
        "",
    )
    assert is_observable(test, MemoryModel.SC)
    assert is_observable(replace(test, outcome="r1 == 0 and r2 == 0"), MemoryModel.SC)
    assert is_observable(replace(test, outcome="r1 == 1 and r2 == 1"), MemoryModel.SC)


def test_a_write_barrier_does_not_order_loads() -> None:
    threads = (
        (write("x", 1), write("y", 1)),
        (fenced(read("y", "r1"), Fence.WRITE), read("x", "r2")),
    )
    test = Litmus("", threads, "r1 == 1 and r2 == 0", frozenset(), "")
    assert is_observable(test, MemoryModel.ARM)
