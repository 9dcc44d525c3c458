# SPDX-License-Identifier: GPL-2.0-or-later
"""Is data written before the flag that publishes it, and read after it?

Each function that writes or reads both is held against a partner that keeps the order, and the
two are explored under the memory of the machine (``missed``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.binary.copies import Text
from harness.binary.findings import Departure, NotCovered, Refinement
from harness.binary.publish.fields import Fields
from harness.binary.publish.flow import Flow, flow
from harness.binary.publish.missed import lines, missed
from harness.binary.publish.rows import PUBLICATIONS, Found, Publication, found
from harness.binary.publish.traced import Access
from harness.binary.publish.ways import Pair, Search
from harness.binary.tables import Table
from harness.hypervisor.dwarf.inlined import Copy
from harness.model.explore.memory_model import MemoryModel


@dataclass
class Publishing(Refinement):
    """What was found of one function that writes or reads a flag and what it publishes."""

    flag: str = ""


def published(text: Text, table: Table, memory: MemoryModel) -> tuple[Publishing, ...]:
    """Return what was found of each function that writes or reads what ``PUBLICATIONS`` lists.

    A hypervisor that has neither the structures nor the functions of a row has nothing of it.
    """
    names = {name for row in PUBLICATIONS for name in (*row.writers, *row.readers)}
    copies = text.copies(frozenset(names))
    wholes = text.copies(frozenset(copy.caller for copy in copies))
    code = _Code(text, table, copies, tuple(w for w in wholes if w.function == w.caller))
    return tuple(one for row in PUBLICATIONS for one in _row(code, memory, row))


@dataclass(frozen=True)
class _Code:
    """The functions of one hypervisor that have copies of the rows' functions."""

    text: Text
    table: Table
    copies: tuple[Copy, ...]
    wholes: tuple[Copy, ...]
    flows: dict[Copy, Flow] = field(default_factory=dict)

    def having(self, names: tuple[str, ...]) -> Iterator[tuple[Copy, list[Copy]]]:
        """Yield each function out of line that has copies of the functions ``names``."""
        for whole in self.wholes:
            inside = [c for c in self.copies if c.function in names and _is_in(c, whole)]
            if inside:
                yield whole, inside

    def flow(self, whole: Copy) -> Flow:
        if whole not in self.flows:
            self.flows[whole] = flow(self.text, whole, self.table)
        return self.flows[whole]


def _is_in(copy: Copy, whole: Copy) -> bool:
    address = next(low for low, high in copy.ranges if low < high)
    return any(low <= address < high for low, high in whole.ranges)


def _row(code: _Code, memory: MemoryModel, row: Publication) -> Iterator[Publishing]:
    memories = found(code.text.elf, row)
    if memories is not None:
        yield from _side(code, memory, row, memories, writes=True)
        yield from _side(code, memory, row, memories, writes=False)
    elif any(copy.function in (*row.writers, *row.readers) for copy in code.copies):
        parts = " and ".join(str(part) for part in (row.flag, row.data) if part is not None)
        yield _nothing(row, row.readers[0], f"{row.unit} has not {parts}")


def _nothing(row: Publication, function: str, why: str) -> Publishing:
    gap = NotCovered(0, why)
    return Publishing(function, function, 0, not_covered=[gap], flag=row.flag_name)


def _side(
    code: _Code, memory: MemoryModel, row: Publication, memories: Found, writes: bool
) -> Iterator[Publishing]:
    """Judge the functions that write, or those that read; who writes holds the writers' lock."""
    names = row.writers if writes else row.readers
    writers = {whole for whole, _ in code.having(row.writers)}
    judged = [
        _Function(code, memory, row, memories, whole, copies).judged(writes)
        for whole, copies in code.having(names)
        if writes or whole not in writers
    ]
    yield from judged
    if names and not any(one.accesses for one in judged):
        does = "writes" if writes else "reads"
        what = f"no function that {does} {row.flag_name} and {row.data_name} was found"
        yield _nothing(row, names[0], what)


class _Function:
    def __init__(
        self,
        code: _Code,
        memory: MemoryModel,
        row: Publication,
        memories: Found,
        whole: Copy,
        copies: list[Copy],
    ) -> None:
        self.text, self.memory, self.row, self.copies = code.text, memory, row, copies
        self.flag, self.data = memories.flag, memories.data
        self.flow = code.flow(whole)
        self.fields = Fields(
            code.text.elf, code.text.arch, row.unit, self.flow.entry, self.flow.origins, self.data
        )
        if self.flag is not None:
            self.fields.learn(self.flow.accesses(), self.flag)
        self.told = set[int]()
        start = whole.ranges[0][0]
        self.found = Publishing(copies[0].function, whole.caller, start, flag=row.flag_name)
        for instruction in self.text.listing(whole):
            self.found.instructions += 1
            self.found.understood += instruction.address not in self.flow.gaps

    def judged(self, writes: bool) -> Publishing:
        search = Search(self.text, self.flow, self._is_flag, self._is_data, self.row.called)
        pairs = search.written() if writes else search.read(self.copies, self.flag is None)
        # What is not understood may be an access that is looked for, wherever it is.
        for address, why in sorted(self.flow.gaps.items()):
            if address not in self.flow.harmless:
                self._not_covered(address, why)
        for copy in self.copies:
            places = [pc for low, high in copy.ranges for pc in range(low, high)]
            if not any(pc in self.flow.done for pc in places):
                self._not_covered(copy.ranges[0][0], "no way that is understood leads there")
        itself = self.found.caller in self.row.readers
        if itself and not writes and not pairs and self.memory is MemoryModel.ARM:
            why = "it is not inlined, and what its callers read behind it is not followed"
            self._not_covered(self.found.address, why)
        for pair in pairs:
            self._judge(pair, writes)
        return self.found

    def _is_flag(self, access: Access) -> bool:
        return self.flag is not None and self.fields.is_of(access, self.flag)

    def _is_data(self, access: Access) -> bool:
        return any(self.fields.is_of(access, memory) for memory in self.data)

    def _judge(self, pair: Pair, writes: bool) -> None:
        for access in (pair.first, pair.second):
            if access is not None:
                self.found.accesses.add((access.address, self._named(access)))
        example = missed(writes, pair.flag_first, pair.ordered, self.memory)
        if not example:
            return
        address = pair.second.address
        # A read of data through what was read before it comes after that: it adds nothing.
        key = pair.first.address if pair.first is not None and not writes else address
        if key in self.told:
            return
        self.told.add(key)
        binary, model = self._words(pair, writes)
        first = self._told(pair.first) if pair.first is not None else self._called()
        order = ("flag", "data") if pair.flag_first else ("data", "flag")
        told = dict(zip(order, (first, self._told(pair.second)), strict=True))
        names = {"flag": self.row.flag_name, "data": self.row.data_name}
        late = (f"{told['data']}: too late",) if writes else ()
        trace = (*lines(example, writes, told, names), *late)
        line, code, step = self.text.line(address), self._code(address), self.row.flag_name
        wrong_as_written = writes and pair.flag_first
        before = pair.first.address if pair.first is not None and not wrong_as_written else 0
        self.found.departures.append(
            Departure("order", address, code, line, step, binary, model, trace, first=before)
        )

    def _words(self, pair: Pair, writes: bool) -> tuple[str, str]:
        """Return what is done here, and what would be right."""
        flag, data = self.row.flag_name, self.row.data_name
        if not writes:
            before = f"the read of {flag}" if pair.first is not None else self._called()
            return (
                f"no barrier between {before} and the read of {data}",
                "smp_rmb() between them",
            )
        if pair.flag_first:
            return (
                f"{data} is written behind {flag}, which publishes it",
                f"{data}, smp_wmb(), {flag}",
            )
        return (
            f"no barrier between the write of {data} and of {flag}, which publishes it",
            "smp_wmb() between them",
        )

    def _called(self) -> str:
        return f"the call through {self.row.flag_name}"

    def _named(self, access: Access) -> str:
        name = self.row.flag_name if self._is_flag(access) else self.row.data_name
        return f"{access.did} {name}"

    def _told(self, access: Access) -> str:
        address = access.address
        return (
            f"{address:#x} {self._code(address)}: {self._named(access)} ({self.text.line(address)})"
        )

    def _code(self, address: int) -> str:
        instruction = self.text.instruction(address)
        return f"{instruction.mnemonic} {instruction.op_str}".strip() if instruction else ""

    def _not_covered(self, address: int, why: str) -> None:
        self.found.not_covered.append(NotCovered(address, why, self.text.line(address)))
