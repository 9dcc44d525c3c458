# SPDX-License-Identifier: GPL-2.0-or-later
"""Rounds, retries, and the names of variants."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.compare.judge import Comparison, Judgement, Pair, judge
from harness.compare.measure import Measurement, TestOutcome, read_measurement
from harness.compare.rounds import Role, run_rounds, until_settled
from harness.compare.variant import find_variant
from harness.history.format.parquet import write
from harness.history.simulate.run import Recipe, generate
from harness.verdict import ConfigError, Verdict
from tests.compare.test_judge import pairs
from tests.hypervisor.tree import make_tree
from tests.results.runs import good

OK = Measurement((TestOutcome("load", Verdict.PASS),))
SPOILT = Measurement((TestOutcome("load", Verdict.MISS, "QEMU is gone"),))


class Runs:
    """Answers with OK, but for the runs that ``spoilt`` names."""

    def __init__(self, *spoilt: tuple[Role, int, int]) -> None:
        self.spoilt = spoilt
        self.asked: list[tuple[Role, int, int]] = []

    def __call__(self, role: Role, seed: int, attempt: int) -> Measurement:
        self.asked.append((role, seed, attempt))
        return SPOILT if self.asked[-1] in self.spoilt else OK


def seen(runs: Runs, count: int = 2) -> int:
    return len(list(run_rounds(runs, count=count, seed=7, notice=lambda text: None)))


def test_both_have_the_same_seeds_and_take_turns_at_being_first() -> None:
    runs = Runs()
    assert seen(runs, 3) == 3
    assert [(role, number) for role, number, _ in runs.asked] == [
        ("base", 7), ("candidate", 7),
        ("candidate", 8), ("base", 8),
        ("base", 9), ("candidate", 9),
    ]  # fmt: skip


def test_a_lab_fault_is_tried_again() -> None:
    runs = Runs(("candidate", 7, 0), ("candidate", 7, 1))
    assert seen(runs) == 2
    assert runs.asked.count(("candidate", 7, 2)) == 1


def test_a_round_with_only_lab_faults_is_left_out() -> None:
    assert seen(Runs(*(("base", 8, attempt) for attempt in range(3)))) == 1


def test_a_run_that_is_stopped_keeps_the_rounds_before_it() -> None:
    def run(role: Role, seed: int, attempt: int) -> Measurement:
        if seed == 9:
            raise KeyboardInterrupt
        return OK

    got: list[Pair] = []
    with pytest.raises(KeyboardInterrupt):
        got.extend(run_rounds(run, count=5, seed=7, notice=lambda text: None))
    kept = []
    with pytest.raises(KeyboardInterrupt):
        for pair in run_rounds(run, count=5, seed=7, notice=lambda text: None):
            kept.append(pair)
    assert len(kept) == 2


def settled(made: list[Pair], most: int = 20) -> Comparison:
    """The result of a comparison with these rounds."""
    says = [
        comparison
        for _, comparison in until_settled(
            made, lambda seen: judge(seen, margin=0.1), most=most, notice=lambda text: None
        )
    ]
    return says[-1]


def test_a_quiet_machine_needs_five_rounds_and_a_noisy_one_more() -> None:
    quiet = settled(pairs(20, noise=0.01))
    assert (quiet.verdict, quiet.rounds) == ("equivalent", 5)
    noisy = settled(pairs(20, noise=0.05))
    assert noisy.verdict == "equivalent" and 5 < noisy.rounds < 20
    undecided = settled(pairs(20, noise=0.3))
    assert (undecided.verdict, undecided.rounds) == ("undecided", 20)


def test_a_failure_ends_it_at_once() -> None:
    bad = Measurement((TestOutcome("load", Verdict.FAIL, "Xen hangs"),))
    assert settled([(OK, OK), (OK, bad), (OK, OK)]).rounds == 2


def test_one_round_is_enough_if_one_is_asked_for() -> None:
    assert settled(pairs(1), most=1).rounds == 1


@pytest.mark.parametrize(
    ("speed", "verdict", "least", "most"),
    [(1.0, "equivalent", 92, 100), (1 / 1.1, "equivalent", 0, 13), (0.8, "worse", 97, 100)],
)
def test_more_checks_do_not_lead_to_wrong_verdicts(
    speed: float, verdict: Judgement, least: int, most: int
) -> None:
    """A spread of 8 % between pairs, as emulated machines have it; 1/1.1 is the margin itself."""
    noise = 0.08 / 2**0.5
    said = [settled(pairs(20, speed, noise, seed)).verdict for seed in range(100)]
    assert least <= said.count(verdict) <= most


def test_a_run_s_directory_is_measured(tmp_path: Path) -> None:
    place = good(tmp_path / "run").path
    history = place / "history" / "qemu-x86_64" / "load.parquet"
    history.parent.mkdir(parents=True, exist_ok=True)
    write(generate(Recipe(seed=5)), history)
    got = read_measurement(place)
    assert got.tests and not got.failed and not got.fault
    assert 2000 < got.throughput < 2800
    assert {"send", "close"} <= got.latency.keys() == got.tail.keys()
    assert all(got.tail[op] > got.latency[op] for op in got.latency)
    assert got.answers["send: ok"] > 10
    assert not any(answer.startswith("read") for answer in got.answers)  # Linux's, not Xen's


def test_a_run_that_left_nothing_is_a_lab_fault(tmp_path: Path) -> None:
    assert read_measurement(tmp_path / "nowhere").fault == "no test ran"


def test_variants(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "xen")
    assert find_variant(str(tree), "BASE").flavour.name == "rwlock"
    assert find_variant(f"{tree}:rwlock", "BASE").options.xen_src == tree
    sched = tree / "xen/include/xen/sched.h"
    sched.write_text(sched.read_text().replace("rwlock_t", "spinlock_t"))
    assert find_variant(str(tree), "BASE").flavour.name == "spinlock"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("/nowhere:rwlock", "BASE: /nowhere is not a release, a directory or REPO@REF"),
        ("9.9:rwlock", "BASE: 9.9 is not a release"),
        ("{tree}:no-such", "no flavour no-such"),
        ("{tree}@main", "no commit main"),
    ],
)
def test_no_such_variant(tmp_path: Path, text: str, says: str) -> None:
    tree = make_tree(tmp_path / "xen")
    with pytest.raises(ConfigError) as caught:
        find_variant(text.format(tree=tree), "BASE")
    assert says in str(caught.value)
