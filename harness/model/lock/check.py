# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks a flavour: explores every scenario, and names each violation, with a shortest trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from harness.model.explore.memory_model import MemoryModel
from harness.model.explore.program import System
from harness.model.explore.search import Limits, Progress, explore
from harness.model.explore.trace import TraceStep
from harness.model.explore.weak_memory import explore_weak
from harness.model.lock.critical_sections import READER_SEEN_WHOLE, weak_systems
from harness.model.lock.lock_functions import COUNTER_RANGE, DROPPED_WITHOUT_WRITER
from harness.model.lock.scenarios import SCENARIOS, Bounds

# What a violation is called, by scenario: the scenarios do not know which flavour fails in them.
_NAMES: dict[str, str] = {
    "poll-unusable": "poll-leak",
    "poll-bind": "poll-einval",
    "masked": "masked-underflow",
    "unmask": "unmask-dropped",
    "global-virq": "virq-vcpu0",
}
# The limit under a memory model, if the caller has none: there are too many states to be exact.
WEAK_STATES = 500_000

_NAMES_OF_PROPERTIES: dict[tuple[str, str], str] = {
    ("lock", DROPPED_WITHOUT_WRITER): "too-many-readers",
    ("lock", COUNTER_RANGE): "too-many-readers",
    ("sections", READER_SEEN_WHOLE): "early-load",
}


@dataclass(frozen=True)
class Violation:
    """A property that does not hold."""

    property: str
    name: str  # of the fault: short, and the same in every scenario and flavour
    scenario: str
    trace: tuple[TraceStep, ...]
    model_only: bool = False  # an emulator on an x86 host cannot reproduce it

    def document(self) -> dict[str, Any]:
        """Return the violation as a JSON document."""
        return {
            "property": self.property,
            "name": self.name,
            "scenario": self.scenario,
            "model_only": self.model_only,
            "trace": [
                {
                    "thread": step.thread,
                    "step": step.step,
                    "access": step.access,
                    "then": step.then,
                    "site": step.xen,
                    "values": dict(step.values),
                }
                for step in self.trace
            ],
        }


@dataclass(frozen=True)
class ScenarioResult:
    """What the exploration of one scenario has found, in figures."""

    scenario: str
    readers: int
    writers: int
    states: int
    transitions: int
    exhausted: bool
    unreduced: int | None
    invariants: tuple[str, ...] = ()


@dataclass(frozen=True)
class FlavourCheck:
    """The result of one ``model check``."""

    flavour: str
    bounds: Bounds
    memory: MemoryModel
    explored: tuple[ScenarioResult, ...]
    violations: tuple[Violation, ...]

    @property
    def states(self) -> int:
        """States of all scenarios together."""
        return sum(one.states for one in self.explored)

    @property
    def states_unreduced(self) -> int | None:
        """The same with threads told apart; None when it was not asked for."""
        counts = [one.unreduced for one in self.explored]
        return None if None in counts else sum(count or 0 for count in counts)

    @property
    def exhausted(self) -> bool:
        return all(one.exhausted for one in self.explored)

    @property
    def verdict(self) -> str:
        """ "proved" (within the bounds), "refuted", or "not exhausted": nothing is known."""
        if self.violations:
            return "refuted"
        return "proved" if self.exhausted else "not exhausted"


Watch = Callable[[str, Progress], None]


def check(
    flavour: str,
    bounds: Bounds,
    memory: MemoryModel = MemoryModel.SC,
    *,
    unreduced: bool = False,
    limits: Limits | None = None,
    watch: Watch | None = None,
) -> FlavourCheck:
    """Check ``flavour``: under SC every scenario, under TSO and Armv8 the critical sections.

    ``watch`` is called with the scenario's name while it is explored.  Raises ValueError when a
    state of so many threads does not fit a machine word.
    """
    limits = limits or Limits()
    run = _interleaved if memory is MemoryModel.SC else _reordered
    explored, violations = run(flavour, bounds, memory, unreduced, limits, watch)
    return FlavourCheck(flavour, bounds, memory, tuple(explored), tuple(violations))


_Found = tuple[list[ScenarioResult], list[Violation]]


def _interleaved(
    flavour: str,
    bounds: Bounds,
    _memory: MemoryModel,
    unreduced: bool,
    limits: Limits,
    watch: Watch | None,
) -> _Found:
    explored, violations = [], []
    for name, scenario in SCENARIOS.items():
        system = scenario(flavour, bounds)
        result = explore(system, limits, _named(name, watch))
        explored.append(
            ScenarioResult(
                name,
                *_threads(system),
                result.states,
                result.transitions,
                result.exhausted,
                result.unreduced if unreduced else None,
                result.invariants,
            )
        )
        for found in result.counterexamples:
            fallback = _NAMES.get(name, name)
            label = _NAMES_OF_PROPERTIES.get((name, found.property), fallback)
            violations.append(Violation(found.property, label, name, found.trace))
    return explored, violations


def _reordered(
    flavour: str,
    bounds: Bounds,
    memory: MemoryModel,
    unreduced: bool,
    limits: Limits,
    watch: Watch | None,
) -> _Found:
    if limits.states is None:
        limits = replace(limits, states=WEAK_STATES)
    explored, violations = [], []
    for system in weak_systems(flavour, bounds.readers, bounds.writers):
        result = explore_weak(system, memory, limits, _named(system.name, watch))
        explored.append(
            ScenarioResult(
                system.name,
                *_threads(system),
                result.states,
                result.transitions,
                result.exhausted,
                None,
            )
        )
        for found in result.counterexamples:
            label = _NAMES_OF_PROPERTIES.get(("sections", found.property), "sections")
            violation = Violation(found.property, label, system.name, found.trace, True)
            violations.append(violation)
    return explored, violations


def _named(name: str, watch: Watch | None) -> Callable[[Progress], None] | None:
    return None if watch is None else lambda progress: watch(name, progress)


def _threads(system: System) -> tuple[int, int]:
    """Return how many threads are readers, and how many are writers."""
    writers = sum(role.count for role in system.roles if "writer" in role.program.tags)
    return sum(role.count for role in system.roles) - writers, writers
