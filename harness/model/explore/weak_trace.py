# SPDX-License-Identifier: GPL-2.0-or-later
"""The states of the search under a memory model, and a way through them told as a trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.model.explore.memory_model import Access
from harness.model.explore.program import AtomicStep, Branch, System
from harness.model.explore.trace import TraceStep


@dataclass(frozen=True)
class GuessedAccess:
    """An access with the branch that is guessed for it, or a barrier beside the access."""

    access: Access
    step: AtomicStep
    branch: Branch
    adds: tuple[tuple[str, int], ...] = ()
    overtaken: bool = False  # a later load of its word was performed before it

    @property
    def changes(self) -> bool:
        """Whether it writes anything: a compare-and-swap that failed does not."""
        return self.access.writes and bool(self.adds or self.branch.sets)


# (window: numbers of accesses in program order, next step to fetch, registers)
Thread = tuple[tuple[int, ...], str, tuple[tuple[str, int], ...]]
State = tuple[tuple[int, ...], tuple[tuple[Thread, ...], ...]]  # memory, threads by role
# (before, after, what was done: role, access, its position in the window)
Moved = tuple[State, State, tuple[int, int, int]]


@dataclass(frozen=True)
class WeakTrace:
    """Tells traces of ``system``, whose accesses have the numbers that they have in ``ops``."""

    system: System
    ops: Sequence[GuessedAccess]

    def steps(self, first: State, path: Sequence[Moved]) -> tuple[TraceStep, ...]:
        """Return ``path`` from the state ``first`` on, step by step."""
        names = [self._labels(number, group) for number, group in enumerate(first[1])]
        return tuple(
            self._move(before, after, move, names) for before, after, move in self._joined(path)
        )

    def _joined(self, path: Sequence[Moved]) -> list[Moved]:
        """Return ``path`` with an atomic access told once if its read and its write follow."""
        joined: list[Moved] = []
        for before, after, move in path:
            if joined and self._completes(joined[-1], (before, after, move)):
                start, _, (role, _, position) = joined.pop()
                joined.append((start, after, (role, move[1], position)))
            else:
                joined.append((before, after, move))
        return joined

    def _completes(self, read: Moved, write: Moved) -> bool:
        """Say whether the two are the read and the write of one atomic access of one thread."""
        (first_role, first, _), (role, second, _) = read[2], write[2]
        one, other = self.ops[first], self.ops[second]
        if first_role != role or one.step is not other.step or not other.access.writes:
            return False
        (reader,) = (Counter(read[1][1][role]) - Counter(read[0][1][role])).elements()
        (writer,) = (Counter(write[0][1][role]) - Counter(write[1][1][role])).elements()
        return one.access.reads and reader == writer

    def _labels(self, number: int, group: tuple[Thread, ...]) -> list[tuple[str, Thread]]:
        name = self.system.roles[number].name
        if len(group) == 1:
            return [(name, group[0])]
        return [(f"{name} {place}", thread) for place, thread in enumerate(group, 1)]

    def _move(
        self,
        before: State,
        after: State,
        move: tuple[int, int, int],
        names: list[list[tuple[str, Thread]]],
    ) -> TraceStep:
        """Return one step of a trace; ``names`` has the threads' labels, and is kept up to date."""
        role, number, position = move
        (old,) = (Counter(before[1][role]) - Counter(after[1][role])).elements()
        (new,) = (Counter(after[1][role]) - Counter(before[1][role])).elements()
        place = next(i for i, (_, thread) in enumerate(names[role]) if thread == old)
        label = names[role][place][0]
        names[role][place] = (label, new)
        op = self.ops[number]
        access = f"{op.step.kind.value} {op.step.word}"
        observed = dict(set(new[2]) - set(old[2]))
        if op.step.observe in observed:
            access += f" = {observed[op.step.observe]}"
        if op.access.writes:
            access += "".join(f", {n} {'+' if v >= 0 else '-'}= {abs(v)}" for n, v in op.adds)
            access += "".join(f", {n} = {v}" for n, v in op.branch.sets)
        elif op.access.atomic:
            access += ", reads it"
        if op.branch.when:
            access += f", finds {op.branch.when}"
        overtaken = [self.ops[o].step for o in old[0][:position] if self.ops[o].access.word]
        if overtaken:
            access += f" EARLY: before its own {', '.join(step.name for step in overtaken)}"
        values = tuple(
            zip([variable.name for variable in self.system.variables], after[0], strict=True)
        )
        return TraceStep(label, op.step.name, access, op.step.xen, op.branch.then, values)
