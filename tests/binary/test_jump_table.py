# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the jump of a switch goes on x86-64: A64's is in test_publish."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.arch import Arch
from harness.binary.copies import Text
from harness.binary.publish.flow import Flow, flow
from harness.binary.tables import table_of
from harness.hypervisor.dwarf.inlined import Copy
from harness.hypervisor.symbols import symbols
from tests.binary.assembled import assembled, function

LOADS = "lea table(%rip), %rcx; movslq (%rcx,%rax,4), %rax; add %rcx, %rax"
JUMPS = f"{LOADS}; jmp *%rax"


def ran(folder: Path, code: str, section: str = ".rodata") -> tuple[Flow, set[int]]:
    """Return what the function ``code`` does, and the addresses of its three cases; 9 is the way of
    all other numbers."""
    cases = [line for case in "123" for line in (f"case{case}:", f"nop; mov ${case}, %eax; ret")]
    table = [f".section {section}", ".balign 4", "table:"]
    table += [f".long case{case} - table" for case in "123"]
    elf = assembled(folder, Arch.X86_64, [*function("f", code, *cases, "9: ret"), *table])
    known, text = symbols(elf), Text(elf, Arch.X86_64)
    start = known["f"]
    whole = Copy("f", "f", ((start.address, start.address + start.size),))
    found = flow(text, whole, table_of(Arch.X86_64))
    return found, {known[f"case{case}"].address for case in "123"}


@pytest.mark.parametrize(
    "code",
    [
        f"cmp $2, %edi; ja 9f; mov %edi, %eax; {JUMPS}",
        f"cmp $2, %edi; ja 9f; mov %edi, %eax; {LOADS}; mov %rsi, %r12; jmp *%rax",
        f"cmp $2, %edi; ja 9f; mov %rsi, %rdx; mov %edi, %eax; {LOADS}; notrack jmp *%rax",
        f"cmp $2, %edi; jbe 1f; ret; 1: mov %edi, %eax; {JUMPS}",
        f"movzbl (%rdi), %eax; add $0xfe, %al; cmp $2, %al; ja 9f; movzbl %al, %eax; {JUMPS}",
        "lea table(%rip), %r13; 1: call f; cmp $2, %rax; ja 1b; movslq (%r13,%rax,4), %rax; "
        "add %r13, %rax; jmp *%rax",
    ],
)
def test_each_case_is_a_way(code: str, tmp_path: Path) -> None:
    found, cases = ran(tmp_path, code)
    assert found.gaps == {}
    assert cases <= set(found.done)
    assert cases in [set(done.then) for done in found.done.values()]


@pytest.mark.parametrize(
    "code",
    [
        f"mov %edi, %eax; {JUMPS}",
        f"cmp $2, %edx; ja 9f; mov %edi, %eax; {JUMPS}",
        f"cmp $2, %edi; cmp $7, %rdx; ja 9f; mov %edi, %eax; {JUMPS}",
        f"cmp $2, %edi; jb 9f; mov %edi, %eax; {JUMPS}",
        f"cmp $2, %edi; ja 1f; 1: mov %edi, %eax; {JUMPS}",
        f"cmp $2, %edi; ja 9f; add $1, %edi; mov %edi, %eax; {JUMPS}",
        f"cmp $2, %edi; ja 9f; mov (%rsi), %eax; {JUMPS}",
        f"cmp %edx, %edi; ja 9f; mov %edi, %eax; {JUMPS}",
        f"cmp $3, %edi; ja 9f; mov %edi, %eax; {JUMPS}",  # beyond the end of constant memory
        f"cmp $2, %edi; ja 9f; mov %edi, %eax; {LOADS}; inc %rax; jmp *%rax",
        "cmp $2, %edi; ja 9f; mov %edi, %eax; jmp *table(,%rax,8)",
        "jmp *%rax",
        "jmp *(%rdi)",
    ],
)
def test_what_may_go_elsewhere_is_not_understood(code: str, tmp_path: Path) -> None:
    found, cases = ran(tmp_path, code)
    (why,) = found.gaps.values()
    assert "jmp" in why and "goes anywhere" in why
    assert not cases & set(found.done)


def test_a_table_that_may_be_written_is_not_understood(tmp_path: Path) -> None:
    code = f"cmp $2, %edi; ja 9f; mov %edi, %eax; {JUMPS}"
    found, _ = ran(tmp_path, code, section=".data")
    assert ["goes anywhere" in why for why in found.gaps.values()] == [True]
