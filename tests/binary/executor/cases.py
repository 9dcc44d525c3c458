# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions to run, made of the forms by dice, assembled and decoded."""

from __future__ import annotations

import random
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import capstone
from elftools.elf.elffile import ELFFile

from harness.agent.build import compiler
from harness.arch import Arch
from tests.binary.executor.forms import FORMS, LOOK_AT_FLAGS, SET_FLAGS
from tests.binary.executor.unicorn_cpu import CODE

_HEAD = {Arch.ARM64: ".arch armv8.5-a\n", Arch.X86_64: ".intel_syntax noprefix\n"}
_GOES_ELSEWHERE = re.compile(r"(b|bl|b\..*|cbn?z|tbn?z|ret|brk|udf|j.*|call|ud2|int3)\b")
_NO_ZERO = re.compile(r"twelve|mask|xt[bhwx]|sp\b|^ld(add|clr|set|eor)")  # else it is sp, or stadd
_KEEPS_FLAGS_OF = re.compile(r"(popfq|imul|[sa]ar|ro[lr]|bs[fr]|call)\b")  # no flags are known

_ARM_MEMORY = (  # what is written, what is in x21, the address minus x20
    *(("[x20]", 0, 0), ("[x20, #8]", 0, 8), ("[x20, x21]", 24, 24)),
    *(("[x20], #16", 0, 0), ("[x20, #16]!", 0, 16), ("[x20, #-16]!", 0, -16)),
    *(("[x20], #-8", 0, 0), ("[x20, w21, sxtw]", 0xFFFF_FFF0, -16)),
    ("[x20, w21, uxtw]", 8, 8),
)
_X86_MEMORY = (
    *(("[r12]", 0, 0), ("[r12 + 8]", 0, 8), ("[r12 - 300]", 0, -300)),
    *(("[r12 + r13*4]", 3, 12), ("[r12 + r13*8 - 16]", 5, 24), ("[r12 + r13]", 16, 16)),
)
_UNSCALED = (("[x20, #-7]", 0, -7), ("[x20, #5]", 0, 5))
_PAIR = (("[x20]", 0, 0), ("[x20, #16]", 0, 16), ("[x20], #32", 0, 0), ("[x20, #-16]!", 0, -16))
_ON_STACK = {"push": 8, "pushfq": 8, "pop": 0, "popfq": 0, "leave": 0, "ret": 0, "call": 8}


@dataclass(frozen=True)
class Case:
    """A few instructions: one of the table's, what it needs before it, and a look at the flags."""

    instructions: tuple[capstone.CsInsn, ...]
    tested: int  # which of them it is about
    index: int  # for the register that an address may have as its index
    offset: int  # of the access to the register that the address begins with
    stack: int  # the same, to the stack pointer

    @property
    def mnemonic(self) -> str:
        return str(self.instructions[self.tested].mnemonic)

    def __str__(self) -> str:
        return "; ".join(f"{i.mnemonic} {i.op_str}".strip() for i in self.instructions)


def cases(arch: Arch, rounds: int, dice: random.Random) -> tuple[bytes, list[Case]]:
    """Return the machine code for CODE, and the cases in it: each form ``rounds`` times."""
    written = [_written(arch, form, dice) for _ in range(rounds) for form in FORMS[arch]]
    code = _assembled(arch, (line for one in written for line in one.lines))
    engine = (
        capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
        if arch is Arch.ARM64
        else capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    )
    engine.detail = True
    decoded = engine.disasm(code, CODE)
    made = []
    for one in written:
        instructions = tuple(next(decoded) for _ in one.lines)
        made.append(Case(instructions, one.tested, one.index, one.offset, one.stack))
    return code, made


@dataclass
class _Written:
    lines: list[str]
    tested: int
    index: int = 0
    offset: int = 0
    stack: int = 0


def _written(arch: Arch, form: str, dice: random.Random) -> _Written:
    memory = ("", 0, 0)
    places = {"memory": _ARM_MEMORY if arch is Arch.ARM64 else _X86_MEMORY}
    for name, known in {**places, "unscaled": _UNSCALED, "pair": _PAIR}.items():
        if f"{{{name}}}" in form:
            memory = dice.choice(known)
            form = form.replace(f"{{{name}}}", memory[0])
    parts = form.split("; ")
    name = parts[-1].split()[0]
    if len(parts) == 1 and dice.random() < 0.7:
        parts.insert(0, dice.choice(SET_FLAGS[arch]))
    tested = len(parts) - 1
    looks = not _GOES_ELSEWHERE.fullmatch(name) and not _KEEPS_FLAGS_OF.fullmatch(name)
    if tested and looks:
        parts.append(dice.choice(LOOK_AT_FLAGS[arch]))
    lines = [_filled(arch, part, dice) for part in parts]
    return _Written(lines, tested, memory[1], memory[2], _ON_STACK.get(name, 0))


def _filled(arch: Arch, form: str, dice: random.Random) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: _chosen(arch, found[1], form, dice), form)


def _chosen(arch: Arch, what: str, form: str, dice: random.Random) -> str:
    if arch is Arch.X86_64 and what[0] in "qdwb" and what.partition("_")[0] in "qdwb":
        return _x86_register(what, dice)
    narrow = "{w}" in form or "{w_low}" in form
    match what:
        case "x" | "w":
            number = dice.randrange(8)
            return f"{what}zr" if number == 7 and not _NO_ZERO.search(form) else f"{what}{number}"
        case "x_low" | "w_low":
            return f"{what[0]}{dice.randrange(4)}"
        case "x_high" | "w_high":
            return f"{what[0]}{dice.randrange(4, 8)}"
        case "shift":
            kind = dice.choice(("", "", "lsl", "lsr"))
            return f", {kind} #{dice.randrange(1, 32)}" if kind else ""
        case "condition":
            return dice.choice(("eq", "ne", "mi", "pl", "vs", "vc", "lo", "hs", "ls", "hi",
                                "lt", "ge", "le", "gt"))  # fmt: skip
        case "mask":
            return dice.choice(("0xff", "1", "0xfffe", "0x7fff0000", "0x80000000", "0x55555555")
                               if narrow else ("0xff", "-2", "0x8000000000000000"))  # fmt: skip
        case "branch":
            return str(dice.choice((16, 64, 1024)))
    low, high = {
        "half": (0, 0xFFFF), "twelve": (0, 4095), "few": (0, 15), "some": (1, 16),
        "flags": (0, 15), "bit": (1, 31), "high": (32, 63), "byte": (-128, 127),
        "small": (-(1 << 31), (1 << 31) - 1), "long": (1 << 32, (1 << 63) - 1),
        "count": (1, 31), "16s": (0, 3),
    }[what]  # fmt: skip
    number = dice.randint(low, high)
    return str(number * 16 if what == "16s" else number)


def _x86_register(what: str, dice: random.Random) -> str:
    size, _, which = what.partition("_")
    legacy = ("ax", "bx", "cx", "dx", "si", "di")
    if size == "b":
        names = ("al", "bl", "cl", "dl", *(() if which == "old" else ("sil", "dil", "r8b", "r11b")))
    else:
        prefix = {"q": "r", "d": "e", "w": ""}[size]
        suffix = {"q": "", "d": "d", "w": "w"}[size]
        names = (*(prefix + name for name in legacy), *(f"r{n}{suffix}" for n in (8, 11)))
    return str(dice.choice(names[1:] if which == "other" else names))


def _assembled(arch: Arch, lines: Iterator[str]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "forms.s"), Path(folder, "forms.o")
        source.write_text(_HEAD[arch] + "".join(f"\t{line}\n" for line in lines))
        subprocess.run([compiler(arch), "-c", source, "-o", made], check=True)
        with made.open("rb") as file:
            return bytes(ELFFile(file).get_section_by_name(".text").data())
