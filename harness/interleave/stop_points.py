# SPDX-License-Identifier: GPL-2.0-or-later
"""Stop points: the instructions of a built Xen that make the steps of the model.

DWARF tells where a lock function is, out of line and inlined.  Disassembling it tells which
instructions access the lock word, or call the spinlock that protects it.  Tables tell which step of
the model each of them is; all else is the same for all flavours and architectures.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import capstone
from capstone import arm64_const, x86_const

from harness.arch import Arch
from harness.hypervisor.code import code
from harness.hypervisor.dwarf.inlined import copies
from harness.hypervisor.dwarf.units import Range
from harness.hypervisor.symbols import symbols
from harness.verdict import HarnessError

_UNITS = (
    "common/event_channel.c",
    "common/rwlock.c",
    "common/sched/core.c",
    "common/spinlock.c",
    "arch/x86/irq.c",
)
_SPINLOCK = ("_spin_lock", "_spin_unlock", "_spin_trylock")  # and their _irq... variants


class Access(StrEnum):
    """How an instruction accesses a lock."""

    LOAD = "read"
    RMW = "atomic"
    CALL = "call"  # of a spinlock function; the whole call is one access


TICKET = "take N"  # for any N: the owner of ticket N waits for its turn

# Lock function -> kind of access -> the model's steps, in the order of the instructions' addresses.
Labels = Mapping[str, Mapping[Access, tuple[str, ...]]]

COUNTER: Labels = {
    "evtchn_write_lock": {Access.RMW: ("claim",), Access.LOAD: ("spin",)},
    "evtchn_write_unlock": {Access.RMW: ("leave",)},
    "evtchn_tryread_lock": {Access.LOAD: ("read",), Access.RMW: ("add", "undo")},
    "evtchn_read_unlock": {Access.RMW: ("leave",)},
}
RWLOCK: Labels = {
    "_read_lock": {Access.RMW: ("read",)},
    "_read_trylock": {Access.LOAD: ("read",), Access.RMW: ("add", "undo")},
    "_read_unlock": {Access.RMW: ("leave",)},
    "_write_lock": {Access.RMW: ("claim",)},
    "_write_unlock": {Access.RMW: ("leave",)},
    "queue_read_lock_slowpath": {
        Access.RMW: ("undo", "again"),
        Access.LOAD: ("look", "look", "wait"),
        Access.CALL: ("queue", "unqueue"),
    },
    "queue_write_lock_slowpath": {
        Access.RMW: ("again", "mark", "drain"),
        Access.LOAD: ("again", "mark", "drain"),
        Access.CALL: ("queue", "unqueue"),
    },
}
SPINLOCK: Labels = {
    "_spin_lock_cb": {Access.RMW: ("take",), Access.LOAD: (TICKET, TICKET)},
    "evtchn_trylock": {Access.CALL: ("try",)},
    "evtchn_unlock": {Access.CALL: ("leave",)},
}
EVENT_LOCK: Labels = {
    "_write_lock": {Access.RMW: ("lock",)},
    "_write_unlock": {Access.RMW: ("unlock",)},
}


# Functions that take a lock, and the first step in each.
_TAKES_LOCK = {
    "evtchn_write_lock": "claim",
    "evtchn_tryread_lock": "read",
    "evtchn_lock": "take",
    "evtchn_trylock": "try",
    "evtchn_lock_change": "take",
}
_FIRST_STEPS = ("claim", "read", "take", "try", "lock")


@dataclass(frozen=True)
class StopPoint:
    """One instruction that accesses a lock, and where it has the lock's address."""

    address: int
    end: int  # the address after it; after its loop, where an access is a loop (arm64)
    label: str  # the model's step
    access: Access
    register: str  # with ``offset``, the address of the lock word
    offset: int
    function: str  # the lock function
    caller: str  # the function it is inlined into, or itself


def stop_points(elf: Path, arch: Arch, labels: Labels, offset: int = 0) -> tuple[StopPoint, ...]:
    """Return the stop points of the lock whose functions ``labels`` has, lowest address first.

    ``offset``: of the lock word in the structure that a register points to.  HarnessError if the
    build has none of the functions.
    """
    found: dict[int, StopPoint] = {}
    xen = _Code(elf, arch)
    for copy in copies(elf, frozenset(labels), _UNITS):
        name, caller = copy.function, copy.caller
        kinds: dict[Access, int] = {}
        for access, address, end, register, at in xen.accesses(copy.ranges):
            if at not in (0, offset):
                continue
            steps = labels[name].get(access, ())
            number = kinds.get(access, 0)
            kinds[access] = number + 1
            if number < len(steps):
                point = StopPoint(address, end, steps[number], access, register, at, name, caller)
                found.setdefault(address, point)
    if not found:
        raise HarnessError(f"has no lock function of {', '.join(labels)}", where=str(elf))
    return tuple(found[address] for address in sorted(found))


def lock_entries(
    elf: Path, arch: Arch, callers: Collection[str], points: Iterable[StopPoint]
) -> tuple[StopPoint, ...]:
    """Return where ``callers``, functions of Xen, are about to take a lock, lowest address first.

    These are their calls of functions that take a lock, and those of ``points`` that are inlined
    in them and come first there.  At first CPUs stop only here: each timer tick takes some
    channel's lock, and if CPUs stopped at each access of it, none would get anywhere.
    """
    found = {p.address: p for p in points if p.caller in callers and p.label in _FIRST_STEPS}
    table = symbols(elf)
    locking = {symbol.address: symbol.name for name in _TAKES_LOCK for symbol in table.named(name)}
    xen = _Code(elf, arch)
    for caller in (symbol for name in callers for symbol in table.named(name)):
        span = ((caller.address, caller.address + caller.size),)
        for address, end, target in xen.calls(span):
            if target in locking:
                name = locking[target]
                found[address] = StopPoint(
                    address, end, _TAKES_LOCK[name], Access.CALL, xen.argument, 0, name, caller.name
                )
    return tuple(found[address] for address in sorted(found))


_Found = tuple[Access, int, int, str, int]  # kind, address, end, base register, offset


class _Code:
    """The code of one hypervisor, and the instructions in it that access a lock."""

    def __init__(self, elf: Path, arch: Arch) -> None:
        self._arch = arch
        self._code = code(elf, arch)
        self._spinlock_functions = {
            symbol.address
            for symbol in symbols(elf)
            if symbol.function and symbol.name.startswith(_SPINLOCK)
        }

    def accesses(self, ranges: tuple[Range, ...]) -> Iterator[_Found]:
        """Yield the instructions in ``ranges`` that may access a lock, lowest address first."""
        for low, high in ranges:
            listed = self._code.instructions(low, high)
            for number, instruction in enumerate(listed):
                call = self._call(instruction)
                if call is not None:
                    yield call
                elif self._arch is Arch.X86_64:
                    yield from _x86(instruction)
                else:
                    yield from _arm(instruction, listed[number : number + 8])

    @property
    def argument(self) -> str:
        """The register of a call's first argument."""
        return "rdi" if self._arch is Arch.X86_64 else "x0"

    def calls(self, ranges: tuple[Range, ...]) -> Iterator[tuple[int, int, int]]:
        """Yield (address, address after it, target) of every direct call in ``ranges``."""
        for low, high in ranges:
            for instruction in self._code.instructions(low, high):
                target = _target(instruction)
                if target is not None:
                    yield instruction.address, instruction.address + instruction.size, target

    def _call(self, instruction: capstone.CsInsn) -> _Found | None:
        if _target(instruction) not in self._spinlock_functions:
            return None
        address = instruction.address
        return Access.CALL, address, address + instruction.size, self.argument, 0


def _target(instruction: capstone.CsInsn) -> int | None:
    """Return the address that a direct call calls; None if ``instruction`` is no such call."""
    if instruction.mnemonic not in ("call", "bl"):
        return None
    operand = instruction.operands[0]
    if operand.type not in (x86_const.X86_OP_IMM, arm64_const.ARM64_OP_IMM):
        return None
    return int(operand.imm & (1 << 64) - 1)


def _x86(instruction: capstone.CsInsn) -> Iterator[_Found]:
    for operand in instruction.operands:
        if operand.type != x86_const.X86_OP_MEM or operand.mem.index or not operand.mem.base:
            continue
        register = instruction.reg_name(operand.mem.base)
        if register in ("rsp", "rbp", "rip") or instruction.mnemonic in ("lea", "nop", "call"):
            continue
        if instruction.mnemonic.startswith("lock ") or instruction.mnemonic == "xchg":
            access = Access.RMW
        elif operand.access == capstone.CS_AC_READ:
            access = Access.LOAD
        else:
            continue
        address = instruction.address
        yield access, address, address + instruction.size, register, operand.mem.disp


def _arm(instruction: capstone.CsInsn, following: list[capstone.CsInsn]) -> Iterator[_Found]:
    if instruction.mnemonic not in ("ldr", "ldrh", "ldxr", "ldaxr"):
        return
    operand = instruction.operands[-1]
    if operand.type != arm64_const.ARM64_OP_MEM or operand.mem.index:
        return
    register, address = instruction.reg_name(operand.mem.base), instruction.address
    if register == "sp":
        return
    end, access = address + instruction.size, Access.LOAD
    if instruction.mnemonic in ("ldxr", "ldaxr"):
        access = Access.RMW
        for later in following:  # ... stxr; cbnz back
            if later.mnemonic == "cbnz" and later.operands[-1].imm == address:
                end = later.address + later.size
    yield access, address, end, register, operand.mem.disp
