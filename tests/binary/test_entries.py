# SPDX-License-Identifier: GPL-2.0-or-later
"""A copy that its caller enters in two places, each with instructions of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.arch import Arch
from harness.binary import values
from harness.binary.copies import Text
from harness.binary.findings import Refinement
from harness.binary.inherited import prelude
from harness.binary.modelled import modelled_lock
from harness.binary.refine import refine
from harness.binary.tables import table_of
from harness.hypervisor.dwarf.inlined import Copy
from harness.hypervisor.symbols import symbols
from tests.binary.assembled import assembled, function

# The model: the counter goes down by one.
GOOD, WRONG, UNKNOWN = "lock decl (%rdi)", "lock subl $2, (%rdi)", "lock xaddl %eax, (%rdi)"
WITH_THE_CALLERS_NUMBER = "lock xaddl %ecx, (%rdi)"  # which is -1


def refined(folder: Path, first: str, second: str) -> Refinement:
    code = [
        "mov $-1, %ecx; test %rsi, %rsi; jne second",
        f"first: {first}; first_end: ret",
        f"second: {second}; second_end: ret",
    ]
    elf = assembled(folder, Arch.X86_64, function("f", *code))
    at = {name: symbols(elf)[name].address for name in ("first", "second")}
    at |= {f"{name}_end": symbols(elf)[f"{name}_end"].address for name in at}
    ranges = tuple((at[name], at[f"{name}_end"]) for name in ("first", "second"))
    copy = Copy("evtchn_read_unlock", "f", ranges)
    modelled = modelled_lock("counter", Arch.X86_64)
    return refine(Text(elf, Arch.X86_64), copy, modelled, 0, table_of(Arch.X86_64))


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        (GOOD, GOOD, "as modelled"),
        (GOOD, WITH_THE_CALLERS_NUMBER, "as modelled"),
        (WITH_THE_CALLERS_NUMBER, GOOD, "as modelled"),
        (WRONG, GOOD, "refuted"),
        (GOOD, WRONG, "refuted"),
        (WRONG, WITH_THE_CALLERS_NUMBER, "refuted"),
        (WITH_THE_CALLERS_NUMBER, WRONG, "refuted"),
        (UNKNOWN, GOOD, "not covered"),
        (UNKNOWN, WITH_THE_CALLERS_NUMBER, "not covered"),
        (WRONG, "decl (%rdi)", "refuted"),
        (GOOD, "decl (%rdi)", "refuted"),  # not atomic
        ("decl (%rdi)", GOOD, "refuted"),
        (GOOD, "movl $1, 0x40(%rdi)", "as modelled"),  # the compiler has put its caller's there
    ],
)
def test_what_is_found_from_one_entry_stays(
    first: str, second: str, verdict: str, tmp_path: Path
) -> None:
    assert refined(tmp_path, first, second).verdict == verdict


@pytest.mark.parametrize(
    ("before", "copy", "verdict"),
    [
        ("mov %rdi, -0x40(%rbp)", "mov -0x40(%rbp), %rax; lock decl (%rax)", "as modelled"),
        ("mov %rdi, -0x40(%rsp)", "mov -0x40(%rsp), %rax; lock decl (%rax)", "as modelled"),
        ("mov %rdi, -0x40(%rbp)", "mov -0x40(%rbp), %rax; lock subl $2, (%rax)", "refuted"),
    ],
)
def test_the_caller_has_put_the_address_on_its_stack(
    before: str, copy: str, verdict: str, tmp_path: Path
) -> None:
    """gcc does, in dump_irqs of 4.13.0 with its stable branch's locks."""
    code = [f"test %rsi, %rsi; je 1f; {before}", f"first: {copy}; first_end: 1: ret"]
    elf = assembled(tmp_path, Arch.X86_64, function("f", *code))
    begin, end = (symbols(elf)[name].address for name in ("first", "first_end"))
    modelled = modelled_lock("counter", Arch.X86_64)
    at = Copy("evtchn_read_unlock", "f", ((begin, end),))
    found = refine(Text(elf, Arch.X86_64), at, modelled, 0, table_of(Arch.X86_64))
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("before", "is_known"),
    [
        ("mov %rdi, -0x40(%rbp); mov %rsi, -0x38(%rbp)", True),
        ("mov %rdi, -0x40(%rbp); mov %esi, -0x3c(%rbp)", False),
        ("mov %rdi, -0x40(%rbp); mov %rsi, -0x44(%rbp)", False),
        ("mov %rdi, -0x40(%rbp); lock xadd %rsi, -0x40(%rbp)", False),
        ("mov %rdi, 0x40(%rbp)", False),  # rbp may be any pointer, and others may write there
    ],
)
def test_what_is_written_over_is_not_known(before: str, is_known: bool, tmp_path: Path) -> None:
    code = [f"test %rsi, %rsi; je 1f; {before}", "first: lock decl (%rdi); 1: ret"]
    elf = assembled(tmp_path, Arch.X86_64, function("f", *code))
    entry = symbols(elf)["first"].address
    at = Copy("evtchn_read_unlock", "f", ((entry, entry + 3),))
    state = prelude(Text(elf, Arch.X86_64), at, entry, table_of(Arch.X86_64))
    assert (values.pointer("rdi") in [v for n, v in state.registers if " " in n]) == is_known
