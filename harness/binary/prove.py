# SPDX-License-Identifier: GPL-2.0-or-later
"""The lock with the barriers that the binary has, explored under a memory model.

A copy that makes the model's accesses in the model's order may still have other barriers.  They
replace the model's own, the weakest of all copies, and the explorer then says whether a critical
section can see another one half done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.binary.events import Barrier
from harness.binary.findings import Refinement
from harness.binary.modelled import ModelledLock
from harness.model.explore.memory_model import MemoryModel
from harness.model.explore.program import AtomicStep, Fence, Program, Role, System
from harness.model.explore.search import Limits
from harness.model.explore.trace import Counterexample
from harness.model.explore.weak_memory import explore_weak
from harness.model.lock.critical_sections import reader_seen_whole, writer_seen_whole
from harness.model.lock.ticket_lock import ticketed

READERS, WRITERS = 2, 1
_STATES = 500_000
_FENCES = {
    Barrier.FULL: Fence.FULL,
    Barrier.READ: Fence.READ,
    Barrier.STORES: Fence.STORES,
    Barrier.WRITE: Fence.WRITE,
}
_ACQUIRES = frozenset({Barrier.FULL, Barrier.ACQUIRE})
_ACQUIRES_PC = _ACQUIRES | {Barrier.ACQUIRE_PC}


@dataclass(frozen=True)
class Proof:
    """What the explorer found of one property."""

    system: str
    states: int
    exhausted: bool
    counterexamples: tuple[Counterexample, ...]

    @property
    def verdict(self) -> str:
        """ "refuted", "not exhausted" or "proved" (within READERS and WRITERS)."""
        if self.counterexamples:
            return "refuted"
        return "proved" if self.exhausted else "not exhausted"


def prove(
    modelled: ModelledLock, copies: Sequence[Refinement], memory: MemoryModel
) -> tuple[Proof, ...]:
    """Explore the lock that ``copies`` make; () if one is not covered, or is another lock."""
    if any(copy.not_covered for copy in copies):
        return ()
    if any(found.kind != "order" for copy in copies for found in copy.departures):
        return ()
    done = []
    for system in _systems(modelled):
        lifted = _with_barriers(system, modelled, copies)
        result = explore_weak(lifted, memory, Limits(_STATES))
        found = tuple(result.counterexamples)
        done.append(Proof(system.name, result.states, result.exhausted, found))
    return tuple(done)


def _systems(modelled: ModelledLock) -> tuple[System, ...]:
    lock = modelled.lock
    made = [
        writer_seen_whole(lock, READERS, WRITERS),
        reader_seen_whole(lock, READERS, WRITERS),
    ]
    if modelled.name == "rwlock":
        waits = (
            writer_seen_whole(lock, READERS, WRITERS, True),
            reader_seen_whole(lock, READERS, WRITERS, True),
        )
        made += [replace(system, name=f"{system.name} (waiting)") for system in waits]
    if modelled.name == "spinlock":
        made = [ticketed(system, "lock") for system in made]
    return tuple(made)


def _with_barriers(system: System, modelled: ModelledLock, copies: Sequence[Refinement]) -> System:
    roles = tuple(
        Role(_program(role.program, modelled, copies), role.count) for role in system.roles
    )
    return replace(system, roles=roles)


def _program(program: Program, modelled: ModelledLock, copies: Sequence[Refinement]) -> Program:
    """Return ``program`` with the barriers that the copies of its own functions have."""
    steps = []
    for step in program.steps:
        own = [c for c in copies if _is_of(modelled, c, program, step)]
        before = {found for copy in own for found in copy.before.get(step.name, ())}
        after = {found for copy in own for found in copy.after.get(step.name, ())}
        steps.append(_step(step, before, after))
    return replace(program, steps=tuple(steps))


def _is_of(modelled: ModelledLock, copy: Refinement, program: Program, step: AtomicStep) -> bool:
    """Say whether ``copy`` makes this step: a reader's step is none of a writer's function."""
    theirs = modelled.functions[copy.function].program
    same_side = modelled.name == "spinlock" or theirs.tags == program.tags
    known = {one.name: one for one in theirs.steps}
    return same_side and step.name in known and known[step.name].kind is step.kind


def _step(
    step: AtomicStep, before: set[frozenset[Barrier]], after: set[frozenset[Barrier]]
) -> AtomicStep:
    tags = list(step.tags)
    if before and step.before is not Fence.NONE:
        fence = _weakest(before)
        step = replace(step, before=fence)
        if fence is Fence.NONE and all(_releases(found) for found in before):
            tags.append("release")
    if after and step.after is not Fence.NONE:
        fence = _weakest(after)
        step = replace(step, after=fence)
        if fence is Fence.NONE and all(found & _ACQUIRES for found in after):
            tags.append("acquire")
        elif fence is Fence.NONE and all(found & _ACQUIRES_PC for found in after):
            tags.append("acquire-pc")
    return replace(step, tags=tuple(tags))


def _releases(found: frozenset[Barrier]) -> bool:
    return bool(found & {Barrier.FULL, Barrier.RELEASE})


def _weakest(found: set[frozenset[Barrier]]) -> Fence:
    """Return the strongest barrier that is on every path; a full one is also all others."""
    for barrier, fence in _FENCES.items():
        if all(one & {barrier, Barrier.FULL} for one in found):
            return fence
    return Fence.NONE
