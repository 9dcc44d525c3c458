# SPDX-License-Identifier: GPL-2.0-or-later
"""Randomized rounds: which ends the model allows, and how the ends that occurred are counted."""

from __future__ import annotations

import pytest

from harness.arch import Arch
from harness.cli import main
from harness.interleave.randomized import RoundEnd, Rounds, allowed_ends, needs_no_debugger
from harness.interleave.scenarios import SCENARIOS
from harness.interleave.threads import FREE, INTERDOMAIN, UNBOUND
from harness.model.explore import interleavings
from harness.model.lock.locks import LOCKS
from harness.verdict import EXIT_USAGE

EINVAL = -22


@pytest.mark.parametrize("design", LOCKS)
@pytest.mark.parametrize("name", ["send-close", "close-bind", "poll-alloc"])
def test_the_ends_are_those_of_all_orders(name: str, design: str) -> None:
    system = SCENARIOS[name].system(design, Arch.X86_64)
    every = interleavings.interleavings(system)
    assert interleavings.final_values(system) == {order[-1].values for order in every}


def test_a_send_that_lost_the_race_is_dropped_by_the_counter_and_refused_by_the_rwlock() -> None:
    scenario = SCENARIOS["send-close"]
    sent, refused = RoundEnd((0, 0), FREE), RoundEnd((EINVAL, 0), FREE)
    for design in ("counter", "rwlock", "spinlock"):
        assert allowed_ends(scenario, design, Arch.ARM64) == {sent, refused}


def test_of_two_writers_the_second_is_refused_or_not() -> None:
    found = allowed_ends(SCENARIOS["close-bind"], "counter", Arch.X86_64)
    assert found == {RoundEnd((0, EINVAL), FREE), RoundEnd((0, 0), FREE)}


def test_other_ends_are_forbidden() -> None:
    good, bad = RoundEnd((0, 0), INTERDOMAIN), RoundEnd((0, EINVAL), UNBOUND)
    rounds = Rounds(frozenset({good, RoundEnd((EINVAL, 0), FREE)}))
    rounds.counts.update({good: 3})
    assert (rounds.done, rounds.forbidden) == (3, [])
    rounds.counts.update({bad: 1})
    assert (rounds.done, rounds.forbidden) == (4, [bad])
    assert str(bad) == "results 0, -22; UNBOUND"


def test_interrupts_need_a_debugger() -> None:
    without = {name for name, scenario in SCENARIOS.items() if not needs_no_debugger(scenario)}
    assert without == {"masked-close", "dump-bind", "bind-interrupt"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["all", "--delays", "--limit", "3"], "no order can be forced"),
        (["bind-interrupt", "--delays"], "bind-interrupt is about an interrupt"),
    ],
)
def test_what_needs_a_debugger_is_refused_without_one(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["interleave", "run", *words])
    assert ended.value.code == EXIT_USAGE
    assert said in capsys.readouterr().err
