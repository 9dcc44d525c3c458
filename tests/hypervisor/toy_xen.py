# SPDX-License-Identifier: GPL-2.0-or-later
"""A toy of Xen for tests: its lock functions are inlined, its memory is read from the file."""

from __future__ import annotations

import functools
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from elftools.elf.elffile import ELFFile

from harness.agent.build import compiler
from harness.arch import Arch
from harness.hypervisor.cpu import Cpu
from harness.hypervisor.dwarf.frames import NUMBERS
from harness.hypervisor.symbols import Symbols, symbols
from harness.verdict import LabError
from tests import scratch

SOURCES = sorted((Path(__file__).parent / "toy").glob("*.c"))
RWLOCK = "#define    _QW_SHIFT    12                 /* Writer flags shift */\n"
_FLAGS = (
    "-g -ffreestanding -nostdlib -static -fno-pic -fno-stack-protector -fno-omit-frame-pointer "
    "-fno-asynchronous-unwind-tables -Wl,--build-id=none"
)
_OWN = {
    # Linked as Xen is: at addresses that a signed number has below zero.
    Arch.X86_64: [
        *("-DARM=0", "-fcf-protection=none", "-mno-red-zone", "-mcmodel=kernel"),
        "-Wl,-Ttext-segment=0xffffffff80000000",
    ],
    Arch.ARM64: ["-DARM=1", "-mno-outline-atomics", "-Wl,-Ttext-segment=0x200000"],
}


@dataclass(frozen=True)
class Toy:
    """A compiled toy: what a ``Build`` has, and its memory."""

    arch: Arch
    elf: Path
    build: Any

    @property
    def symbols(self) -> Symbols:
        return symbols(self.elf)

    def address(self, name: str) -> int:
        return self.symbols[name].address

    def memory(self, _cpu: int, address: int, size: int) -> bytes:
        for start, data in _memory(self.elf):
            if start <= address and address + size <= start + len(data):
                return data[address - start : address - start + size]
        raise LabError(f"cannot read memory at {address:#x}")

    def cpu(self, label: str, lock: int, number: int = 0, **registers: int) -> Cpu:
        """Return a CPU at ``label``, a loop of a lock, that wants the lock at ``lock``.

        The compiler may have copied its address to any register, so it is in all of them.
        """
        every = dict.fromkeys(NUMBERS[self.arch].names, lock)
        for name in ("RSP", "RBP", "SP", "X29", "X30"):
            every.pop(name, None)
        return Cpu(number, self.address(label), every | registers, ran_ns=None)


@functools.cache
def toy(arch: Arch, *flags: str) -> Toy:
    """Return the toy, compiled for ``arch`` with ``flags``."""
    folder = scratch.folder("toy-xen-")
    elf = folder / "xen-syms"
    words = [
        compiler(arch),
        *_FLAGS.split(),
        *_OWN[arch],
        *flags,
        *map(str, SOURCES),
        "-o",
        str(elf),
    ]
    subprocess.run(words, check=True)
    header = folder / "xen" / "include" / "xen" / "rwlock.h"
    header.parent.mkdir(parents=True)
    header.write_text(RWLOCK)
    source = SimpleNamespace(tree=folder)
    return Toy(arch, elf, SimpleNamespace(syms=elf, has_symbols=True, source=source))


@functools.cache
def _memory(elf: Path) -> tuple[tuple[int, bytes], ...]:
    with elf.open("rb") as file:
        segments = ELFFile(file).iter_segments(type="PT_LOAD")
        return tuple((one["p_vaddr"], one.data()) for one in segments)
