# SPDX-License-Identifier: GPL-2.0-or-later
"""spin, an independent model checker, agrees: the same verdicts, the same number of states."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.model.explore.program import System
from harness.model.explore.promela import export
from harness.model.explore.search import LOCK_FREE_AT_REST, explore
from harness.model.lock.mutants import MUTANTS, mutant_system
from harness.model.lock.scenarios import SCENARIOS, Bounds, lock_scenario

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Spin:
    """What pan, the checker that spin writes, found."""

    states: int
    errors: int


def spin(system: System, folder: Path, *, assertions: bool) -> Spin:
    for program, package in (("spin", "spin"), ("gcc", "gcc")):
        if shutil.which(program) is None:
            pytest.fail(f"{program} is not installed; run: sudo apt-get install {package}")
    (folder / "model.pml").write_text(export(system, assertions=assertions))
    _run(["spin", "-a", "-o1", "-o2", "-o3", "model.pml"], folder)
    _run(["gcc", "-O0", "-w", "-DNOREDUCE", "-DSAFETY", "-o", "pan", "pan.c"], folder)
    said = _run(["./pan", "-E", "-m100000"], folder)
    assert "max search depth too small" not in said
    states = re.search(r"(\d+) states, stored", said)
    errors = re.search(r"errors: (\d+)", said)
    assert states and errors, said
    return Spin(int(states[1]), int(errors[1]))


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def mutant(name: str) -> Callable[[], System]:
    found = next(m for m in MUTANTS if m.name == name)
    return lambda: mutant_system(found, 2, 1, "x86_64")


def scenario(name: str, flavour: str) -> Callable[[], System]:
    return lambda: SCENARIOS[name](flavour, Bounds(3, 2))


CONFIGURATIONS: dict[str, Callable[[], System]] = {
    **{f"{f} lock 3x2": scenario("lock", f) for f in ("spinlock", "counter", "rwlock")},
    "counter lock 4x1": lambda: lock_scenario("counter", Bounds(4, 1)),
    "counter lock 3x1, W = 128": lambda: lock_scenario("counter", Bounds(3, 1, "arm64")),
    "counter lock 2x2, no event_lock": lambda: lock_scenario(
        "counter", Bounds(2, 2), event_lock=False
    ),
    "rwlock mixed": scenario("mixed", "rwlock"),
    "rwlock interrupt": scenario("interrupt", "rwlock"),
    "counter-v2 poll-unusable": scenario("poll-unusable", "counter-v2"),
    "counter-v2 masked": scenario("masked", "counter-v2"),
    "counter-v2 unmask": scenario("unmask", "counter-v2"),
    "counter-v2 global-virq": scenario("global-virq", "counter-v2"),
    "mutant no-wait": mutant("no-wait"),
}


REFUTED = (
    "counter-v2 poll-unusable",
    "counter-v2 masked",
    "counter-v2 unmask",
    "mutant no-wait",
)

Runs = Callable[[str, bool], Spin]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """All runs of spin, as many at a time as there are CPUs: (configuration, assertions)."""
    wanted = [(name, name not in REFUTED and is_safe(name)) for name in CONFIGURATIONS]
    wanted += [(name, True) for name in REFUTED]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = {
            (name, assertions): pool.submit(
                spin, CONFIGURATIONS[name](), tmp_path_factory.mktemp("spin"), assertions=assertions
            )
            for name, assertions in wanted
        }
        yield lambda name, assertions: futures[name, assertions].result()


def is_safe(name: str) -> bool:
    """Say whether nothing that spin asserts fails: being stuck is no assertion."""
    system = CONFIGURATIONS[name]()
    return all(found.property == system.rest_claim for found in explore(system).counterexamples)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_spin_counts_the_same_states(name: str, runs: Runs) -> None:
    """And, where nothing fails, checks the same properties in the same run."""
    system = CONFIGURATIONS[name]()
    ours = explore(system.without_symmetry())
    assert ours.unreduced == explore(system).unreduced
    assert runs(name, name not in REFUTED and is_safe(name)) == Spin(ours.states, 0)


@pytest.mark.parametrize("name", REFUTED)
def test_spin_refutes_what_the_model_refutes(name: str, runs: Runs) -> None:
    assert not is_safe(name)
    assert runs(name, True).errors == 1


def test_the_lock_left_behind_is_an_assertion_too() -> None:
    system = CONFIGURATIONS["counter-v2 poll-unusable"]()
    assert LOCK_FREE_AT_REST in {found.property for found in explore(system).counterexamples}
    assert "n_busy" in export(system)
