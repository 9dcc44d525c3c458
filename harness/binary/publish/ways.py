# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways between data and its flag through a function, and whether a barrier is on each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

import capstone

from harness.binary.copies import Text, branch_target
from harness.binary.events import Barrier
from harness.binary.publish.flow import Done, Flow
from harness.binary.publish.traced import Access, Did
from harness.hypervisor.dwarf.inlined import Copy
from harness.hypervisor.symbols import symbols

_DEPTH = 3  # calls that are followed for a barrier
_MOST = 2000  # instructions of a function that is called
_SUFFICIENT = {
    Barrier.READ: (Barrier.READ, Barrier.FULL),
    Barrier.WRITE: (Barrier.WRITE, Barrier.STORES, Barrier.FULL),
}
_ORDERED_READ = (Barrier.ACQUIRE, Barrier.ACQUIRE_PC, Barrier.FULL)


@dataclass(frozen=True)
class Pair:
    """Data and its flag, as one way through the function comes to them."""

    first: Access | None  # None: the flag was read before the function was called
    second: Access
    flag_first: bool
    ordered: bool  # a barrier is between them, or one of them orders itself


Test = Callable[[Access], bool]


class Search:
    """Looks for the ways in one function."""

    def __init__(
        self, text: Text, flow: Flow, is_flag: Test, is_data: Test, called: Collection[str] = ()
    ) -> None:
        """``called``: functions that read data."""
        self.flow, self.is_flag, self.is_data, self.called = flow, is_flag, is_data, called
        self.orders = Orders(text)

    def written(self) -> list[Pair]:
        """Return the ways from each store of data to the flag's, and from the flag's to data that
        no flag follows."""
        found = list[Pair]()
        stores = [one for one in self.flow.accesses() if one.did is not Did.READS]
        for store in stores:
            if self.is_data(store):
                pairs = list(self._to_flag(store))
                found += pairs or self._after_flag(store, stores)
        return found

    def read(self, copies: Collection[Copy], at_entry: bool) -> list[Pair]:
        """Return the ways from each load of the flag to loads of data.

        A flag that one of ``copies`` has read, with a barrier behind it, it may read again.
        ``at_entry``: the flag was read when the function is entered.
        """
        found, seen = list[Pair](), set[_Reading]()
        waiting = deque([_Reading(self.flow.entry, flag=at_entry)])
        met = set[tuple[int, bool]]()
        while waiting:
            node = waiting.popleft()
            if node in seen:
                continue
            seen.add(node)
            after = self._through(node, copies, found, met)
            waiting.extend(replace(after, pc=then) for then in self.flow.done[node.pc].then)
        return found

    def _through(
        self,
        node: _Reading,
        copies: Collection[Copy],
        found: list[Pair],
        met: set[tuple[int, bool]],
    ) -> _Reading:
        """Return ``node`` after its instruction; note the data that the instruction reads."""
        for what in self.flow.done[node.pc].what:
            read = self._read(what, node.pc)
            if read is not None:
                if self.is_data(read) or isinstance(what, str):
                    if node.flag and (read.address, node.ordered) not in met:
                        met.add((read.address, node.ordered))
                        found.append(Pair(node.by, read, True, node.ordered))
                elif self.is_flag(read):
                    copy = _copy_at(copies, node.pc)
                    again = node.flag and node.ordered and copy is not None and copy == node.copy
                    ordered = again or read.after in _ORDERED_READ
                    node = _Reading(node.pc, True, ordered, read, copy)
                    continue
            if node.flag and self.orders.reads(what):
                node = replace(node, ordered=True)
        return node

    def _read(self, what: Access | Barrier | str, pc: int) -> Access | None:
        """Return the access that reads, which a call of a function may stand for."""
        if isinstance(what, Access):
            return what if what.did is not Did.WRITES else None
        named = isinstance(what, str) and not isinstance(what, Barrier)
        return (
            Access(pc, Did.READS, 0, None, frozenset()) if named and what in self.called else None
        )

    def _to_flag(self, store: Access) -> Iterator[Pair]:
        """Yield ``store`` with the first flag that is written after it, once for each answer to
        whether a barrier is on the way."""
        seen, told = set[tuple[int, bool]](), set[bool]()
        waiting, behind = deque([(store.address, False)]), [store]
        while waiting:
            pc, ordered = waiting.popleft()
            if (pc, ordered) in seen:
                continue
            seen.add((pc, ordered))
            done = self.flow.done[pc]
            flag, ordered = self._flag_in(done, behind.pop() if behind else None, ordered)
            if flag is None:
                waiting.extend((then, ordered) for then in done.then)
                continue
            ordered = ordered or flag.before in (Barrier.RELEASE, Barrier.FULL)
            if ordered not in told:
                told.add(ordered)
                yield Pair(store, flag, False, ordered)

    def _flag_in(
        self, done: Done, behind: Access | None, ordered: bool
    ) -> tuple[Access | None, bool]:
        """Return the flag that ``done`` writes, ``behind`` an access of its own, if one is given,
        and whether a barrier has been before it."""
        for what in done.what:
            if behind is not None:
                behind = None if what == behind else behind
                continue
            if isinstance(what, Access) and what.did is not Did.READS and self.is_flag(what):
                return what, ordered
            ordered = ordered or self.orders.writes(what)
        return None, ordered

    def _after_flag(self, store: Access, stores: list[Access]) -> Iterator[Pair]:
        for flag in stores:
            if self.is_flag(flag) and self._comes(flag.address, store.address):
                yield Pair(flag, store, True, False)
                return

    def _comes(self, start: int, end: int) -> bool:
        """Say whether a way leads from the instruction at ``start`` to that at ``end``."""
        seen, waiting = {start}, [start]
        while waiting:
            then = set(self.flow.done[waiting.pop()].then) - seen
            seen |= then
            waiting += then
        return end in seen


@dataclass(frozen=True)
class _Reading:
    """A place in a function that reads a flag, and what has been on the way there."""

    pc: int
    flag: bool = False  # it was read
    ordered: bool = False  # and a barrier came behind it
    by: Access | None = None  # what read it
    copy: Copy | None = None  # that this is in


def _copy_at(copies: Collection[Copy], pc: int) -> Copy | None:
    inside = (c for c in copies if any(low <= pc < high for low, high in c.ranges))
    return next(inside, None)


class Orders:
    """Whether what an instruction does orders all earlier loads, or stores, before later ones."""

    def __init__(self, text: Text) -> None:
        self.text = text
        self.known: dict[tuple[str, Barrier], bool] = {}

    def reads(self, what: Access | Barrier | str) -> bool:
        return self._does(what, Barrier.READ)

    def writes(self, what: Access | Barrier | str) -> bool:
        return self._does(what, Barrier.WRITE)

    def _does(self, what: Access | Barrier | str, wanted: Barrier) -> bool:
        if isinstance(what, Access):
            return Barrier.FULL in (what.before, what.after)
        if isinstance(what, Barrier):
            return what in _SUFFICIENT[wanted]
        return self._called(what, wanted, 0)

    def _called(self, function: str, wanted: Barrier, depth: int) -> bool:
        """Say whether each way through ``function`` has the barrier."""
        key = (function, wanted)
        if key not in self.known:
            self.known[key] = False  # it calls itself
            starts = symbols(self.text.elf).named(function) if function else ()
            self.known[key] = (
                len(starts) == 1
                and depth < _DEPTH
                and self._on_each_way(starts[0].address, wanted, depth)
            )
        return self.known[key]

    def _on_each_way(self, start: int, wanted: Barrier, depth: int) -> bool:
        seen, waiting = {start}, [start]
        while waiting and len(seen) < _MOST:
            pc = waiting.pop()
            instruction = self.text.instruction(pc)
            if instruction is None:
                if self.text.is_trap(pc):
                    continue
                return False
            if self._has(instruction, wanted, depth):
                continue
            then = self._then(instruction)
            if then is None:
                return False
            waiting += [one for one in then if one not in seen]
            seen.update(then)
        return len(seen) < _MOST

    def _has(self, instruction: capstone.CsInsn, wanted: Barrier, depth: int) -> bool:
        name, operands = instruction.mnemonic, instruction.op_str.strip().lower()
        if name in ("dmb", "dsb"):
            suffix = {Barrier.READ: "ld", Barrier.WRITE: "st"}[wanted]
            domains = ("ish", "sy", "osh", f"ish{suffix}", suffix, f"osh{suffix}")
            return operands in domains
        if name == "mfence" or name.startswith("lock "):
            return True
        if name in ("bl", "call"):
            target = branch_target(instruction, calls=True)
            called = self.text.function_at(target) if target is not None else ""
            return bool(called) and self._called(called, wanted, depth + 1)
        return False

    def _then(self, instruction: capstone.CsInsn) -> tuple[int, ...] | None:
        """Return where the CPU goes on; None: it leaves the function, or nobody knows where."""
        after = instruction.address + instruction.size
        if instruction.mnemonic in ("brk", "ud2", "udf", "int3"):
            return ()
        if instruction.group(capstone.CS_GRP_RET):
            return None
        target = branch_target(instruction)
        if instruction.mnemonic in ("b", "jmp"):
            return (target,) if target is not None else None
        if target is not None:
            return (after, target)
        jumps = instruction.group(capstone.CS_GRP_JUMP) and not instruction.group(
            capstone.CS_GRP_CALL
        )
        return None if jumps else (after,)
