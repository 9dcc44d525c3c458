# SPDX-License-Identifier: GPL-2.0-or-later
"""The copies of the lock functions in a built Xen: where each is entered, what is in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import capstone
from capstone import arm64_const, x86_const
from elftools.elf.elffile import ELFFile

from harness.arch import Arch
from harness.hypervisor.code import Code, code
from harness.hypervisor.dwarf.inlined import Copy, chain, copies
from harness.hypervisor.symbols import Symbol, Symbols, symbols
from harness.verdict import ConfigError

_UNITS = (
    "common/event_channel.c",
    "common/event_fifo.c",
    "common/rwlock.c",
    "common/sched/core.c",
    "common/schedule.c",
    "common/spinlock.c",
    "arch/x86/irq.c",
)
_MACHINES = {"EM_X86_64": Arch.X86_64, "EM_AARCH64": Arch.ARM64}
_MASK = (1 << 64) - 1
_SCHEDULED = 12  # instructions of the caller that a compiler puts between those of a copy
_NEVER_GOES_ON = ("ret", "b", "jmp", "brk", "ud2")
_COLD = re.compile(r"\.cold(\.\d+)?$")
_LEAVES = ("ret", "bl", "call", "b", "jmp", "brk", "ud2")


def architecture(elf: Path) -> Arch:
    """Return the architecture of ``elf``; ConfigError if it is none of ours."""
    with elf.open("rb") as source:
        machine = str(ELFFile(source)["e_machine"])
    if machine not in _MACHINES:
        raise ConfigError(f"is for {machine}", where=str(elf), hint="give x86-64 or arm64 code")
    return _MACHINES[machine]


@dataclass(frozen=True)
class Text:
    """The code of one hypervisor."""

    elf: Path
    arch: Arch

    def copies(self, names: frozenset[str]) -> tuple[Copy, ...]:
        """Return every copy of the functions ``names``, in the order of their addresses."""
        found = [
            copy
            for copy in copies(self.elf, names, _UNITS)
            if any(low < high for low, high in copy.ranges)  # else nothing was left of it
        ]
        return tuple(sorted(found, key=lambda copy: (copy.function, copy.ranges)))

    def instruction(self, address: int) -> capstone.CsInsn | None:
        """Return the instruction at ``address``; None if there is none."""
        known: dict[int, capstone.CsInsn | None] = self._instructions
        if address not in known:
            listed = self._code.instructions(address, address + 15)
            known[address] = listed[0] if listed else None
        return known[address]

    def listing(self, copy: Copy) -> Iterator[capstone.CsInsn]:
        for low, high in copy.ranges:
            yield from self.between(low, high)

    def between(self, low: int, high: int) -> list[capstone.CsInsn]:
        """Return the instructions from ``low`` up to ``high``, without those that only trap."""
        found = self._code.instructions(low, high)
        after = found[-1].address + found[-1].size if found else low
        if after < high and self.is_trap(after):
            found += self.between(after + 1, high)
        return found

    def is_trap(self, address: int) -> bool:
        """Say whether UDB is at ``address``: BUG() of newer Xens, and no decoder knows it."""
        return self.arch is Arch.X86_64 and self._code.bytes(address, address + 1) == b"\xd6"

    def constants(self, address: int, size: int) -> bytes:
        """Return the ``size`` bytes at ``address``; b"" if not all are there and constant."""
        found = self._code.constants(address, address + size)
        return found if len(found) == size else b""

    def targets(self, span: tuple[int, int]) -> frozenset[int]:
        """Return where branches go that are between the addresses ``span``."""
        if span not in self._targets:
            found = (branch_target(instruction) for instruction in self.between(*span))
            self._targets[span] = frozenset(target for target in found if target is not None)
        return self._targets[span]

    def ways_to(self, copy: Copy, address: int) -> tuple[capstone.CsInsn, ...]:
        """Return after which instructions of the caller of ``copy`` the CPU may come to
        ``address``; of branches only those that are not told where to go."""
        found = list[capstone.CsInsn]()
        for part in self.parts(copy, address):
            found += self._ways(part).get(address, ())
        return tuple(found)

    def whole(self, copy: Copy, address: int) -> tuple[int, int]:
        """Return where the code begins and ends that has ``address``, of the caller of ``copy``."""
        symbol = self._symbols.at(address)
        if symbol is None:
            return copy.ranges[0]
        return symbol.address, symbol.address + symbol.size

    def parts(self, copy: Copy, address: int) -> tuple[tuple[int, int], ...]:
        """Return ``whole``, and the other parts of that function: GCC moves away what seldom runs
        ("evtchn_close.cold"), and both parts jump into the middle of the other."""
        own = self._symbols.at(address)
        named = self._parts.get(_COLD.sub("", own.name), ()) if own is not None else ()
        others = {(part.address, part.address + part.size) for part in named}
        return tuple(sorted(others | {self.whole(copy, address)}))

    def begins(self, address: int) -> bool:
        """Say whether a function begins at ``address``, and not only a part of one."""
        return not any(_COLD.search(symbol.name) for symbol in self._starts.get(address, ()))

    def function_at(self, address: int) -> str:
        """Return the function that begins at ``address``; "" if none does."""
        found = [s.name for s in self._starts.get(address, ()) if not s.name.startswith("$")]
        return found[0] if found else ""

    def line(self, address: int) -> str:
        """Return the line of source of ``address``, as "event_channel.c:121"."""
        levels = chain(self.elf, address)
        return f"{levels[0].file}:{levels[0].line}" if levels and levels[0].file else ""

    def entries(self, copy: Copy) -> tuple[int, ...]:
        """Return where ``copy`` is entered from the function that it is inlined in."""
        if copy.function == copy.caller:
            return (self._symbols_start(copy),)
        inside = [i for i in self.listing(copy)]
        members = {i.address for i in inside}
        reached = {i.address + i.size for i in inside if i.mnemonic not in _LEAVES[3:]}
        reached |= {target for i in inside if (target := branch_target(i)) is not None}
        for instruction in inside:
            after = instruction.address + instruction.size
            if after not in members and (back := self.goes_on(copy, after)) is not None:
                reached.add(back)
        entries = [low for low, high in copy.ranges if low < high and low not in reached]
        entered = [low for low in entries if self._is_entered(copy, low)]
        return tuple(entered or entries) or (min(members),)

    def contains(self, copy: Copy, address: int) -> bool:
        return any(low <= address < high for low, high in copy.ranges)

    def goes_on(self, copy: Copy, address: int) -> int | None:
        """Return where ``copy`` goes on behind ``address``, which is not in it; None: it ended.

        Compilers mix a copy's instructions with a few of its caller's.
        """
        for _ in range(_SCHEDULED):
            if self.contains(copy, address):
                return address
            found = self.instruction(address)
            if found is None or found.mnemonic.startswith(_LEAVES) or _is_conditional(found):
                return None
            address += found.size
        return None

    def _is_entered(self, copy: Copy, address: int) -> bool:
        """Say whether the caller's code comes to ``address``, by a branch or from before it."""
        low, high = self.whole(copy, address)
        if address == low or address in self.targets((low, high)):
            return True
        before = self.between(low, address)
        return not before or before[-1].mnemonic not in _NEVER_GOES_ON

    def _ways(self, span: tuple[int, int]) -> dict[int, list[capstone.CsInsn]]:
        """Return ``ways_to`` for each address, of the instructions in ``span``."""
        if span not in self._come_from:
            found = self._come_from.setdefault(span, {})
            for one in self.between(*span):
                target = branch_target(one)
                if target is not None:
                    found.setdefault(target, []).append(one)
                if one.mnemonic.split()[-1] not in (*_NEVER_GOES_ON, "br"):  # "notrack jmp"
                    found.setdefault(one.address + one.size, []).append(one)
        return self._come_from[span]

    def _symbols_start(self, copy: Copy) -> int:
        starts = {s.address for s in self._symbols.named(copy.caller)}
        return next((low for low, _ in copy.ranges if low in starts), copy.ranges[0][0])

    @cached_property
    def _instructions(self) -> dict[int, capstone.CsInsn | None]:
        return {}

    @cached_property
    def _targets(self) -> dict[tuple[int, int], frozenset[int]]:
        return {}

    @cached_property
    def _come_from(self) -> dict[tuple[int, int], dict[int, list[capstone.CsInsn]]]:
        return {}

    @cached_property
    def _starts(self) -> dict[int, list]:  # type: ignore[type-arg]
        starts: dict[int, list] = {}  # type: ignore[type-arg]
        for symbol in self._symbols:
            starts.setdefault(symbol.address, []).append(symbol)
        return starts

    @cached_property
    def _parts(self) -> dict[str, list[Symbol]]:
        parts: dict[str, list[Symbol]] = {}
        for symbol in self._symbols:
            parts.setdefault(_COLD.sub("", symbol.name), []).append(symbol)
        return parts

    @property
    def _symbols(self) -> Symbols:
        return symbols(self.elf)

    @property
    def _code(self) -> Code:
        return code(self.elf, self.arch)


def branch_target(instruction: capstone.CsInsn, calls: bool = False) -> int | None:
    """Return where a branch may go (or a call, if ``calls``); None if it is none, or one that is
    told where to go."""
    if instruction.mnemonic in ("call", "bl"):
        if not calls:
            return None
    elif not instruction.group(capstone.CS_GRP_JUMP) and instruction.mnemonic not in _LEAVES:
        return None
    if not instruction.operands:
        return None
    operand = instruction.operands[-1]
    if operand.type not in (x86_const.X86_OP_IMM, arm64_const.ARM64_OP_IMM):
        return None
    return int(operand.imm) & _MASK


def _is_conditional(instruction: capstone.CsInsn) -> bool:
    groups = (capstone.CS_GRP_JUMP, capstone.CS_GRP_CALL)
    return any(instruction.group(group) for group in groups)
