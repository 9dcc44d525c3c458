# SPDX-License-Identifier: GPL-2.0-or-later
"""The model's program beside a copy of a lock function: is what the copy does its next step?"""

from __future__ import annotations

from dataclasses import replace

from harness.arch import Arch
from harness.binary import arm64, findings, x86
from harness.binary.copies import Text
from harness.binary.events import Barrier, Effect, Kind, Location
from harness.binary.goes_on import alike
from harness.binary.machine import NotUnderstoodError, State
from harness.binary.modelled import SECTION, Function, ModelledLock, Written
from harness.binary.order import WORDS, is_after, is_before
from harness.binary.tables import Table
from harness.binary.values import UNKNOWN
from harness.binary.walked import Node, Walked
from harness.hypervisor.dwarf.inlined import Copy
from harness.model.explore.program import AccessKind, AtomicStep, Branch, Fence

_SPIN_LOCKS = ("_spin_lock", "_spin_unlock")
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


class Left(Exception):
    """The path leaves the program, or is one that cannot happen."""


class Beside:
    """The program of one copy; where the copy leaves it is told to ``walked``."""

    def __init__(
        self, text: Text, copy: Copy, modelled: ModelledLock, table: Table, walked: Walked
    ) -> None:
        self.text, self.copy, self.modelled, self.table = text, copy, modelled, table
        self.walked, self.found = walked, walked.found
        self.function: Function = modelled.functions[copy.function]
        self.out_of_line = copy.function == copy.caller
        self.names = x86 if text.arch is Arch.X86_64 else arm64
        self.lock: Location | None = None  # the lock word; None: it is not known where
        self.ended: dict[int, dict[State, Node]] = {}  # of an inlined try, by what it returns
        self.has_ended = False  # some way has come to the end of the program

    def begin(self) -> None:
        """Begin another walk."""
        self.ended = {}

    def after(self, node: Node, effects: tuple[Effect, ...]) -> Node:
        """Return where program and copy are after ``effects``, which the copy has at ``node``.

        Raises Left where this path is over, NotUnderstoodError where nobody can say.
        """
        for effect in effects:
            node = self._step(node, effect)
        return node

    def ends(self, node: Node, pc: int, returned: bool) -> None:
        """Judge that the copy ends behind the instruction at ``pc``; ``returned``: by returning."""
        effect = Effect(Kind.CALL, pc)
        if not node.done:
            if not self.out_of_line:
                self.walked.not_covered(pc, f"leaves the copy at the model's step {node.step}")
                return
            step = self.function.program.step(node.step)
            self.walked.depart(node, effect, "path", "the function ends", findings.has(step))
            return
        self.has_ended = True
        if node.owed is not Fence.NONE:
            self._owes(node, effect, f"no barrier between {node.owed_by} and the end")
        wanted = self.function.ends[node.step]
        if wanted is not None and not self.out_of_line:
            self.ended.setdefault(wanted, {}).setdefault(replace(node.state, pc=pc), node)
        if wanted is None or not returned or not self.out_of_line:
            return
        result = dict(node.state.registers).get(self.names.RESULT, UNKNOWN).low(8)
        if result is None:
            self.walked.not_covered(pc, "what it returns is not known")
        elif result != wanted:
            self.walked.depart(node, effect, "value", f"returns {result}", f"returns {wanted}")

    def judge_tries(self) -> None:
        """Judge what an inlined try tells its caller: who was let in goes on otherwise."""
        if set(self.ended) != {0, 1} or self.found.verdict != "as modelled":
            return
        refused, node = next(iter(self.ended[0].items()))
        if alike(self.text, self.table, self.copy, self.ended[1], self.ended[0]):
            told = "the caller goes on alike, whether it was let in or not"
            self.walked.depart(node, Effect(Kind.CALL, refused.pc), "value", told, "returns 1 or 0")

    def _step(self, node: Node, effect: Effect) -> Node:
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
        lock = self.lock
        if place is None or lock is None or place.base != lock.base:
            return False
        return lock.offset <= place.offset < lock.offset + self.modelled.size

    def _accessed(self, node: Node, effect: Effect) -> Node:
        """The copy has accessed the lock word."""
        if node.done:
            if self._is_called_again(node, effect):
                self.ends(node, effect.address, returned=False)
                raise Left
            if effect.kind is Kind.LOAD or effect.new is None:
                return node
            self.walked.depart(
                node, effect, "value", findings.told(effect), "no access: the function is done"
            )
            raise Left
        step = self.function.program.step(node.step)
        self.found.accesses.add((effect.address, step.name))
        if step.word == "qlock":
            self.walked.depart(
                node, effect, "path", findings.told(effect), f"{step.name}: a spinlock is taken"
            )
            raise Left
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
            raise Left  # the word cannot be this here
        if effect.kind is Kind.LOAD:  # it looks before it writes
            return replace(node, held=effect.old)
        if effect.new is None:  # the word has changed since it looked: it tries again
            return node
        self._writes_as(node, effect, step, expected)
        return self._moved(node, effect, step, branch)

    def _is_called_again(self, node: Node, effect: Effect) -> bool:
        """Say whether a caller that was not let in tries again: the copy is inlined, and what
        comes is the access that it begins with."""
        refused = self.function.ends[node.step] == 0
        begins = (effect.address, self.function.start) in self.found.accesses
        return refused and begins and not self.out_of_line

    def _stored(self, node: Node, effect: Effect, step: AtomicStep) -> Node:
        if step.name not in self.modelled.only_writer or node.held is None:
            self.walked.depart(node, effect, "value", findings.told(effect), findings.has(step))
            raise Left
        branch = self.modelled.word.branch(step, node.held)
        expected = self.modelled.word.after(branch, node.held) if branch is not None else None
        if branch is None or expected is None:
            raise Left
        self._writes_as(node, effect, step, expected)
        return self._moved(node, effect, step, branch)

    def _writes_as(
        self, node: Node, effect: Effect, step: AtomicStep, expected: Written | None
    ) -> None:
        size = effect.size if effect.kind is Kind.STORE else self.modelled.word.size
        if expected is None or effect.new is None:
            if expected is not None or effect.new is not None:
                self.walked.depart(node, effect, "value", findings.told(effect), findings.has(step))
                raise Left
            return
        if effect.new.low(size * 8) is None and not expected.own_cpu:
            raise NotUnderstoodError("writes to the lock word what is not known")
        if not expected.is_written_by(effect.new, size):
            mask = (1 << size * 8) - 1
            what = f"{findings.has(step)}: {expected.bits & mask:#x} is written"
            self.walked.depart(node, effect, "value", findings.told(effect), what)
            raise Left

    def _moved(self, node: Node, effect: Effect, step: AtomicStep, branch: Branch) -> Node:
        """The copy has made the model's ``step``."""
        word, arch = self.modelled.word, self.text.arch
        ordered = word.writes(branch) or step.kind is AccessKind.LOAD or branch.then == SECTION
        provided = node.since | ({effect.before} if effect.before else set())
        if ordered:
            self.found.before.setdefault(step.name, set()).add(frozenset(provided))
        if ordered and not is_before(arch, step.before, provided):
            told = f"no barrier between the accesses before and {step.name}"
            self.walked.depart(
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

    def _paid(self, node: Node, effect: Effect) -> Node:
        """Another access comes: what the model has before it must have been."""
        if node.owed is not Fence.NONE and effect.before is not Barrier.FULL:
            told = f"no barrier between {node.owed_by} and this access"
            if effect.kind is Kind.OTHER:
                told = f"{told} of {findings.where(effect)}"
            self._owes(node, effect, told)
        return replace(node, owed=Fence.NONE)

    def _provides(self, step: str, found: frozenset[Barrier]) -> None:
        self.found.after.setdefault(step, set()).add(found)

    def _owes(self, node: Node, effect: Effect, told: str) -> None:
        self._provides(node.owed_by, node.since)
        self.walked.depart(
            node, effect, "order", told, f"{WORDS[node.owed]} after {node.owed_by}",
            node.owed_by,
        )  # fmt: skip

    def _called(self, node: Node, effect: Effect) -> Node:
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
            self.walked.depart(node, effect, "path", f"calls {name}", has)
            raise Left
        else:
            raise NotUnderstoodError(f"calls {name or 'what is no function'}")
        done = then in self.function.ends
        return replace(node, step=then, done=done, owed=Fence.NONE, since=since, held=None)
