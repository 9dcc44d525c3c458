# SPDX-License-Identifier: GPL-2.0-or-later
"""Orders handed out one by one: all of them, each once, and the reductions leave what matters."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.model.explore.interleavings import (
    Interleaving,
    independent,
    initial_state,
    interleavings,
    replay,
    thread_names,
)
from harness.model.explore.program import (
    DONE,
    AccessKind,
    AtomicStep,
    Program,
    Role,
    System,
    Variable,
    on,
    rmw,
)
from harness.model.explore.search import explore
from harness.model.lock.locks import LOCKS
from harness.model.lock.scenarios import Bounds, lock_scenario


def once(flavour: str, readers: int, writers: int) -> System:
    made = lock_scenario(flavour, Bounds(readers, writers), event_lock=writers > 1)
    return System(
        made.name,
        tuple(Role(role.program.once(), role.count) for role in made.roles),
        made.variables,
        made.constants,
    )


def straight(words: tuple[str, ...], name: str) -> Program:
    """A thread that increments ``words`` one after the other."""
    names = [f"s{number}" for number in range(len(words))]
    following = [*names[1:], DONE]
    steps = (
        rmw(step, word, "", on("", then, **dict[str, Any]({word: 1})))
        for step, word, then in zip(names, words, following, strict=True)
    )
    return Program(name, tuple(steps))


def free(*programs: tuple[str, ...]) -> System:
    roles = tuple(Role(straight(words, f"t{n}"), 1) for n, words in enumerate(programs))
    names = sorted({word for words in programs for word in words})
    return System("free", roles, tuple(Variable(name, 0, 0, 9) for name in names))


def trace(path: Interleaving) -> tuple[tuple[int, ...], ...]:
    """What is the same for orders of one Mazurkiewicz trace: who came before whom."""
    return tuple(
        (a, b)
        for a, one in enumerate(path)
        for b, other in enumerate(path)
        if a < b and not independent(one.step, other.step) and one.thread != other.thread
    )


def key(path: Interleaving) -> frozenset[tuple[tuple[int, str], tuple[int, str]]]:
    return frozenset(
        ((path[a].thread, path[a].step.name), (path[b].thread, path[b].step.name))
        for a, b in trace(path)
    )


def test_threads_that_never_meet_have_all_orders_or_one() -> None:
    system = free(("a", "a"), ("b", "b"))
    assert sum(1 for _ in interleavings(system)) == 6  # 4 over 2
    assert sum(1 for _ in interleavings(system, reduce=True)) == 1


def test_preemptions_are_bounded() -> None:
    system = free(("a", "a"), ("a", "a"))
    assert sum(1 for _ in interleavings(system, preemptions=0)) == 2
    assert sum(1 for _ in interleavings(system, preemptions=1)) == 4
    assert sum(1 for _ in interleavings(system, preemptions=9)) == 6


words = st.lists(st.sampled_from("ab"), min_size=1, max_size=2).map(tuple)


@settings(deadline=None)
@given(st.lists(words, min_size=1, max_size=3))
def test_reduction_leaves_one_order_of_every_trace(programs: list[tuple[str, ...]]) -> None:
    system = free(*programs)
    every = list(interleavings(system))
    reduced = list(interleavings(system, reduce=True))
    assert len({tuple((t.thread, t.step.name) for t in path) for path in every}) == len(every)
    assert sorted(map(sorted, {key(p) for p in every})) == sorted(map(sorted, map(key, reduced)))


@pytest.mark.parametrize("flavour", LOCKS)
@pytest.mark.parametrize("waits", [False, True])
def test_orders_end_where_exploration_says(flavour: str, waits: bool) -> None:
    system = once(flavour, 1, 1)
    every = list(interleavings(system, waits=waits))
    assert len(every) >= 2
    for path in every:
        places, values = initial_state(system)
        here, now = list(places), dict(values)
        for turn in path:
            assert here[turn.thread] == turn.step.name
            if turn.branch is None:
                assert turn.values == tuple(now.items()) and turn.step.kind is AccessKind.LOAD
            here[turn.thread], now = turn.then, dict(turn.values)
        assert set(here) == {DONE}
        assert not any(now.values()), "the lock is free again"
    assert explore(system).exhausted


def test_a_waiting_thread_looks_once_until_something_changes() -> None:
    for path in interleavings(once("counter", 1, 1), waits=True):
        for one, other in pairwise(path):
            assert not (one.branch is None and other.branch is None)


def test_threads_are_named_in_order() -> None:
    assert thread_names(once("counter", 2, 1)) == ("send 1", "send 2", "writer")


def test_independence_is_by_variable() -> None:
    def step(word: str, **adds: Any) -> AtomicStep:
        return rmw("s", word, "", on("", DONE, **adds))

    assert independent(step("x", x=1), step("y", y=1))
    assert not independent(step("x", x=1), step("x", x=1))


@pytest.mark.parametrize("flavour", LOCKS)
def test_an_order_can_be_followed_again(flavour: str) -> None:
    system = once(flavour, 1, 1)
    for path in interleavings(system, waits=True):
        assert replay(system, [turn.thread for turn in path]) == path


def test_an_order_that_the_model_cannot_take_is_refused() -> None:
    system = once("counter", 1, 1)
    with pytest.raises(ValueError, match="turn 1: thread 7"):
        replay(system, [7])
    with pytest.raises(ValueError, match="not ended"):
        replay(system, [0])
