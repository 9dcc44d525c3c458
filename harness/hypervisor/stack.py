# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a CPU is in Xen, and through whom it came there: every function, inlined or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.arch import Arch
from harness.hypervisor.cpu import Cpu
from harness.hypervisor.dwarf import frames as unwinding
from harness.hypervisor.dwarf import inlined, values
from harness.hypervisor.dwarf.frames import NUMBERS, Frame, Read
from harness.hypervisor.layout import Memory
from harness.hypervisor.symbols import symbols
from harness.verdict import HarnessError

_MOST_FRAMES = 24
# Where an interrupt or a fault came into Xen on x86-64 (SAVE_ALL), the frame pointer is that of
# the saved %rbp, inverted, which is the fifth member of struct cpu_user_regs.
_RBP, _VECTOR, _RIP, _RFLAGS, _RSP, _SAVED_SIZE = 32, 124, 128, 144, 152, 160
_SAVED: tuple[str, ...] = ("R15", "R14", "R13", "R12", "RBP", "RBX", "R11", "R10", "R9", "R8")
_SAVED += ("RAX", "RCX", "RDX", "RSI", "RDI")
_STACK_SIZE = 8 * 4096
_INTERRUPTS_ON = 1 << 9  # in RFLAGS
_FIRST_INTERRUPT = 0x20  # vectors below are exceptions, which nothing masks
_ALL_ONES = 2**64 - 1
# On arm64 every entry from Xen's own code calls one of these, with the stack pointer at struct
# cpu_user_regs: x0 to x30, sp and pc, eight bytes each (xen/arch/arm/arm64/entry.S).
_ARM_ENTRIES = {
    "do_trap_irq": "interrupt",
    "do_trap_fiq": "interrupt",
    "do_trap_hyp_sync": "exception",
    "do_trap_hyp_serror": "exception",
}
_ARM_GENERAL, _ARM_SP, _ARM_PC, _ARM_SAVED_SIZE = 31, 248, 256, 264
_ARM_FRAME_SIZE = 1024  # more than struct cpu_user_regs has


@dataclass(frozen=True)
class Site:
    """One function that a CPU is in."""

    function: str
    text: str  # "evtchn_write_lock (event.h:116)"; of a function out of line "evtchn_send+0x8/0x90"
    frame: int  # index of its frame
    level: inlined.Level | None  # what DWARF says; None where it says nothing


@dataclass(frozen=True)
class Stack:
    """The functions that one CPU is in, innermost first; none where it runs its guest."""

    elf: Path
    cpu: int
    sites: tuple[Site, ...]
    frames: tuple[Frame, ...]
    texts: tuple[str, ...]  # of the sites, and of the interrupts between them
    read: Read

    def pointers(self, site: Site) -> Iterator[tuple[values.Variable, int | None]]:
        """Yield the variables of ``site`` that point to something, arguments first, and where to;
        None where the compiler did not keep it."""
        if site.level is None:
            return
        found = (one for one in values.variables(site.level) if one.target)
        for variable in sorted(found, key=lambda one: not one.parameter):
            value = values.value(self.elf, self.frames, site.frame, site.level, variable, self.read)
            yield variable, value


def stack(elf: Path, arch: Arch, cpu: Cpu, memory: Memory) -> Stack:
    """Return where ``cpu`` is.  Where memory cannot be read the stack ends early."""
    read = reader(cpu, memory)
    table = symbols(elf)
    sites, texts = list[Site](), list[str]()
    walked: list[Frame] = []
    frame: Frame | None = unwinding.first(elf, arch, cpu.pc, cpu.registers)
    while frame is not None and table.at(frame.address) is not None:
        for site in _sites(elf, frame, len(walked)):
            sites.append(site)
            texts.append(site.text)
        walked.append(frame)
        if len(walked) >= _MOST_FRAMES:
            break
        above = unwinding.caller(elf, arch, frame, read)
        if above is not None:
            above, entry = _INTERRUPTED[arch](elf, frame, above, read)
            if entry and above is not None and table.at(above.pc) is not None:
                texts.append(entry)
        if above is None or not _further(arch, frame, above):
            break
        frame = above
    return Stack(elf, cpu.number, tuple(sites), tuple(walked), tuple(texts), read)


def reader(cpu: Cpu, memory: Memory) -> Read:
    """Return what reads memory as ``cpu`` sees it: words of its stack that Xen printed, or the
    machine's memory."""

    def read(address: int, size: int) -> bytes:
        at = address - cpu.stack_at
        if cpu.stack and 0 <= at <= len(cpu.stack) - size:
            return cpu.stack[at : at + size]
        return memory(cpu.number, address, size)

    return read


def _sites(elf: Path, frame: Frame, number: int) -> Iterator[Site]:
    described = symbols(elf).describe(frame.pc)
    try:
        levels = inlined.chain(elf, frame.address)
    except (HarnessError, OSError):
        levels = ()
    if not levels:
        yield Site(described.partition("+")[0], described, number, None)
    for level in levels:
        yield Site(level.function, str(level) if level.inlined else described, number, level)


def _further(arch: Arch, frame: Frame, above: Frame) -> bool:
    """Say whether ``above`` lies above ``frame`` in the stack, as a caller must; a function of
    arm64 that calls nobody may have nothing there."""
    stack = NUMBERS[arch].stack
    here, there = frame.registers.get(stack, -1), above.registers.get(stack, 0)
    return there > here if frame.call else there >= here


def _interrupted_x86(
    elf: Path, _callee: Frame, frame: Frame, read: Read
) -> tuple[Frame | None, str]:
    """Return the frame that was interrupted where ``frame`` is the entry of an interrupt, and what
    it was; else ``frame`` itself."""
    numbers = NUMBERS[Arch.X86_64]
    pointer = frame.registers.get(numbers.frame, 0)
    base, stack = pointer ^ _ALL_ONES, frame.registers.get(numbers.stack, 0)
    if not stack - _STACK_SIZE < base < stack + _STACK_SIZE:
        return frame, ""
    try:
        saved = read(base - _RBP, _SAVED_SIZE)
    except HarnessError:
        return None, ""
    registers = {name: _word(saved, 8 * place) for place, name in enumerate(_SAVED)}
    registers["RSP"] = _word(saved, _RSP)
    return unwinding.first(elf, Arch.X86_64, _word(saved, _RIP), registers), _entry(saved)


def _interrupted_arm(
    elf: Path, callee: Frame, frame: Frame, read: Read
) -> tuple[Frame | None, str]:
    """The same for arm64, where ``callee`` is what an entry called.  What came from a guest has no
    stack of Xen behind it: its saved stack pointer is all ones."""
    entry = _ARM_ENTRIES.get(symbols(elf).describe(callee.pc).partition("+")[0], "")
    base = frame.registers.get(NUMBERS[Arch.ARM64].stack, 0)
    if not entry or not base:
        return frame, ""
    try:
        saved = read(base, _ARM_SAVED_SIZE)
    except HarnessError:
        return None, ""
    stack = _word(saved, _ARM_SP)
    if not base < stack <= base + _ARM_FRAME_SIZE:
        return frame, ""
    registers = {f"X{number:02}": _word(saved, 8 * number) for number in range(_ARM_GENERAL)}
    registers["SP"] = stack
    return unwinding.first(elf, Arch.ARM64, _word(saved, _ARM_PC), registers), entry


_INTERRUPTED = {Arch.X86_64: _interrupted_x86, Arch.ARM64: _interrupted_arm}


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _entry(saved: bytes) -> str:
    """Return what interrupted Xen, by the registers saved there."""
    vector = saved[_VECTOR]
    masked = not _word(saved, _RFLAGS) & _INTERRUPTS_ON
    what = "interrupt" if vector >= _FIRST_INTERRUPT else "exception"
    told = f"{what} {vector:#x}"
    return f"{told} WITH INTERRUPTS OFF" if masked and what == "interrupt" else told
