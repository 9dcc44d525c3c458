# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine code of a built hypervisor, disassembled where asked."""

from __future__ import annotations

import builtins
from pathlib import Path

import capstone
from elftools.elf.elffile import ELFFile

from harness.arch import Arch
from harness.hypervisor.cpu import Cpu
from harness.hypervisor.layout import Memory
from harness.hypervisor.per_thread import cached_per_thread
from harness.verdict import LabError

_LOOKED_AT = 16  # bytes of code
_LOADED, _EXECUTABLE = 2, 4  # SHF_ALLOC, SHF_EXECINSTR
_CONSTANT = ".rodata"  # by its name: what relocations are in is marked as writable


class Code:
    """The executable sections of one ELF file, and its constants."""

    def __init__(self, elf: Path, arch: Arch) -> None:
        self.arch = arch
        if arch is Arch.X86_64:
            self.engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        else:
            self.engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
        self.engine.detail = True
        with elf.open("rb") as source:
            loaded = [
                (section, section["sh_addr"], section.data())
                for section in ELFFile(source).iter_sections()
                if section["sh_flags"] & _LOADED and section["sh_type"] == "SHT_PROGBITS"
            ]
        self._sections = [(at, d) for one, at, d in loaded if one["sh_flags"] & _EXECUTABLE]
        self._constants = [(at, d) for one, at, d in loaded if one.name.startswith(_CONSTANT)]

    def instructions(self, low: int, high: int) -> list[capstone.CsInsn]:
        """Return the instructions from ``low`` up to ``high``; none where there is no code."""
        return list(self.engine.disasm(self.bytes(low, high), low))

    def bytes(self, low: int, high: int) -> builtins.bytes:
        """Return the machine code from ``low`` up to ``high``; none where there is no code."""
        return _between(self._sections, low, high)

    def constants(self, low: int, high: int) -> builtins.bytes:
        """Return the constants from ``low`` up to ``high``; none where something else is."""
        return _between(self._constants, low, high)


def _between(sections: list[tuple[int, bytes]], low: int, high: int) -> bytes:
    for address, data in sections:
        if address <= low < address + len(data):
            return bytes(data[low - address : high - address])
    return b""


def runs(elf: Path, arch: Arch, cpu: Cpu, memory: Memory) -> bool:
    """Return whether what is in memory where ``cpu`` was is the code of ``elf``.

    xen-shim has Xen's own addresses.  Where ``cpu`` was, it has the page mapped.
    """
    there = code(elf, arch).bytes(cpu.pc, cpu.pc + _LOOKED_AT)
    try:
        return bool(there) and memory(cpu.number, cpu.pc, len(there)) == there
    except LabError:
        return False  # it is elsewhere by now


def code(elf: Path, arch: Arch) -> Code:
    """Return the code of ``elf`` (read once per file and thread)."""
    return _code(elf, arch, elf.stat().st_mtime_ns)


@cached_per_thread(4)
def _code(elf: Path, arch: Arch, _mtime: int) -> Code:
    return Code(elf, arch)
