# SPDX-License-Identifier: GPL-2.0-or-later
"""The threads of a litmus test as machine code, decoded as a compiled lock is."""

from __future__ import annotations

import itertools
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import capstone
from elftools.elf.elffile import ELFFile

from harness.arch import NAMES, Arch
from harness.binary.litmus.outside import OutsideError
from harness.verdict import LabError

_LABEL = re.compile(r"(\w+)\s*:\s*(.*)")


@dataclass(frozen=True)
class Code:
    """One thread: its instructions by their address, and the address behind the last one."""

    start: int
    end: int
    instructions: dict[int, capstone.CsInsn]


def assemble(threads: Sequence[Sequence[str]]) -> tuple[Code, ...]:
    """Assemble ``threads`` with GNU as; OutsideError for what it does not take."""
    lines = [".arch armv8.6-a"]
    for number, thread in enumerate(threads):
        lines += [f"thread{number}:", *_with_own_labels(number, thread)]
    lines += [f"thread{len(threads)}:", "nop"]
    with tempfile.TemporaryDirectory(prefix="litmus-") as folder:
        source, made = Path(folder, "test.s"), Path(folder, "test.o")
        source.write_text("\n".join(lines) + "\n")
        try:
            ran = subprocess.run(
                [f"{NAMES[Arch.ARM64].triplet}-as", str(source), "-o", str(made)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise LabError(
                "there is no assembler for arm64", hint="install binutils-aarch64-linux-gnu"
            ) from error
        if ran.returncode:
            raise OutsideError("what GNU as does not take")
        return _decoded(made, len(threads))


def _with_own_labels(number: int, thread: Sequence[str]) -> list[str]:
    """Return the lines with this thread's labels, which another one may have as well, renamed."""
    lines: list[str] = []
    names: set[str] = set()
    for line in thread:
        while match := _LABEL.match(line):
            names.add(match[1])
            lines.append(f"{match[1]}:")
            line = match[2]
        if line:
            lines.append(line)
    for name in names:
        lines = [re.sub(rf"(?<![\w.]){name}(?!\w)", f".Lp{number}_{name}", one) for one in lines]
    return lines


def _decoded(path: Path, threads: int) -> tuple[Code, ...]:
    decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    decoder.detail = True
    with path.open("rb") as file:
        elf = ELFFile(file)
        code = elf.get_section_by_name(".text").data()
        symbols = {s.name: s["st_value"] for s in elf.get_section_by_name(".symtab").iter_symbols()}
        if elf.get_section_by_name(".rela.text") is not None:
            raise OutsideError("an address of code or data in an instruction")
    marks = [symbols[f"thread{number}"] for number in range(threads + 1)]
    made = []
    for start, end in itertools.pairwise(marks):
        found = {one.address: one for one in decoder.disasm(code[start:end], start)}
        if len(found) * 4 != end - start:
            raise OutsideError("an instruction that capstone does not decode")
        made.append(Code(start, end, found))
    return tuple(made)
