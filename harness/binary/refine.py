# SPDX-License-Identifier: GPL-2.0-or-later
"""Is a copy of a lock function what the model has for it?

The copy runs instruction by instruction beside the model's program.  Whenever it accesses the
lock word, the word holds each value of the model in turn; the copy must then write what the
model's step writes, and go on as it goes on.  Between two accesses of memory that other CPUs
share, the barriers must be as strong as the model's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import capstone

from harness.arch import Arch
from harness.binary import arm64, findings, x86
from harness.binary.copies import Text, branch_target
from harness.binary.events import Barrier, Effect, Kind, Location
from harness.binary.findings import Departure, NotCovered, Refinement
from harness.binary.goes_on import alike
from harness.binary.inherited import barriers, inherited, prelude
from harness.binary.machine import NotUnderstoodError, Outcome, State, successors
from harness.binary.modelled import SECTION, Function, ModelledLock, Written
from harness.binary.order import WORDS, is_after, is_before
from harness.binary.tables import Table
from harness.binary.values import UNKNOWN, constant
from harness.hypervisor.dwarf.inlined import Copy
from harness.model.explore.program import AccessKind, AtomicStep, Branch, Fence

_OUTSIDE = 40  # instructions; a copy that is not done so many behind its end is not covered
_MOST = 100_000  # places of a copy and of the program beside it, that are looked at
_SPIN_LOCKS = ("_spin_lock", "_spin_unlock")
# They only look at the word that they are given: a call of one is followed.
_FOLLOWED = ("_can_read_lock", "_is_write_locked_by_me")
# They look at what a debug build notes beside a lock, or wait (delays.patch): none accesses the
# word.
_HARMLESS = (
    "check_lock",
    "check_barrier",
    "got_lock",
    "rel_lock",
    "lock_enter",
    "lock_exit",
    "evtchn_delay",
    "printk",
)


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


@dataclass(frozen=True)
class _Node:
    """A place in the copy and in the program beside it."""

    state: State
    step: str
    done: bool = False
    owed: Fence = Fence.NONE  # the barrier that the model has after the last step
    owed_by: str = ""  # that step
    since: frozenset[Barrier] = frozenset()  # barriers since the last shared access
    held: int | None = None  # the word, read by one who alone may write there
    outside: int = 0  # instructions since it left the copy: compilers share the code of its end


class _Left(Exception):
    """The path leaves the program, or is one that cannot happen."""


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
        self.text, self.copy, self.modelled, self.found = text, copy, modelled, found
        self.table = table
        self.function: Function = modelled.functions[copy.function]
        self.out_of_line = copy.function == copy.caller
        self.names = x86 if text.arch is Arch.X86_64 else arm64
        self.offset = offset
        self.parents: dict[_Node, tuple[_Node | None, tuple[Effect, ...]]] = {}
        self.place: Location | None = None
        self.going_on: dict[int, int | None] = {}
        self.ended: dict[int, dict[State, _Node]] = {}  # of an inlined try, by what it returns

    def run(self) -> None:
        """Walk from each entry, until one shows that the copy is not as modelled."""
        entered = False
        for entry in self.text.entries(self.copy):
            first = self._first(entry)
            if self.out_of_line:
                self.place = Location(self.names.ARGUMENT, self.offset)
            else:
                places, stored = self._places_from(first)
                if not places and not stored and not self._calls_lock():
                    continue  # instructions that were moved away from the rest
                if not places:
                    entered |= self._tried(first, stored)
                    continue
                self.place = places[0]
            entered = True
            self._walk(self._start(first))
            if self.found.not_covered and not self.out_of_line:
                self._again(first)
        if not entered:
            self._not_covered(self.found.address, "no access of a lock word was found in it")

    def _first(self, entry: int) -> State:
        if not self.out_of_line:
            return prelude(self.text, self.copy, entry, self.table)
        null = ((self.names.SECOND, constant(0)),)
        return State(entry, null if self.function.without_callback else ())

    def _start(self, first: State) -> _Node:
        """Return where the walk begins; an inlined copy may have its barrier from its caller."""
        if self.out_of_line:
            return _Node(first, self.function.start)
        since = barriers(self.text, self.copy, first.pc, self.table)
        return _Node(first, self.function.start, since=since)

    def _tried(self, first: State, stored: Sequence[Location]) -> bool:
        """Take each place that is written for the lock word; say whether it fits one of them."""
        for self.place in (*stored, None):
            self.found.departures, self.found.not_covered = [], []
            self.found.before, self.found.after = {}, {}
            self._walk(self._start(first))
            if self.found.verdict == "as modelled":
                return True
        self.found.departures, self.found.not_covered = [], []
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

    def _walk(self, first: _Node) -> None:
        self.parents, self.ended = {first: (None, ())}, {}
        waiting = deque([first])  # breadth first: the shortest trace is told
        while waiting:
            node = waiting.popleft()
            for after, effects in self._after(node):
                if after not in self.parents:
                    self.parents[after] = (node, effects)
                    waiting.append(after)
            if len(self.parents) > _MOST:
                self._not_covered(node.state.pc, f"more than {_MOST} places")
                return
        self._tells()

    def _after(self, node: _Node) -> Iterator[tuple[_Node, tuple[Effect, ...]]]:
        pc = node.state.pc
        if node.state.returns and self.text.function_at(pc) in self.names.RETURN_THUNKS:
            yield replace(node, state=_back(node.state)), ()
            return
        if not self._is_inside(node.state) and self._has_left(node):
            return
        instruction = self.text.instruction(pc)
        if instruction is None:
            if not self.text.is_trap(pc):
                self._not_covered(pc, "no code there")
            return
        called = self._followed(instruction)
        if called is not None:
            returns = (*node.state.returns, pc + instruction.size)
            yield replace(node, state=replace(node.state, pc=called, returns=returns)), ()
            return
        try:
            outcomes = list(self._outcomes(instruction, node))
        except NotUnderstoodError as error:
            self._not_covered(pc, str(error))
            return
        for outcome in outcomes:
            try:
                after = self._beside(node, outcome.effects)
                if outcome.returned and node.state.returns and outcome.state is not None:
                    yield replace(after, state=_back(outcome.state)), outcome.effects
                elif outcome.returned and outcome.state is not None:
                    self._ends(replace(after, state=outcome.state), pc, returned=True)
                elif outcome.state is not None:
                    outside = 0 if self._is_inside(node.state) else node.outside + 1
                    yield replace(after, state=outcome.state, outside=outside), outcome.effects
            except NotUnderstoodError as error:
                self._not_covered(pc, str(error))
            except _Left:
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

    def _outcomes(self, instruction: capstone.CsInsn, node: _Node) -> Iterator[Outcome]:
        words, names = self.modelled.word.words, self.text.function_at
        first = not node.done and node.step == self.function.start
        return successors(
            self.table, instruction, node.state, self._is_lock, lambda _: words, names, first
        )

    def _goes_on(self, pc: int) -> int | None:
        if pc not in self.going_on:
            self.going_on[pc] = self.text.goes_on(self.copy, pc)
        return self.going_on[pc]

    def _is_lock(self, place: Location, size: int) -> bool:
        return place == self.place and size <= self.modelled.word.size

    def _has_left(self, node: _Node) -> bool:
        """The CPU is outside of the copy: say whether that is its end, and judge it."""
        pc = node.state.pc
        if not self.out_of_line:
            if self._goes_on(pc) is not None:
                return False
            if (not node.done or node.owed is not Fence.NONE) and node.outside < _OUTSIDE:
                return False
            self._ends(node, pc, returned=False)
            return True
        name = self.text.function_at(pc)
        try:
            if name and name not in self.names.RETURN_THUNKS:  # a tail call
                pc = self._came_from(node)
                node = self._beside(node, (Effect(Kind.CALL, pc, target=name),))
                registers = ((self.names.RESULT, UNKNOWN),)
                node = replace(node, state=replace(node.state, registers=registers))
            elif not name:
                raise NotUnderstoodError("goes on outside of the function")
            else:
                pc = self._came_from(node)
            self._ends(node, pc, returned=True)
        except NotUnderstoodError as error:
            self._not_covered(pc, str(error))
        except _Left:
            pass
        return True

    def _came_from(self, node: _Node) -> int:
        before, _ = self.parents.get(node, (None, ()))
        return before.state.pc if before is not None else node.state.pc

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
                self._not_covered(state.pc, str(error))
                continue
            for way in ways:
                places += way.atomics
                stored += [place for place in way.stored if place not in stored]
                if way.state is not None and not way.returned:
                    waiting.append(way.state)
        return places, stored

    # -- the program beside it -------------------------------------------------------------

    def _beside(self, node: _Node, effects: tuple[Effect, ...]) -> _Node:
        for effect in effects:
            node = self._step(node, effect)
        return node

    def _step(self, node: _Node, effect: Effect) -> _Node:
        match effect.kind:
            case Kind.FENCE:
                since = node.since | ({effect.barrier} if effect.barrier else set())
                if node.owed is not Fence.NONE and is_after(self.text.arch, node.owed, since):
                    self._provides(node.owed_by, since)
                    node = replace(node, owed=Fence.NONE)
                return replace(node, since=since)
            case Kind.OTHER if self._is_beside(effect.place):
                return node
            case Kind.OTHER if effect.atomic and effect.place is None:
                raise NotUnderstoodError("an atomic access at an address that is not known")
            case Kind.OTHER:
                node = self._paid(node, effect)
                return replace(node, since=frozenset({effect.after} if effect.after else ()))
            case Kind.CALL:
                return self._called(node, effect)
            case _:
                return self._accessed(node, effect)

    def _is_beside(self, place: Location | None) -> bool:
        """Say whether ``place`` is in the lock's structure: what a debug build notes of it."""
        lock = self.place
        if place is None or lock is None or place.base != lock.base:
            return False
        return lock.offset <= place.offset < lock.offset + self.modelled.size

    def _accessed(self, node: _Node, effect: Effect) -> _Node:
        """The copy has accessed the lock word."""
        if node.done:
            if self._is_called_again(node, effect):
                self._ends(node, effect.address, returned=False)
                raise _Left
            if effect.kind is Kind.LOAD or effect.new is None:
                return node
            self._depart(
                node, effect, "value", findings.told(effect), "no access: the function is done"
            )
            raise _Left
        step = self.function.program.step(node.step)
        self.found.accesses.add((effect.address, step.name))
        if step.word == "qlock":
            self._depart(
                node, effect, "path", findings.told(effect), f"{step.name}: a spinlock is taken"
            )
            raise _Left
        if effect.kind is Kind.STORE:
            return self._stored(node, effect, step)
        word = self.modelled.word
        branch = word.branch(step, effect.old)
        if branch is None:  # the model waits
            self._writes_as(node, effect, step, Written(effect.old) if effect.new else None)
            return node
        if not word.writes(branch):
            if effect.new is not None:
                self._writes_as(node, effect, step, Written(effect.old))
            return self._moved(node, effect, step, branch)
        expected = word.after(branch, effect.old)
        if expected is None:
            raise _Left  # the word cannot be this here
        if effect.kind is Kind.LOAD:  # it looks before it writes
            return replace(node, held=effect.old)
        if effect.new is None:  # the word has changed since it looked: it tries again
            return node
        self._writes_as(node, effect, step, expected)
        return self._moved(node, effect, step, branch)

    def _is_called_again(self, node: _Node, effect: Effect) -> bool:
        """Say whether a caller that was not let in tries again: the copy is inlined, and what
        comes is the access that it begins with."""
        refused = self.function.ends[node.step] == 0
        begins = (effect.address, self.function.start) in self.found.accesses
        return refused and begins and not self.out_of_line

    def _stored(self, node: _Node, effect: Effect, step: AtomicStep) -> _Node:
        if step.name not in self.modelled.only_writer or node.held is None:
            self._depart(node, effect, "value", findings.told(effect), findings.has(step))
            raise _Left
        branch = self.modelled.word.branch(step, node.held)
        expected = self.modelled.word.after(branch, node.held) if branch is not None else None
        if branch is None or expected is None:
            raise _Left
        self._writes_as(node, effect, step, expected)
        return self._moved(node, effect, step, branch)

    def _writes_as(
        self, node: _Node, effect: Effect, step: AtomicStep, expected: Written | None
    ) -> None:
        size = effect.size if effect.kind is Kind.STORE else self.modelled.word.size
        if expected is None or effect.new is None:
            if expected is not None or effect.new is not None:
                self._depart(node, effect, "value", findings.told(effect), findings.has(step))
                raise _Left
            return
        if effect.new.low(size * 8) is None and not expected.own_cpu:
            raise NotUnderstoodError("writes to the lock word what is not known")
        if not expected.is_written_by(effect.new, size):
            mask = (1 << size * 8) - 1
            what = f"{findings.has(step)}: {expected.bits & mask:#x} is written"
            self._depart(node, effect, "value", findings.told(effect), what)
            raise _Left

    def _moved(self, node: _Node, effect: Effect, step: AtomicStep, branch: Branch) -> _Node:
        """The copy has made the model's ``step``."""
        word, arch = self.modelled.word, self.text.arch
        ordered = word.writes(branch) or step.kind is AccessKind.LOAD or branch.then == SECTION
        provided = node.since | ({effect.before} if effect.before else set())
        if ordered:
            self.found.before.setdefault(step.name, set()).add(frozenset(provided))
        if ordered and not is_before(arch, step.before, provided):
            told = f"no barrier between the accesses before and {step.name}"
            self._depart(
                node, effect, "order", told, f"{WORDS[step.before]} before {step.name}",
                step.name, True,
            )  # fmt: skip
        node = self._paid(node, effect)
        owed = step.after if ordered else Fence.NONE
        since = frozenset({effect.after} if effect.after else ())
        if is_after(arch, owed, since, loaded=effect.new is None):
            if ordered:
                self._provides(step.name, since)
            owed = Fence.NONE
        done = branch.then in self.function.ends
        return replace(
            node, step=branch.then, done=done, owed=owed, owed_by=step.name, since=since, held=None
        )

    def _paid(self, node: _Node, effect: Effect) -> _Node:
        """Another access comes: what the model has before it must have been."""
        if node.owed is not Fence.NONE and effect.before is not Barrier.FULL:
            told = f"no barrier between {node.owed_by} and this access"
            if effect.kind is Kind.OTHER:
                told = f"{told} of {findings.where(effect)}"
            self._owes(node, effect, told)
        return replace(node, owed=Fence.NONE)

    def _provides(self, step: str, found: frozenset[Barrier]) -> None:
        self.found.after.setdefault(step, set()).add(found)

    def _owes(self, node: _Node, effect: Effect, told: str) -> None:
        self._provides(node.owed_by, node.since)
        self._depart(
            node, effect, "order", told, f"{WORDS[node.owed]} after {node.owed_by}",
            node.owed_by,
        )  # fmt: skip

    def _called(self, node: _Node, effect: Effect) -> _Node:
        name = effect.target
        if name in _HARMLESS:
            return node
        step = None if node.done else self.function.program.step(node.step)
        called = self.modelled.functions.get(name)
        if called is not None and step is not None and called.start == step.name:
            node = self._paid(node, effect)
            (then,) = called.ends
            since = frozenset[Barrier]()
        elif step is not None and step.word == "qlock" and name.startswith(_SPIN_LOCKS):
            then, since = step.branches[0].then, frozenset({Barrier.FULL})
        elif called is not None or name.startswith(_SPIN_LOCKS):
            if not self.out_of_line and not self.found.accesses:
                raise NotUnderstoodError(f"calls {name} before any access of a lock word")
            has = "no call" if step is None else findings.has(step)
            self._depart(node, effect, "path", f"calls {name}", has)
            raise _Left
        else:
            raise NotUnderstoodError(f"calls {name or 'what is no function'}")
        done = then in self.function.ends
        return replace(node, step=then, done=done, owed=Fence.NONE, since=since, held=None)

    def _ends(self, node: _Node, pc: int, returned: bool) -> None:
        effect = Effect(Kind.CALL, pc)
        if not node.done:
            if not self.out_of_line:
                self._not_covered(pc, f"leaves the copy at the model's step {node.step}")
                return
            step = self.function.program.step(node.step)
            self._depart(node, effect, "path", "the function ends", findings.has(step))
            return
        if node.owed is not Fence.NONE:
            self._owes(node, effect, f"no barrier between {node.owed_by} and the end")
        wanted = self.function.ends[node.step]
        if wanted is not None and not self.out_of_line:
            self.ended.setdefault(wanted, {}).setdefault(replace(node.state, pc=pc), node)
        if wanted is None or not returned or not self.out_of_line:
            return
        result = dict(node.state.registers).get(self.names.RESULT, UNKNOWN).low(8)
        if result is None:
            self._not_covered(pc, "what it returns is not known")
        elif result != wanted:
            self._depart(node, effect, "value", f"returns {result}", f"returns {wanted}")

    def _tells(self) -> None:
        """Judge what an inlined try tells its caller: who was let in goes on otherwise."""
        if set(self.ended) != {0, 1} or self.found.verdict != "as modelled":
            return
        refused, node = next(iter(self.ended[0].items()))
        if alike(self.text, self.table, self.copy, self.ended[1], self.ended[0]):
            told = "the caller goes on alike, whether it was let in or not"
            self._depart(node, Effect(Kind.CALL, refused.pc), "value", told, "returns 1 or 0")

    # -- what is told ----------------------------------------------------------------------

    def _depart(
        self,
        node: _Node,
        effect: Effect,
        kind: str,
        binary: str,
        model: str,
        step: str = "",
        before: bool = False,
    ) -> None:
        step, address = step or node.step, effect.address
        same = (kind, step, before, address)
        if any((d.kind, d.step, d.before, d.address) == same for d in self.found.departures):
            return
        trace = (*self._trace(node), self._line(effect, binary))
        line, code = self.text.line(address), self._code(address)
        self.found.departures.append(
            Departure(kind, address, code, line, step, binary, model, trace, before)
        )

    def _trace(self, node: _Node) -> tuple[str, ...]:
        lines: list[str] = []
        at: _Node | None = node
        while at is not None:
            at, effects = self.parents.get(at, (None, ()))
            lines += [self._line(effect, findings.told(effect)) for effect in reversed(effects)]
        return tuple(reversed(lines))

    def _line(self, effect: Effect, told: str) -> str:
        where = self.text.line(effect.address)
        return f"{effect.address:#x} {self._code(effect.address)}: {told} ({where})"

    def _code(self, address: int) -> str:
        instruction = self.text.instruction(address)
        return f"{instruction.mnemonic} {instruction.op_str}".strip() if instruction else ""

    def _not_covered(self, address: int, why: str) -> None:
        if all((n.address, n.why) != (address, why) for n in self.found.not_covered):
            self.found.not_covered.append(NotCovered(address, why, self.text.line(address)))


def _back(state: State) -> State:
    """Return ``state`` after the return from the function that it was called into last."""
    return replace(state, pc=state.returns[-1], returns=state.returns[:-1])
