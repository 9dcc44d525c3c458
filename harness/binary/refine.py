# SPDX-License-Identifier: GPL-2.0-or-later
"""Is a copy of a lock function what the model has for it?

The copy runs instruction by instruction beside the model's program.  Whenever it accesses the
lock word, the word holds each value of the model in turn; the copy must then write what the
model's step writes, and go on as it goes on.  Between two accesses of memory that other CPUs
share, the barriers must be as strong as the model's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import capstone

from harness.binary.beside import Beside, Left
from harness.binary.copies import Text, branch_target
from harness.binary.events import Effect, Kind, Location
from harness.binary.findings import Refinement
from harness.binary.inherited import barriers, inherited, prelude
from harness.binary.machine import NotUnderstoodError, Outcome, State, successors
from harness.binary.modelled import ModelledLock
from harness.binary.tables import Table
from harness.binary.values import UNKNOWN, constant
from harness.binary.walked import Node, Walked
from harness.hypervisor.dwarf.inlined import Copy
from harness.model.explore.program import Fence

_OUTSIDE = 40  # instructions; a copy that is not done so many behind its end is not covered
_MOST = 100_000  # places of a copy and of the program beside it, that are looked at
# They only look at the word that they are given: a call of one is followed.
_FOLLOWED = ("_can_read_lock", "_is_write_locked_by_me")


def refine(text: Text, copy: Copy, modelled: ModelledLock, offset: int, table: Table) -> Refinement:
    """Hold ``copy`` against what ``modelled`` has for it.

    ``offset``: of the lock word in what a function out of line is given.
    """
    found = Refinement(copy.function, copy.caller, copy.ranges[0][0])
    for instruction in text.listing(copy):
        found.instructions += 1
        found.understood += table.understands(instruction)
    _Walk(text, copy, modelled, offset, table, found).run()
    return found


class _Walk:
    def __init__(
        self,
        text: Text,
        copy: Copy,
        modelled: ModelledLock,
        offset: int,
        table: Table,
        found: Refinement,
    ) -> None:
        self.text, self.copy, self.modelled, self.table = text, copy, modelled, table
        self.offset, self.found = offset, found
        self.walked = Walked(text, found)
        self.beside = Beside(text, copy, modelled, table, self.walked)
        self.function, self.out_of_line = self.beside.function, self.beside.out_of_line
        self.names = self.beside.names
        self.going_on: dict[int, int | None] = {}
        self.locks: set[Location] = set()  # what is accessed atomically, from any entry

    def run(self) -> None:
        """Walk from each entry.  What is found from one of them stays, whatever the others do."""
        firsts = [self._first(entry) for entry in self.text.entries(self.copy)]
        others = [first for first in firsts if not self._entered(self._atomic, first)]
        stored = [self._entered(self._plain, first) for first in others]
        if len(others) == len(firsts) and not any(stored):
            self.walked.not_covered(self.found.address, "no access of a lock word was found in it")
        elif self.found.verdict == "as modelled" and not self.beside.has_ended:
            self.walked.not_covered(self.found.address, "no way through it comes to its end")

    def _entered(self, walk: Callable[[State], bool], first: State) -> bool:
        """``walk`` from ``first``; say whether that is an entry of the copy."""
        earlier = replace(self.found)
        self.found.forget()
        entered = walk(first)
        self.found.add(earlier)
        return entered

    def _atomic(self, first: State) -> bool:
        """Walk from ``first`` if the lock word is known there: it is accessed atomically."""
        if self.out_of_line:
            self.beside.lock = Location(self.names.ARGUMENT, self.offset)
        else:
            places, _ = self._places_from(first)
            if not places:
                self.found.forget()
                return False
            self.beside.lock = places[0]
            self.locks.add(places[0])
        self._walk_from(first)
        return True

    def _plain(self, first: State) -> bool:
        """Walk from ``first``, where nothing is accessed atomically, if it is an entry."""
        _, stored = self._places_from(first)
        if not stored and not self._calls_lock():
            return False  # instructions that were moved away from the rest
        for place in stored:
            if place in self.locks:
                self.beside.lock = place
                self._walk_from(first)
                return True
        return self._tried(first, stored)

    def _walk_from(self, first: State) -> None:
        self._walk(self._start(first))
        if self.found.not_covered and not self.out_of_line:
            self._again(first)

    def _first(self, entry: int) -> State:
        if not self.out_of_line:
            return prelude(self.text, self.copy, entry, self.table)
        null = ((self.names.SECOND, constant(0)),)
        return State(entry, null if self.function.without_callback else ())

    def _start(self, first: State) -> Node:
        """Return where the walk begins; an inlined copy may have its barrier from its caller."""
        if self.out_of_line:
            return Node(first, self.function.start)
        since = barriers(self.text, self.copy, first.pc, self.table)
        return Node(first, self.function.start, since=since)

    def _tried(self, first: State, stored: Sequence[Location]) -> bool:
        """Take each place that is written for the lock word; say whether it fits one of them."""
        for place in (*stored, None):
            self.beside.lock = place
            self.found.forget()
            self._walk(self._start(first))
            if self.found.verdict == "as modelled":
                return True
        self.found.forget()
        return False

    def _calls_lock(self) -> bool:
        """Say whether it calls another lock function."""
        targets = (branch_target(i, calls=True) for i in self.text.listing(self.copy))
        names = {self.text.function_at(target) for target in targets if target is not None}
        return bool(names & set(self.modelled.functions))

    def _again(self, first: State) -> None:
        """Walk once more, with the constants that the caller has in registers."""
        known = dict(inherited(self.text, self.copy, first.pc, self.table))
        if not known:
            return
        self.found.not_covered, self.found.departures = [], []
        registers = tuple(sorted({**known, **dict(first.registers)}.items()))
        self._walk(self._start(replace(first, registers=registers)))

    # -- running the copy ------------------------------------------------------------------

    def _walk(self, first: Node) -> None:
        self.walked.begin(first)
        self.beside.begin()
        waiting = deque([first])  # breadth first: the shortest trace is told
        while waiting:
            node = waiting.popleft()
            for after, effects in self._after(node):
                if self.walked.arrives(after, node, effects):
                    waiting.append(after)
            if len(self.walked.parents) > _MOST:
                self.walked.not_covered(node.state.pc, f"more than {_MOST} places")
                return
        self.beside.judge_tries()

    def _after(self, node: Node) -> Iterator[tuple[Node, tuple[Effect, ...]]]:
        pc = node.state.pc
        if node.state.returns and self.text.function_at(pc) in self.names.RETURN_THUNKS:
            yield replace(node, state=_back(node.state)), ()
            return
        if not self._is_inside(node.state) and self._has_left(node):
            return
        instruction = self.text.instruction(pc)
        if instruction is None:
            if not self.text.is_trap(pc):
                self.walked.not_covered(pc, "no code there")
            return
        called = self._followed(instruction)
        if called is not None:
            returns = (*node.state.returns, pc + instruction.size)
            yield replace(node, state=replace(node.state, pc=called, returns=returns)), ()
            return
        try:
            outcomes = list(self._outcomes(instruction, node))
        except NotUnderstoodError as error:
            self.walked.not_covered(pc, str(error))
            return
        for outcome in outcomes:
            try:
                after = self.beside.after(node, outcome.effects)
                if outcome.returned and node.state.returns and outcome.state is not None:
                    yield replace(after, state=_back(outcome.state)), outcome.effects
                elif outcome.returned and outcome.state is not None:
                    self.beside.ends(replace(after, state=outcome.state), pc, returned=True)
                elif outcome.state is not None:
                    outside = 0 if self._is_inside(node.state) else node.outside + 1
                    yield replace(after, state=outcome.state, outside=outside), outcome.effects
            except NotUnderstoodError as error:
                self.walked.not_covered(pc, str(error))
            except Left:
                continue

    def _is_inside(self, state: State) -> bool:
        return bool(state.returns) or self.text.contains(self.copy, state.pc)

    def _followed(self, instruction: capstone.CsInsn) -> int | None:
        """Return the function that is called, if the walk goes on in it."""
        if instruction.mnemonic not in ("call", "bl"):
            return None
        target = branch_target(instruction, calls=True)
        known = target is not None and self.text.function_at(target) in _FOLLOWED
        return target if known else None

    def _outcomes(self, instruction: capstone.CsInsn, node: Node) -> Iterator[Outcome]:
        words, names = self.function.words or self.modelled.word.words, self.text.function_at
        first = not node.done and node.step == self.function.start
        return successors(
            self.table, instruction, node.state, self._is_lock, lambda _: words, names, first
        )

    def _goes_on(self, pc: int) -> int | None:
        if pc not in self.going_on:
            self.going_on[pc] = self.text.goes_on(self.copy, pc)
        return self.going_on[pc]

    def _is_lock(self, place: Location, size: int) -> bool:
        return place == self.beside.lock and size <= self.modelled.word.size

    def _has_left(self, node: Node) -> bool:
        """The CPU is outside of the copy: say whether that is its end, and judge it."""
        pc = node.state.pc
        if not self.out_of_line:
            if self._goes_on(pc) is not None:
                return False
            if (not node.done or node.owed is not Fence.NONE) and node.outside < _OUTSIDE:
                return False
            self.beside.ends(node, pc, returned=False)
            return True
        name = self.text.function_at(pc)
        try:
            if name and name not in self.names.RETURN_THUNKS:  # a tail call
                pc = self.walked.came_from(node)
                node = self.beside.after(node, (Effect(Kind.CALL, pc, target=name),))
                registers = ((self.names.RESULT, UNKNOWN),)
                node = replace(node, state=replace(node.state, registers=registers))
            elif not name:
                raise NotUnderstoodError("goes on outside of the function")
            else:
                pc = self.walked.came_from(node)
            self.beside.ends(node, pc, returned=True)
        except NotUnderstoodError as error:
            self.walked.not_covered(pc, str(error))
        except Left:
            pass
        return True

    def _places_from(self, first: State) -> tuple[list[Location], list[Location]]:
        """Return what is accessed atomically after ``first``, and what is stored plainly."""
        seen, waiting = set[int](), [first]
        places, stored = list[Location](), list[Location]()
        while waiting:
            state = waiting.pop(0)
            if state.pc in seen:
                continue
            seen.add(state.pc)
            inside = self.text.contains(self.copy, state.pc)
            if not inside and self._goes_on(state.pc) is None:
                continue
            instruction = self.text.instruction(state.pc)
            if instruction is None:
                continue
            try:
                ways = list(
                    successors(
                        self.table, instruction, state, lambda *_: False, lambda _: (), lambda _: ""
                    )
                )
            except NotUnderstoodError as error:
                self.walked.not_covered(state.pc, str(error))
                continue
            for way in ways:
                places += way.atomics
                stored += [place for place in way.stored if place not in stored]
                if way.state is not None and not way.returned:
                    waiting.append(way.state)
        return places, stored


def _back(state: State) -> State:
    """Return ``state`` after the return from the function that it was called into last."""
    return replace(state, pc=state.returns[-1], returns=state.returns[:-1])
