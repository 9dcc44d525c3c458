# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutual exclusion for any number of threads: the argument holds, and can fail."""

from __future__ import annotations

import pytest

from harness.model.explore.induction import entry_conditions, excludes
from harness.model.explore.search import Limits, explore
from harness.model.lock.lock_functions import MUTUAL_EXCLUSION, ONE_WRITER
from harness.model.lock.mutants import MUTANTS, mutant_system
from harness.model.lock.scenarios import Bounds, lock_scenario

FEW = Bounds(2, 2)


@pytest.mark.parametrize(("flavour", "word"), [("counter", "L"), ("spinlock", "lock")])
def test_both_sides_are_shut(flavour: str, word: str) -> None:
    assert excludes(lock_scenario(flavour, FEW), word)


def test_the_counter_needs_no_event_lock_for_it() -> None:
    assert excludes(lock_scenario("counter", FEW, event_lock=False), "L")


def test_the_spin_lets_a_writer_in_at_w_which_one_reader_exceeds() -> None:
    found = entry_conditions(lock_scenario("counter", FEW), "L", "writing", "reading")
    (spin,) = [entry for entry in found if entry.step == "spin"]
    assert (spin.bound, spin.least, spin.excluded) == (8192, 8193, True)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_argument_agrees_with_the_explorer(mutant) -> None:  # type: ignore[no-untyped-def]
    system = mutant_system(mutant, 3, 2, "x86_64")
    found = {one.property for one in explore(system, Limits(states=3000)).counterexamples}
    try:
        argued = excludes(system, "L")
    except ValueError:
        return  # a leak: there is no invariant to argue from
    assert argued is not bool(found & {MUTUAL_EXCLUSION, ONE_WRITER})
