# SPDX-License-Identifier: GPL-2.0-or-later
"""Which lock of Xen a CPU is about to take, and what the lock's word says.

A lock operation is recognised by what its functions are given, inlined or not: a pointer to a
lock, or an event channel.  Its word is read where DWARF says that pointer is; where the compiler
did not keep it, where the code at the program counter reads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import capstone
from capstone import arm64_const, x86_const

from harness.arch import Arch
from harness.hypervisor.code import code
from harness.hypervisor.cpu import Cpu
from harness.hypervisor.dwarf.types import Record, record
from harness.hypervisor.objects import Named, Objects
from harness.hypervisor.rwlock_word import layout_of
from harness.hypervisor.source import Source
from harness.hypervisor.stack import Site, Stack
from harness.model.lock.flavours import MAX_VIRT_CPUS
from harness.verdict import HarnessError

_UNIT = "event_channel.c"
# One writer counts for so much in the counter flavours (MAX_VIRT_CPUS).
WRITER = {arch: MAX_VIRT_CPUS[arch.value] for arch in Arch}
_LEADING = 3  # functions without a lock that a primitive may call: cpu_relax(), read_atomic()...
_NEARBY = 128  # bytes from a place in a loop to its end
_BRANCH = re.compile(r"j[a-z]+$|b(\.[a-z]{2})?$|[ct]bn?z$")
_LOAD = re.compile(r"ld(a|x|ax|ap)?r[bh]?$")


class Kind(StrEnum):
    """The kinds of locks, each with a word of its own."""

    COUNTER = "counter"
    RWLOCK = "rwlock"
    SPINLOCK = "spinlock"
    RECURSIVE = "recursive spinlock"  # a structure of its own from Xen 4.20 on


_KINDS = {
    "rwlock_t": Kind.RWLOCK,
    "spinlock_t": Kind.SPINLOCK,
    "spinlock": Kind.SPINLOCK,
    "rspinlock_t": Kind.RECURSIVE,
    "rspinlock": Kind.RECURSIVE,
    "spinlock_tickets_t": Kind.SPINLOCK,
    "atomic_t": Kind.COUNTER,
}
_CHANNEL = "evtchn"
_MASK = 2**64 - 1
_UNKNOWN = Named()


@dataclass(frozen=True)
class Word:
    """A lock's word, and what it says."""

    value: int
    writers: int | None = None  # that hold the lock or wait for readers to leave
    readers: int | None = None
    owner: int | None = None  # the CPU that holds it; None: it is not in the word, or nobody


@dataclass(frozen=True)
class Operation:
    """A CPU's attempt to take a lock."""

    function: str  # of the lock: "evtchn_write_lock"
    operation: str  # on whose behalf: "evtchn_close"
    kind: Kind | None  # None: not known
    address: int | None  # of the lock's word; None: not known
    named: Named
    word: Word | None = None
    about: Named = _UNKNOWN  # the domain and the port that the operation was asked for

    @property
    def writes(self) -> bool:
        """Whether it wants the lock for itself; of a counter only writers wait."""
        return self.kind is not Kind.RWLOCK or "write" in self.function


def operation(
    stack: Stack, arch: Arch, source: Source, objects: Objects, loop: Sequence[Cpu]
) -> Operation | None:
    """Return which lock the CPU with ``stack`` is about to take; None if it is in no lock function.

    ``loop``: how the CPU was found, again and again.
    """
    run = _primitives(stack)
    if not run:
        return None
    outside = stack.sites.index(run[-1]) + 1
    if _only_reads(stack, run[-1]) and outside < len(stack.sites):
        outside += 1  # a lock function that nobody would know by its name
    outer, callers = stack.sites[outside - 1], stack.sites[outside:]
    kind, address, channel = _target(stack, run)
    if address is None:
        address = _read_by(stack.elf, arch, loop)
    if channel is not None:
        named = objects.channel(channel)
    else:
        named = objects.named(address) if address is not None else Named()
    if named.port is not None:
        kind = channel_kind(stack.elf)
    elif channel is None and kind is Kind.COUNTER:
        kind = None  # any number that somebody waits for
    word = None
    if kind is not None and address is not None:
        word = read_word(stack.elf, arch, source, objects, kind, address)
    asked = _asked(callers)
    behalf = asked[-1].function if asked else ""
    about = _about(stack, objects, asked)
    return Operation(outer.function, behalf, kind, address, named, word, about)


def channel_kind(elf: Path) -> Kind | None:
    """Return what an event channel's lock is in this build."""
    return _member_kind(elf, _CHANNEL, "lock")


def event_lock_kind(elf: Path) -> Kind | None:
    """Return what a domain's event_lock is in this build: a spinlock up to 4.16, then a rwlock."""
    return _member_kind(elf, "domain", "event_lock")


def _member_kind(elf: Path, structure: str, member: str) -> Kind | None:
    try:
        return _KINDS.get(record(elf, structure, _UNIT)[member].type)
    except (HarnessError, KeyError):
        return None


def read_word(
    elf: Path, arch: Arch, source: Source, objects: Objects, kind: Kind, address: int
) -> Word | None:
    """Return the word of the lock of that ``kind`` at ``address``; None where it cannot be read."""
    try:
        match kind:
            case Kind.COUNTER:
                counter = record(elf, "atomic_t", _UNIT)["counter"]
                return counted(arch, _signed(objects.number(address, counter)))
            case Kind.RWLOCK:
                known = record(elf, "rwlock_t", _UNIT)
                return shared(source, objects.number(address, known["cnts.counter"]))
            case Kind.SPINLOCK:
                return _tickets(record(elf, "spinlock_t", _UNIT), objects, address)
            case Kind.RECURSIVE:
                return _tickets(record(elf, "rspinlock_t", _UNIT), objects, address)
    except (HarnessError, KeyError):
        return None


def counted(arch: Arch, value: int) -> Word:
    """Return what the word of a counter says, signed."""
    if value < 0:
        return Word(value)
    writers, readers = divmod(value, WRITER[arch])
    return Word(value, writers, readers)


def shared(source: Source, value: int) -> Word:
    """Return what the word of a rwlock says: xen/include/xen/rwlock.h of ``source``."""
    layout = layout_of(source.tree)
    if layout is None:
        return Word(value)
    mode = layout.mode(value)
    owner = value & layout.cpu if mode == 3 and layout.cpu else None
    return Word(value, int(mode != 0), layout.count(value), owner)


def _tickets(known: Record, objects: Objects, address: int) -> Word:
    """A spinlock has no owner in its word; a debug build notes the CPU beside it."""
    value = objects.number(address, known["tickets.head_tail"])
    head = objects.number(address, known["tickets.head"])
    tail = objects.number(address, known["tickets.tail"])
    noted = known.get("debug.cpu")
    if noted is None or noted.bits is None or head == tail:
        return Word(value)
    cpu = objects.number(address, noted)
    nobody = (1 << noted.bits[1]) - 1
    return Word(value, owner=cpu if cpu != nobody else None)


def _primitives(stack: Stack) -> list[Site]:
    """Return the functions of the lock at the top of ``stack``, innermost first."""
    run = list[Site]()
    for place, site in enumerate(stack.sites):
        if _is_primitive(stack, site):
            run.append(site)
        elif run or place >= _LEADING:
            break
    return run


def _is_primitive(stack: Stack, site: Site) -> bool:
    if site.level is None:
        return "lock" in site.function
    arguments = [variable.target for variable, _ in stack.pointers(site) if variable.parameter]
    if any(target in _KINDS for target in arguments):
        return True
    return "lock" in site.function and arguments == [_CHANNEL]


def _only_reads(stack: Stack, site: Site) -> bool:
    """Say whether ``site`` is given nothing but a number to read: it is no lock function itself."""
    arguments = {variable.target for variable, _ in stack.pointers(site) if variable.parameter}
    return arguments == {"atomic_t"}


def _target(stack: Stack, run: Sequence[Site]) -> tuple[Kind | None, int | None, int | None]:
    """Return kind and address of the lock that ``run`` takes, and of its channel.

    The outermost function knows best what it takes: a rwlock may have a spinlock inside.
    """
    found: tuple[Kind, int] | None = None
    kind: Kind | None = None
    for site in reversed(run):
        for variable, value in stack.pointers(site):
            if not variable.parameter:
                continue
            if variable.target == _CHANNEL and value is not None:
                member = record(stack.elf, _CHANNEL, _UNIT)["lock"]
                return channel_kind(stack.elf), value + member.offset, value
            if variable.target in _KINDS:
                kind = kind or _KINDS[variable.target]
                if value is not None and found is None:
                    found = _KINDS[variable.target], value
    if found is None:
        return kind, None, None
    if kind is Kind.RWLOCK and found[0] is Kind.SPINLOCK:
        inside = record(stack.elf, "rwlock_t", _UNIT).get("lock")
        return kind, found[1] - (inside.offset if inside else 0), None
    return kind, found[1], None


def _asked(callers: Sequence[Site]) -> Sequence[Site]:
    """Return the functions from who wants the lock to the one that was asked for: the outermost
    about event channels, below the hypercall's."""
    last = 0
    for place, site in enumerate(callers):
        if "evtchn" in site.function and not site.function.startswith("do_"):
            last = place
    return callers[: last + 1]


def _about(stack: Stack, objects: Objects, asked: Sequence[Site]) -> Named:
    """Return the domain and the port that the functions ``asked`` work on, the outermost first."""
    domain = ""
    for site in reversed(asked):
        for variable, value in stack.pointers(site):
            if value is None:
                continue
            if variable.target == _CHANNEL and (found := objects.channel(value)).domain:
                return found
            if variable.target == "domain" and not domain:
                domain = objects.domain(value)
    return Named(domain)


def _read_by(elf: Path, arch: Arch, loop: Sequence[Cpu]) -> int | None:
    """Return the one address that is read in the loop in which a CPU was found, again and again."""
    low, high = min(cpu.pc for cpu in loop), max(cpu.pc for cpu in loop)
    found = {
        at
        for instruction in _around(elf, arch, low, high)
        if (at := _address(arch, instruction, loop[-1])) is not None
    }
    return found.pop() if len(found) == 1 else None


def loaded(elf: Path, arch: Arch, loop: Sequence[Cpu]) -> frozenset[str]:
    """Return the registers that the loop in which a CPU was found loads from memory, as QEMU names
    them.  Any other may still hold what a guest, or the code before the loop, left in it."""
    low, high = min(cpu.pc for cpu in loop), max(cpu.pc for cpu in loop)
    return frozenset(
        _qemu(instruction.reg_name(instruction.operands[0].reg))
        for instruction in _around(elf, arch, low, high)
        if _address(arch, instruction, loop[-1]) is not None
        and (arch is Arch.ARM64 or instruction.mnemonic.startswith("mov"))
        and instruction.operands[0].type in (arm64_const.ARM64_OP_REG, x86_const.X86_OP_REG)
    )


def _around(elf: Path, arch: Arch, low: int, high: int) -> list[capstone.CsInsn]:
    """Return the instructions of the innermost loop that has ``low`` and ``high`` in it: up to a
    branch that goes back; none if there is no such branch nearby."""
    text = code(elf, arch)
    for instruction in text.instructions(low, high + _NEARBY):
        if instruction.address < high or not _BRANCH.match(instruction.mnemonic):
            continue
        operand = instruction.operands[-1]
        if operand.type not in (arm64_const.ARM64_OP_IMM, x86_const.X86_OP_IMM):
            continue
        target = int(operand.imm) & _MASK  # Xen's addresses are negative numbers to capstone
        if target <= low:
            return text.instructions(target, instruction.address + instruction.size)
    return []


def _address(arch: Arch, instruction: capstone.CsInsn, cpu: Cpu) -> int | None:
    """Return where ``instruction`` reads, given the registers of ``cpu``; None if it does not."""
    memory = arm64_const.ARM64_OP_MEM if arch is Arch.ARM64 else x86_const.X86_OP_MEM
    if arch is Arch.ARM64 and not _LOAD.match(instruction.mnemonic):
        return None
    if arch is Arch.X86_64 and instruction.mnemonic in ("lea", "nop"):
        return None
    for operand in instruction.operands:
        if operand.type != memory or operand.mem.index or not operand.mem.base:
            continue
        name = instruction.reg_name(operand.mem.base)
        if name in ("rsp", "rbp", "sp", "rip", "x29", "fp"):
            return None
        base = cpu.registers.get(_qemu(name))
        return None if base is None else base + int(operand.mem.disp) & _MASK
    return None


def _qemu(name: str) -> str:
    """Return QEMU's name of capstone's register, or its half: x1 and w1 are X01, edi is RDI."""
    if name[0] in "xw" and name[1:].isdigit():
        return f"X{int(name[1:]):02}"
    return re.sub(r"^E|(?<=\d)D$", lambda half: "R" if half[0] == "E" else "", name.upper())


def _signed(value: int) -> int:
    return value - (1 << 32) if value & 1 << 31 else value
