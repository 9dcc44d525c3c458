# SPDX-License-Identifier: GPL-2.0-or-later
"""Walks up a stack of Xen: by the call frame information (.debug_frame); where there is none, by
what an arm64 function does first; else by frame pointers."""

from __future__ import annotations

import bisect
import io
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from elftools.dwarf.callframe import FDE, CallFrameInfo

from harness.arch import Arch
from harness.hypervisor.dwarf.units import Units, units
from harness.hypervisor.per_thread import cached_per_thread
from harness.hypervisor.prologue import prologue
from harness.hypervisor.symbols import symbols
from harness.verdict import HarnessError

# Reads ``size`` bytes at a virtual address; HarnessError where it cannot.
Read = Callable[[int, int], bytes]

_MASK = 2**64 - 1
_CIE = 0xFFFFFFFF


@dataclass(frozen=True)
class Frame:
    """One activation of a function.

    ``registers`` are by DWARF's numbers, those whose values are known: of a caller those that its
    callee has not touched, or has saved.
    """

    pc: int  # the instruction; of a caller the one that is returned to
    call: bool  # it is a caller: the instruction to explain is the one before ``pc``
    registers: Mapping[int, int]
    cfa: int | None  # canonical frame address: what DW_OP_call_frame_cfa gives

    @property
    def address(self) -> int:
        """An address in the instruction to explain."""
        return self.pc - 1 if self.call else self.pc


@dataclass(frozen=True)
class Numbers:
    """DWARF's numbers of an architecture's registers (the psABIs)."""

    names: tuple[str, ...]  # as harness.hypervisor.cpu names them, by number
    stack: int
    frame: int
    link: int | None  # holds the return address of a function that calls nobody
    preserved: frozenset[int]

    def of(self, registers: Mapping[str, int]) -> dict[int, int]:
        """Return ``registers`` by number."""
        found = {n: registers[name] for n, name in enumerate(self.names) if name in registers}
        for name, number in (("FP", self.frame), ("LR", self.link)):  # as Xen for Arm prints them
            if number is not None and name in registers:
                found.setdefault(number, registers[name])
        return found


NUMBERS = {
    Arch.X86_64: Numbers(
        ("RAX", "RDX", "RCX", "RBX", "RSI", "RDI", "RBP", "RSP", *(f"R{n}" for n in range(8, 16))),
        stack=7,
        frame=6,
        link=None,
        preserved=frozenset({3, 6, 12, 13, 14, 15}),
    ),
    Arch.ARM64: Numbers(
        (*(f"X{n:02}" for n in range(31)), "SP"),
        stack=31,
        frame=29,
        link=30,
        preserved=frozenset(range(19, 30)),
    ),
}


def first(elf: Path, arch: Arch, pc: int, registers: Mapping[str, int]) -> Frame:
    """Return the innermost frame of a CPU that is at ``pc``."""
    return _with_cfa(elf, arch, Frame(pc, False, NUMBERS[arch].of(registers), None))


def caller(elf: Path, arch: Arch, frame: Frame, read: Read) -> Frame | None:
    """Return the frame of whoever called ``frame``'s function; None where that is not known."""
    try:
        found = _by_rules(elf, arch, frame, read) or _by_pointer(arch, frame, read)
    except HarnessError:
        return None
    if found is None:
        return None
    pc, registers = found
    return _with_cfa(elf, arch, Frame(pc, True, registers, None))


def _by_rules(elf: Path, arch: Arch, frame: Frame, read: Read) -> tuple[int, dict[int, int]] | None:
    row = _row(elf, arch, frame.pc, frame.address)
    if row is None or frame.cfa is None:
        return None
    numbers = NUMBERS[arch]
    values = dict(frame.registers)
    if not _keeps_others(elf, frame.address):
        values = {n: value for n, value in values.items() if n in numbers.preserved}
    back = frame.registers.get(numbers.link) if numbers.link is not None else None
    for register, offset in row.rules.items():
        if offset is None:
            values.pop(register, None)
            continue
        value = _word(read, frame.cfa + offset)
        if register == row.back:
            back = value
        if register in numbers.preserved:
            values[register] = value
    if back is None or (frame.call and row.back not in row.rules):
        return None
    values[numbers.stack] = frame.cfa
    return back, values


def _keeps_others(elf: Path, address: int) -> bool:
    """Say whether a location in any register holds while the function at ``address`` runs.

    gcc lets a caller keep a value in a register that it knows its callee not to touch
    (-fipa-ra); where a call ends a location, it writes that it ends one byte earlier.
    """
    unit = units(elf).unit(address)
    made_by = unit.get_top_DIE().attributes.get("DW_AT_producer") if unit is not None else None
    return made_by is not None and made_by.value.startswith(b"GNU C")


def _by_pointer(arch: Arch, frame: Frame, read: Read) -> tuple[int, dict[int, int]] | None:
    """The function keeps the caller's frame pointer and the return address where its own points."""
    numbers = NUMBERS[arch]
    here = frame.registers.get(numbers.frame, 0)
    if here < frame.registers.get(numbers.stack, 0):
        return None
    above, back = struct.unpack("<QQ", read(here, 16))
    return back, {numbers.frame: above, numbers.stack: here + 16}


def _cfa(elf: Path, arch: Arch, frame: Frame) -> int | None:
    row = _row(elf, arch, frame.pc, frame.address)
    if row is None or row.cfa_register is None or row.cfa_register not in frame.registers:
        return None
    return frame.registers[row.cfa_register] + row.cfa_offset & _MASK


def _word(read: Read, address: int) -> int:
    return int.from_bytes(read(address & _MASK, 8), "little")


def _with_cfa(elf: Path, arch: Arch, frame: Frame) -> Frame:
    return replace(frame, cfa=_cfa(elf, arch, frame))


@dataclass(frozen=True)
class _Row:
    """The rules that hold at one instruction."""

    cfa_register: int | None  # None: by an expression, which compilers write for no C function
    cfa_offset: int
    rules: Mapping[int, int | None]  # by register: where it is from the CFA; None: not kept
    back: int  # the number that stands for the return address


def _row(elf: Path, arch: Arch, pc: int, address: int) -> _Row | None:
    entry = _entry(units(elf), address)
    if entry is None:
        return _row_of_prologue(elf, pc, address) if arch is Arch.ARM64 else None
    rows = entry.get_decoded().table
    row = next((row for row in reversed(rows) if row["pc"] <= address), None)
    if row is None:
        return None
    rules = {
        key: rule.arg if rule.type == "OFFSET" else None
        for key, rule in row.items()
        if isinstance(key, int) and rule.type != "SAME_VALUE"
    }
    cfa = row["cfa"]
    return _Row(cfa.reg, cfa.offset or 0, rules, int(entry.cie["return_address_register"]))


def _row_of_prologue(elf: Path, pc: int, address: int) -> _Row | None:
    numbers = NUMBERS[Arch.ARM64]
    symbol = symbols(elf).at(address)
    if symbol is None or not symbol.function or numbers.link is None:
        return None
    seen = prologue(elf, symbol.address, pc)
    if seen.frame is None:
        return _Row(numbers.stack, -seen.stack, seen.saved, numbers.link)
    return _Row(numbers.frame, -seen.frame, seen.saved, numbers.link)


@cached_per_thread(256)
def _entry(table: Units, address: int) -> FDE | None:
    starts, found = _entries(table)
    last = bisect.bisect_right(starts, address) - 1
    if last < 0 or address >= found[last][0]:
        return None
    _, at, common = found[last]
    data = _section(table)
    # Both entries in a stream of their own: to parse all of them takes seconds.
    cie, fde = (data[place : place + 4 + _length(data, place)] for place in (common, at))
    alone = cie + fde[:4] + bytes(4) + fde[8:]
    parsed = CallFrameInfo(io.BytesIO(alone), len(alone), 0, table.info.structs).get_entries()
    return next((entry for entry in parsed if isinstance(entry, FDE)), None)


@cached_per_thread(4)
def _entries(table: Units) -> tuple[list[int], list[tuple[int, int, int]]]:
    """Return where functions begin, and (end, offset of the entry, offset of its CIE)."""
    found = sorted(_headers(_section(table)))
    return [start for start, *_ in found], [(end, at, cie) for _, end, at, cie in found]


def _headers(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    at = 0
    while at + 24 <= len(data):
        length = _length(data, at)
        (common,) = struct.unpack_from("<I", data, at + 4)
        if common != _CIE:
            start, size = struct.unpack_from("<QQ", data, at + 8)
            yield start, start + size, at, common
        at += 4 + length


def _length(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


@cached_per_thread(4)
def _section(table: Units) -> bytes:
    section = table.info.debug_frame_sec
    return bytes(section.stream.getvalue()) if section is not None else b""
