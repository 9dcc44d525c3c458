# SPDX-License-Identifier: GPL-2.0-or-later
"""The search under a memory model: a thread's accesses may be performed out of program order.

A thread has a window: the accesses that it has fetched and not yet performed, in program order.
It fetches along a path that it guesses, as a processor that predicts branches does.  An access
that decides a branch is performed only when the value agrees with the guess; a thread whose
guess never comes true is one that the processor would have rolled back.  The same holds of a
load that a later load of its word has overtaken: it must find the same store there, so until then
no other thread writes the word.  Threads of one role are interchangeable.  Every thread runs its
program once: what is proved here is proved for so many operations that overlap, and each of them
runs once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations_with_replacement

from harness.model.explore.formula import compile_numpy, names_of
from harness.model.explore.memory_model import MemoryModel, Wait, accesses, wait
from harness.model.explore.program import (
    DONE,
    AccessKind,
    AtomicStep,
    Fence,
    Program,
    System,
)
from harness.model.explore.search import Limits, Progress, Watch
from harness.model.explore.trace import Counterexample, TraceStep
from harness.model.explore.weak_trace import GuessedAccess, Moved, State, Thread, WeakTrace

_STATE_BYTES = 1200  # of a visited state with its parent, measured
WINDOW = 12  # accesses a thread may have in flight: more than any lock operation has


# (position in the window, own stores that the value is from, positions of overtaken loads)
_Performable = tuple[int, tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Ending:
    """A state in which all threads have ended: the variables, and each thread's registers."""

    memory: Mapping[str, int]
    registers: tuple[tuple[str, Mapping[str, int]], ...]  # (role, register -> value)


@dataclass
class WeakExploration:
    """What an exploration under a memory model has found."""

    system: System
    memory: MemoryModel
    states: int = 0
    transitions: int = 0
    exhausted: bool = True
    counterexamples: list[Counterexample] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)


def explore_weak(
    system: System,
    memory: MemoryModel,
    limits: Limits | None = None,
    watch: Watch | None = None,
) -> WeakExploration:
    """Visit every state that ``system`` can reach under ``memory``; each thread runs once.

    ``system.never`` is checked on the registers of each thread that has ended, if the names in
    the formula are registers of that thread.
    """
    return _Machine(system, memory).run(limits or Limits(), watch)


class _Machine:
    def __init__(self, system: System, memory: MemoryModel) -> None:
        self.system = system
        self.memory = memory
        self.programs = [role.program for role in system.roles]
        self.variables = [variable.name for variable in system.variables]
        self.constants = dict(system.constants)
        self.ops: list[GuessedAccess] = []
        self._numbers: dict[tuple[int, str, int], tuple[int, ...]] = {}
        self._overtaken: dict[GuessedAccess, int] = {}
        for number, program in enumerate(self.programs):
            self._compile(number, program)
        # These depend on few values, and are asked for the same values again and again.
        self._performable = cache(self._find_performable)
        self._held = cache(self._find_held)
        self._effect = cache(self._find_effect)
        self._settle = cache(self._find_settled)

    def _compile(self, number: int, program: Program) -> None:
        for step in program.steps:
            for choice, branch in enumerate(step.branches):
                adds = tuple((name, self.system.constant(value)) for name, value in branch.adds)
                first = len(self.ops)
                for access in accesses(self.memory, step, branch):
                    self.ops.append(GuessedAccess(access, step, branch, adds))
                self._numbers[number, step.name, choice] = tuple(range(first, len(self.ops)))
        for op in self.ops[:]:
            if op.access.kind is AccessKind.LOAD and op not in self._overtaken:
                self._overtaken[op] = len(self.ops)
                self.ops.append(replace(op, overtaken=True))

    # -- threads ---------------------------------------------------------------------------

    def _find_settled(self, role: int, thread: Thread) -> tuple[Thread, ...]:
        """Return ``thread`` with its window filled, once for every path that it may guess.

        Barriers that have nothing left to order are dropped.
        """
        return tuple(dict.fromkeys(self._fetched(role, thread)))

    def _fetched(self, role: int, thread: Thread) -> Iterator[Thread]:
        window, at, registers = thread
        kept: list[int] = []
        for position, op in enumerate(window):
            if not isinstance(self.ops[op].access.kind, Fence) or self._orders(op, tuple(kept)):
                kept.append(window[position])
        window = tuple(kept)
        if at == DONE or len(window) >= WINDOW:
            yield window, at, registers
            return
        program = self.programs[role]
        for choice, branch in enumerate(program.step(at).branches):
            more = self._numbers[role, at, choice]
            then = DONE if branch.then == program.steps[0].name else branch.then
            yield from self._fetched(role, (window + more, then, registers))

    def _orders(self, fence: int, earlier: tuple[int, ...]) -> bool:
        """Say whether ``fence`` has something left to order."""
        barrier = self.ops[fence].access
        if any(wait(self.memory, self.ops[op].access, barrier) is Wait.YES for op in earlier):
            return True
        return barrier.kind is Fence.INSTRUCTIONS and any(
            self._lacks_address(op, earlier[:position]) for position, op in enumerate(earlier)
        )

    def _find_performable(self, window: tuple[int, ...]) -> tuple[_Performable, ...]:
        """Return the accesses of the window that may be performed now."""
        found = (self._ready(window, position) for position in range(len(window)))
        return tuple(performable for performable in found if performable is not None)

    def _ready(self, window: tuple[int, ...], position: int) -> _Performable | None:
        access = self.ops[window[position]].access
        if isinstance(access.kind, Fence):
            return None
        stores: list[int] = []  # positions of the own stores that it takes its value from
        loads: list[int] = []  # of earlier loads of the word
        for before in range(position):
            relation = wait(self.memory, self.ops[window[before]].access, access)
            if relation is Wait.YES:
                return None
            # A store waits until the addresses of all earlier accesses are known.
            if access.writes and self._lacks_address(window[before], window[:before]):
                return None
            if relation is Wait.FORWARD:
                stores.append(before)
            elif relation is Wait.SAME:
                loads.append(before)
        if stores:  # the youngest one wins
            youngest = stores[-1]
            store = self.ops[window[youngest]]
            if self._lacks(store.access.needs, window[:youngest]):
                return None
            own = access.acquire and store.access.atomic  # it waits for that access's own read
            if own and any(self.ops[window[load]].step is store.step for load in loads):
                return None
            loads = [load for load in loads if load > youngest]
        return position, tuple(window[store] for store in stores), tuple(loads)

    def _lacks(self, needs: frozenset[str], earlier: tuple[int, ...]) -> bool:
        """Say whether one of the values ``needs`` is still to be read."""
        return bool(needs) and any(self.ops[op].access.name in needs for op in earlier)

    def _lacks_address(self, op: int, earlier: tuple[int, ...]) -> bool:
        return self._lacks(self.ops[op].access.address, earlier)

    def _find_held(self, window: tuple[int, ...]) -> frozenset[str]:
        """Return the words that no other thread may write, or a value read there were not the same.

        A word is not held while an own store is pending from which the value was taken.
        """
        stored: set[str] = set()
        reads: set[AtomicStep] = set()
        held: set[str] = set()
        for number in window:
            op = self.ops[number]
            if op.access.reads and op.access.atomic:
                reads.add(op.step)
            half_done = op.access.writes and op.access.atomic and op.step not in reads
            if (half_done or op.overtaken) and op.access.word not in stored:
                held.add(op.access.word)
            if op.access.writes:
                stored.add(op.access.word)
        return frozenset(held)

    # -- states ----------------------------------------------------------------------------

    def _initial(self) -> list[State]:
        memory = tuple(variable.initial for variable in self.system.variables)
        states: list[tuple[tuple[Thread, ...], ...]] = [()]
        for number, role in enumerate(self.system.roles):
            start: Thread = ((), role.program.steps[0].name, ())
            settled = sorted(self._settle(number, start))
            groups = list(combinations_with_replacement(settled, role.count))
            states = [(*done, group) for done in states for group in groups]
        return [(memory, threads) for threads in states]

    def _successors(self, state: State) -> Iterator[tuple[tuple[int, int, int], State]]:
        """Yield ((role, access, position in the window), next state) for each possible access."""
        values, roles = state
        for number, threads in enumerate(roles):
            for index, thread in enumerate(threads):
                if index and threads[index - 1] == thread:
                    continue  # a thread in the same state was looked at before
                window, at, registers = thread
                rest = threads[:index] + threads[index + 1 :]
                for position, sources, loads in self._performable(window):
                    op = window[position]
                    if self.ops[op].changes and self._is_held(op, number, rest, roles):
                        continue
                    effect = self._effect(op, sources, values)
                    if effect is None:
                        continue
                    after, observed = effect
                    first = list(window[:position])
                    for load in loads:
                        first[load] = self._overtaken.get(self.ops[first[load]], first[load])
                    left = (*first, *window[position + 1 :])
                    kept = tuple(sorted(registers + observed)) if observed else registers
                    for settled in self._settle(number, (left, at, kept)):
                        group = tuple(sorted((*rest, settled)))
                        others = (*roles[:number], group, *roles[number + 1 :])
                        yield (number, op, position), (after, others)

    def _is_held(
        self, op: int, role: int, rest: tuple[Thread, ...], roles: tuple[tuple[Thread, ...], ...]
    ) -> bool:
        """Say whether a thread other than the one of ``role`` keeps the word of ``op`` as it is."""
        others = (group if n != role else rest for n, group in enumerate(roles))
        word = self.ops[op].access.word
        return any(word in self._held(thread[0]) for group in others for thread in group)

    def _find_effect(
        self, number: int, sources: tuple[int, ...], values: tuple[int, ...]
    ) -> tuple[tuple[int, ...], tuple[tuple[str, int], ...]] | None:
        """Return memory after an access, and what it has read; None: its guess is not true now.

        ``sources``: the thread's own stores, not performed yet, that a load takes its value from.
        """
        op = self.ops[number]
        names = dict(zip(self.variables, values, strict=True))
        seen = names if not sources else dict(names)
        for source in sources:
            self._write(seen, self.ops[source])
        if op.access.reads and op.branch.when and not _holds(op.branch.when, seen, self.constants):
            return None
        observes = op.step.observe and op.access.reads
        observed = ((op.step.observe, seen[op.step.word]),) if observes else ()
        if op.access.writes:
            self._write(names, op)
        return tuple(names.values()), observed

    def _write(self, names: dict[str, int], op: GuessedAccess) -> None:
        for name, value in op.adds:
            names[name] += value
        names.update(op.branch.sets)

    # -- search ----------------------------------------------------------------------------

    def run(self, limits: Limits, watch: Watch | None) -> WeakExploration:
        result = WeakExploration(self.system, self.memory)
        parents: dict[State, tuple[State, tuple[int, int, int]] | None] = {}
        queue: deque[tuple[State, int]] = deque()
        for state in self._initial():
            if state not in parents:
                parents[state] = None
                queue.append((state, 0))
        endings: dict[State, None] = {}
        reported: set[str] = set()
        while queue:
            used = len(parents) * _STATE_BYTES
            over_states = limits.states is not None and len(parents) >= limits.states
            if over_states or (limits.memory is not None and used >= limits.memory):
                result.exhausted = False
                break
            state, level = queue.popleft()
            if watch and len(parents) % 4096 == 0:
                watch(Progress(len(parents), len(queue), level, used))
            self._check(state, parents, reported, result)
            if all(w == () and at == DONE for group in state[1] for w, at, _ in group):
                endings[state] = None
            for move, after in self._successors(state):
                result.transitions += 1
                if after not in parents:
                    parents[after] = (state, move)
                    queue.append((after, level + 1))
        result.states = len(parents)
        result.endings = [self._ending(state) for state in endings]
        return result

    def _check(
        self,
        state: State,
        parents: Mapping[State, tuple[State, tuple[int, int, int]] | None],
        reported: set[str],
        result: WeakExploration,
    ) -> None:
        for never in self.system.never:
            if never.name in reported:
                continue
            names = set(names_of(never.formula))
            for group in state[1]:
                for window, at, registers in group:
                    through = not window and at == DONE and names <= set(dict(registers))
                    if through and _holds(never.formula, dict(registers), {}):
                        reported.add(never.name)
                        result.counterexamples.append(
                            Counterexample(never.name, self._trace(state, parents))
                        )
                        return

    def _ending(self, state: State) -> Ending:
        registers = tuple(
            (role.name, dict(thread[2]))
            for role, group in zip(self.system.roles, state[1], strict=True)
            for thread in group
        )
        return Ending(dict(zip(self.variables, state[0], strict=True)), registers)

    def _trace(
        self,
        state: State,
        parents: Mapping[State, tuple[State, tuple[int, int, int]] | None],
    ) -> tuple[TraceStep, ...]:
        path: list[Moved] = []
        came = parents[state]
        while came is not None:
            path.append((came[0], state, came[1]))
            state = came[0]
            came = parents[state]
        path.reverse()
        return WeakTrace(self.system, self.ops).steps(state, path)


def _holds(text: str, names: Mapping[str, int], constants: Mapping[str, int]) -> bool:
    evaluate: Callable[[Mapping[str, int]], bool] = compile_numpy(text)
    return bool(evaluate({**constants, **names}))
