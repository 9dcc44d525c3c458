# SPDX-License-Identifier: GPL-2.0-or-later
"""The explorer: counts, reductions, shortest traces, limits, determinism."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from harness.model.explore.program import Program, Role, System, Variable, load, on, rmw
from harness.model.explore.search import LOCK_FREE_AT_REST, Limits, Progress, explore
from harness.model.explore.state_set import DenseStateSet, HashedStateSet, empty_state_set
from harness.model.explore.state_space import StateSpace
from harness.model.lock.lock_functions import (
    COUNTER_RANGE,
    DROPPED_WITHOUT_WRITER,
    MUTUAL_EXCLUSION,
)
from harness.model.lock.locks import LOCKS
from harness.model.lock.scenarios import SCENARIOS, Bounds, leak, lock_scenario

SMALL = Bounds(3, 2)


def racing_counter(threads: int, limit: int) -> System:
    """Threads that read a counter and then add 1 to it if it was below ``limit``."""
    steps = (
        load("look", "n", "a", on(f"n < {limit}", "add"), on(f"n >= {limit}", "look")),
        rmw("add", "n", "b", on("", "look", n=1)),
    )
    variables = (Variable("n", 0, 0, 20),)
    return System("race", (Role(Program("t", steps), threads),), variables, returns_to_rest=False)


def test_a_race_is_counted_by_hand() -> None:
    # n = 0..limit-1: any of 0..2 threads may be about to add; beyond, those that had looked.
    explored = explore(racing_counter(2, 1))
    assert explored.states == len({(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)})
    assert explored.unreduced == 6 + 2  # (0, 1) and (1, 1): either thread
    assert explore(racing_counter(2, 1).without_symmetry()).states == explored.unreduced


@pytest.mark.parametrize("flavour", LOCKS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_reduced_states_stand_for_the_unreduced_ones(flavour: str, scenario: str) -> None:
    system = SCENARIOS[scenario](flavour, SMALL)
    reduced, apart = explore(system), explore(system.without_symmetry())
    assert reduced.unreduced == apart.states
    assert [f.property for f in reduced.counterexamples] == [
        f.property for f in apart.counterexamples
    ]
    assert [len(f.trace) for f in reduced.counterexamples] == [
        len(f.trace) for f in apart.counterexamples
    ]


def test_the_counter_is_a_sum_over_threads_whatever_their_number() -> None:
    found = explore(lock_scenario("counter", SMALL)).invariants
    assert "L = 1 * #send.undo + 1 * #send.leave + 8192 * #writer.spin + 8192 * #writer.leave" in (
        found
    )


def test_a_leak_makes_the_counter_a_variable_of_its_own() -> None:
    assert set(StateSpace(leak("counter", SMALL)).digits) == {"L"}


def test_128_readers_and_two_writers_are_exhausted_within_the_promised_memory() -> None:
    explored = explore(lock_scenario("counter", Bounds(128, 2)))
    assert explored.exhausted and not explored.counterexamples
    assert explored.states == 1472964
    assert explored.bytes < 10**9


def test_with_w_readers_an_event_is_lost_with_no_writer_there() -> None:
    explored = explore(lock_scenario("counter", Bounds(128, 1, "arm64")))
    (lost,) = [f for f in explored.counterexamples if f.property == DROPPED_WITHOUT_WRITER]
    assert MUTUAL_EXCLUSION not in {f.property for f in explored.counterexamples}
    # Nobody but readers: each looks, each adds, the 128th finds L == W.
    assert len(lost.trace) == 256
    assert {move.thread.split()[0] for move in lost.trace} == {"send"}
    assert dict(lost.trace[-1].values)["L"] == 128


def test_a_trace_starts_at_rest_and_shows_the_counter_after_each_step() -> None:
    explored = explore(lock_scenario("counter", Bounds(1, 2), event_lock=False))
    stuck = next(f for f in explored.counterexamples if f.property == "no stuck writer or reader")
    assert [dict(move.values)["L"] for move in stuck.trace] == [8192, 16384, 8192, 16384]
    assert stuck.trace[-1].then == "spin"
    assert all("evtchn" in move.xen for move in stuck.trace)
    assert COUNTER_RANGE in {f.property for f in explored.counterexamples}


def test_stopping_at_a_limit_is_not_exhausted() -> None:
    system = lock_scenario("counter", Bounds(20, 1))
    whole = explore(system)
    assert whole.exhausted
    assert not explore(system, Limits(states=whole.states // 2)).exhausted
    assert not explore(system, Limits(memory=1000)).exhausted
    assert not explore(leak("counter", SMALL), Limits(stop_at_first=True)).exhausted


def test_a_variable_that_leaves_its_range_is_not_exhausted() -> None:
    endless = racing_counter(1, 100)
    explored = explore(endless)
    assert not explored.exhausted
    assert explored.states == 2 * 21


def test_progress_is_told() -> None:
    heard: list[Progress] = []
    explored = explore(lock_scenario("counter", SMALL), watch=heard.append)
    assert heard[-1].states == explored.states
    assert [p.level for p in heard] == list(range(len(heard)))


def test_dense_and_hashed_sets_agree() -> None:
    random = np.random.default_rng(7)
    dense, hashed = DenseStateSet(1 << 20), HashedStateSet(4)
    for _ in range(30):
        keys = np.unique(random.integers(0, 1 << 20, 3000))
        assert set(dense.add(keys).tolist()) == set(hashed.add(keys).tolist())
        probe = random.integers(0, 1 << 20, 1000)
        probe = np.unique(probe)
        assert set(dense.mark(probe).tolist()) == set(hashed.mark(probe).tolist())
        assert (dense.marked(keys) == hashed.marked(keys)).all()
    assert isinstance(empty_state_set(1 << 40), HashedStateSet)


def test_a_hashed_exploration_finds_the_same_states(monkeypatch: pytest.MonkeyPatch) -> None:
    system = lock_scenario("counter", Bounds(12, 2))
    dense = explore(system)
    monkeypatch.setattr("harness.model.explore.state_set._DENSE_LIMIT", 0)
    hashed = explore(system)
    assert (hashed.states, hashed.transitions) == (dense.states, dense.transitions)
    assert not hashed.counterexamples
    leaks = explore(leak("counter", SMALL))
    assert [f.property for f in leaks.counterexamples][-1] == "no stuck writer or reader"


def test_a_system_too_big_for_a_key_is_refused() -> None:
    big = lock_scenario("rwlock", Bounds(4000, 60))
    with pytest.raises(ValueError, match="does not fit"):
        explore(big)


def test_a_lock_left_behind_is_noticed_without_a_writer() -> None:
    explored = explore(leak("counter", Bounds(0, 0)))
    assert LOCK_FREE_AT_REST in {f.property for f in explored.counterexamples}


def test_a_claim_can_fail_on_the_first_step() -> None:
    steps = (load("look", "n", "a", on("", "look", requires="n == 1", claim="n is 1")),)
    system = System("claim", (Role(Program("t", steps), 1),), (Variable("n", 0, 0, 1),))
    (found,) = explore(replace(system, returns_to_rest=False)).counterexamples
    assert (found.property, len(found.trace)) == ("n is 1", 1)


_DIGEST = """
import hashlib
from harness.model.lock.check import check
from harness.model.explore.memory_model import MemoryModel
from harness.model.lock.scenarios import Bounds
from harness.model.evtchn.predict import predict
from harness.model.findings import channel_operations
from harness.model.evtchn.domain import Domain, World
from harness.model.lock.lock_order import OLD_TREE, deadlocks, edges
from harness.model.lock.mutants import MUTANTS, judge
from harness.model.explore.promela import export
from harness.model.lock.scenarios import lock_scenario
text = ""
for flavour in ("counter-v2", "rwlock"):
    for memory in MemoryModel:
        text += repr(check(flavour, Bounds(2, 1), memory, unreduced=True))
    text += repr(deadlocks(edges(flavour, OLD_TREE)))
    text += export(lock_scenario(flavour, Bounds(2, 1)))
world = World((Domain(0, privileged=True), Domain(1)), scarce=True)
for operation in channel_operations():
    text += repr(predict(world, operation))
judged = judge(next(m for m in MUTANTS if m.name == "no-undo"))
text += repr((judged.by, judged.property, judged.trace))
print(hashlib.sha256(text.encode()).hexdigest())
"""


def test_results_do_not_depend_on_the_hash_seed() -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _DIGEST],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "4242")
    ]
    digests = {process.communicate()[0].strip() for process in running}
    assert all(process.returncode == 0 for process in running)
    assert len(digests) == 1
