# SPDX-License-Identifier: GPL-2.0-or-later
"""Every mutant of the counter is refuted, or equivalent with an argument."""

from __future__ import annotations

import pytest

from harness.model.explore.search import explore
from harness.model.lock.mutants import MUTANTS, By, Mutant, judge, mutant_system

EXPECTED: dict[str, By | None] = {
    "no-wait": By.INTERLEAVING,
    "ge-for-eq": By.INTERLEAVING,
    "no-second-test": By.INTERLEAVING,
    "increment-first": By.STARVATION,
    "no-undo": By.INTERLEAVING,
    "unlock-twice": By.INTERLEAVING,
    "unlock-never": By.INTERLEAVING,
    "write-unlock-one": By.INTERLEAVING,
    "half-writer": By.INTERLEAVING,
    "half-w": By.INTERLEAVING,
    "gt-for-ge-read": By.STARVATION,
    "gt-for-ge-add": None,
    "le-for-eq": None,
    "write-lock-unordered": By.ARM,
    "spin-unordered": By.ARM,
    "write-unlock-unordered": By.ARM,
    "read-lock-unordered": By.ARM,
    "read-unlock-unordered": By.ARM,
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant(mutant) -> None:  # type: ignore[no-untyped-def]
    judged = judge(mutant)
    assert judged.by is EXPECTED[mutant.name]
    if judged.by is None:
        assert mutant.argument
    else:
        assert judged.trace or judged.lasso
    assert judged.states > 0


def test_there_are_as_many_as_promised_and_each_is_its_own() -> None:
    assert set(EXPECTED) == {mutant.name for mutant in MUTANTS}
    refuted = [name for name, by in EXPECTED.items() if by is not None]
    assert len(refuted) >= 8


def test_nothing_refutes_the_counter_itself() -> None:
    assert judge(Mutant("counter", "no edit")).by is None


def test_w_readers_get_in_with_the_mutant_where_the_counter_drops_the_last() -> None:
    mutant = next(m for m in MUTANTS if m.name == "gt-for-ge-add")
    explored = explore(mutant_system(mutant, 128, 0, "arm64"))
    assert explored.exhausted and not explored.counterexamples
