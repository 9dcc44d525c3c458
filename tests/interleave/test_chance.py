"""Scenarios by chance: the ends that a round can have, and what counting them says."""

from __future__ import annotations

import pytest

from harness.arch import Arch
from harness.cli import main
from harness.interleave.chance import End, Rounds, ends, possible
from harness.interleave.scenarios import FREE, INTERDOMAIN, SCENARIOS, UNBOUND
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
    sent, refused = End((0, 0), FREE), End((EINVAL, 0), FREE)
    for design in ("counter", "rwlock", "spinlock"):
        assert ends(scenario, design, Arch.ARM64) == {sent, refused}


def test_of_two_writers_the_second_is_refused_or_not() -> None:
    found = ends(SCENARIOS["close-bind"], "counter", Arch.X86_64)
    assert found == {End((0, EINVAL), FREE), End((0, 0), FREE)}


def test_other_ends_are_wrong() -> None:
    good, bad = End((0, 0), INTERDOMAIN), End((0, EINVAL), UNBOUND)
    rounds = Rounds(frozenset({good, End((EINVAL, 0), FREE)}))
    rounds.ends.update({good: 3})
    assert (rounds.done, rounds.wrong) == (3, [])
    rounds.ends.update({bad: 1})
    assert (rounds.done, rounds.wrong) == (4, [bad])
    assert str(bad) == "results 0, -22; UNBOUND"


def test_interrupts_are_no_matter_of_chance() -> None:
    without = {name for name, scenario in SCENARIOS.items() if not possible(scenario)}
    assert without == {"masked-close", "bind-interrupt"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["all", "--delays", "--limit", "3"], "choose orders"),
        (["bind-interrupt", "--delays"], "bind-interrupt is about an interrupt"),
    ],
)
def test_what_cannot_be_had_by_chance_is_said(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["interleave", "run", *words])
    assert ended.value.code == EXIT_USAGE
    assert said in capsys.readouterr().err
