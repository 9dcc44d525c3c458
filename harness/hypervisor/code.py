# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine code of a built hypervisor, disassembled where asked."""

from __future__ import annotations

from pathlib import Path

import capstone
from elftools.elf.elffile import ELFFile

from harness.arch import Arch
from harness.hypervisor.per_thread import cached_per_thread

_EXECUTABLE = 4  # SHF_EXECINSTR


class Code:
    """The executable sections of one ELF file."""

    def __init__(self, elf: Path, arch: Arch) -> None:
        self.arch = arch
        if arch is Arch.X86_64:
            self.engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        else:
            self.engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
        self.engine.detail = True
        with elf.open("rb") as source:
            self._sections = [
                (section["sh_addr"], section.data())
                for section in ELFFile(source).iter_sections()
                if section["sh_flags"] & _EXECUTABLE and section["sh_type"] == "SHT_PROGBITS"
            ]

    def instructions(self, low: int, high: int) -> list[capstone.CsInsn]:
        """Return the instructions from ``low`` up to ``high``; none where there is no code."""
        return list(self.engine.disasm(self.bytes(low, high), low))

    def bytes(self, low: int, high: int) -> bytes:
        """Return the machine code from ``low`` up to ``high``; none where there is no code."""
        for address, data in self._sections:
            if address <= low < address + len(data):
                return bytes(data[low - address : high - address])
        return b""


def code(elf: Path, arch: Arch) -> Code:
    """Return the code of ``elf`` (read once per file and thread)."""
    return _code(elf, arch, elf.stat().st_mtime_ns)


@cached_per_thread(4)
def _code(elf: Path, arch: Arch, _mtime: int) -> Code:
    return Code(elf, arch)
