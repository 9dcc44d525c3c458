# SPDX-License-Identifier: GPL-2.0-or-later
"""What the model predicts where the lock is pushed to its limits."""

from __future__ import annotations

from harness.model.lock.locks import LOCKS
from harness.model.lock.predictions import predictions, weak_memory

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


def test_predictions() -> None:
    found = list(predictions())
    assert {(p.name, p.flavour): p.holds for p in found if p.name != "consumer-callback"} == HOLDS
    callbacks = [p for p in found if p.name == "consumer-callback"]
    assert [p.holds for p in callbacks] == [False, True] * len(LOCKS)
    for one in found:
        assert one.holds or one.trace or one.name == "above-w"
    inside = {p.flavour for p in found if p.name == "interrupt" and p.trace}
    assert inside == {"rwlock"}  # the lock lets its own CPU in


def test_the_weak_memory_question_is_settled() -> None:
    refuted = {(w.lock, w.memory.value) for w in weak_memory() if w.trace is not None}
    assert refuted == {("counter-v2", "arm")}
