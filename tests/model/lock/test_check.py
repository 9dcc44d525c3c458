# SPDX-License-Identifier: GPL-2.0-or-later
"""Checking flavours: what is proved, what is refuted, under which name."""

from __future__ import annotations

import pytest

from harness.model.explore.memory_model import MemoryModel
from harness.model.explore.search import LOCK_FREE_AT_REST, Limits
from harness.model.explore.trace import trace_lines
from harness.model.lock.check import FlavourCheck, check
from harness.model.lock.locks import LOCKS
from harness.model.lock.scenarios import POLL_EINVAL, UNMASK_LOST, VIRQ_VCPU, Bounds

SMALL = Bounds(3, 2)


def names(done: FlavourCheck) -> set[str]:
    return {violation.name for violation in done.violations}


@pytest.mark.parametrize("flavour", ["counter", "rwlock", "spinlock"])
def test_the_good_flavours_are_proved(flavour: str) -> None:
    done = check(flavour, SMALL, unreduced=True)
    assert (done.verdict, done.exhausted, names(done)) == ("proved", True, set())
    assert done.states_unreduced is not None and done.states_unreduced > done.states


def test_counter_v2_shows_each_known_defect_and_one_more_with_a_shortest_trace() -> None:
    done = check("counter-v2", SMALL)
    assert done.verdict == "refuted"
    shortest = {
        name: min(len(v.trace) for v in done.violations if v.name == name) for name in names(done)
    }
    assert shortest == {
        "poll-leak": 3,
        "poll-einval": 4,  # not in the list of known defects
        "masked-underflow": 5,
        "unmask-dropped": 4,
        "virq-vcpu0": 5,
    }
    properties = {v.property for v in done.violations}
    assert {LOCK_FREE_AT_REST, POLL_EINVAL, UNMASK_LOST, VIRQ_VCPU} <= properties


def test_the_poll_leak_ends_with_one_writer_and_one_reader_that_nobody_is() -> None:
    done = check("counter-v2", SMALL)
    stuck = next(
        v for v in done.violations if v.name == "poll-leak" and v.property != LOCK_FREE_AT_REST
    )
    assert dict(stuck.trace[-1].values)["L"] == 8193
    assert {"spin"} == {m.then for m in stuck.trace if m.step == "claim"}


def test_the_underflow_lets_a_writer_in_beside_a_reader_and_the_counter_below_zero() -> None:
    done = check("counter-v2", SMALL)
    found = {v.property: v for v in done.violations if v.name == "masked-underflow"}
    assert "mutual exclusion of writer and readers" in found
    lowest = found["counter never under- or overflows"].trace[-1]
    assert dict(lowest.values)["L"] == -1


@pytest.mark.parametrize("memory", [MemoryModel.TSO, MemoryModel.ARM])
@pytest.mark.parametrize("flavour", LOCKS)
def test_only_the_posted_counter_and_only_on_arm_loads_too_early(
    flavour: str, memory: MemoryModel
) -> None:
    done = check(flavour, Bounds(2, 1), memory)
    early = memory is MemoryModel.ARM and flavour == "counter-v2"
    assert done.verdict == ("refuted" if early else "proved")
    assert names(done) == ({"early-load"} if early else set())
    if early:
        assert done.violations[0].document()["model_only"]
        accesses = [move.access for move in done.violations[0].trace]
        assert any("EARLY: before its own spin" in access for access in accesses)


def test_a_check_that_was_stopped_proves_nothing() -> None:
    done = check("counter", Bounds(30, 1), limits=Limits(states=100))
    assert (done.verdict, done.exhausted) == ("not exhausted", False)
    weak = check("counter", Bounds(2, 1), MemoryModel.TSO, limits=Limits(states=50))
    assert weak.verdict == "not exhausted"
    small = check("counter", Bounds(2, 1), MemoryModel.TSO, limits=Limits(memory=1000))
    assert small.verdict == "not exhausted"


def test_a_violation_as_json_has_the_promised_keys() -> None:
    document = check("counter-v2", SMALL).violations[0].document()
    assert {"property", "name", "trace"} <= set(document)
    assert document["trace"][0]["values"]["L"] == 0
    assert document["trace"][0]["site"].startswith("evtchn_port_poll")


@pytest.mark.slow
def test_a_crowd_is_told_once() -> None:
    done = check("counter", Bounds(128, 1, "arm64"))
    lost = next(v for v in done.violations if v.name == "too-many-readers")
    lines = trace_lines(lost.trace)
    assert len(lost.trace) == 256
    assert len(lines) == 5
    assert "127 times, send 1 to send 127" in lines[0]
