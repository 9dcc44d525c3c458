# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the jump of a switch goes, and jumps that only look like one."""

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


A64_LOADS = "adrp x1, table; add x1, x1, :lo12:table; ldrh w1, [x1, w0, uxtw #1]"
A64_JUMPS = f"{A64_LOADS}; adr x2, case1; add x1, x2, w1, sxth #2; br x1"


def ran(
    folder: Path, code: str, section: str = ".rodata", arch: Arch = Arch.X86_64
) -> tuple[Flow, set[int]]:
    """Return what the function ``code`` does, and the addresses of its three cases; 9 is the way of
    all other numbers."""
    x86 = arch is Arch.X86_64
    result = "mov ${}, %eax" if x86 else "mov w0, #{}"
    cases = [line for n in "123" for line in (f"case{n}:", f"nop; {result.format(n)}; ret")]
    table = ["table:"]
    table += [f".long case{n} - table" if x86 else f".hword (case{n} - case1) / 4" for n in "123"]
    other = ["other:", *(f".long case{n} - table" for n in "231")] if x86 else []
    data = [f".section {section}", ".balign 4", *other, *table]
    elf = assembled(folder, arch, [*function("f", code, *cases, "9: ret"), *data])
    known, text = symbols(elf), Text(elf, arch)
    start = known["f"]
    whole = Copy("f", "f", ((start.address, start.address + start.size),))
    found = flow(text, whole, table_of(arch))
    return found, {known[f"case{case}"].address for case in "123"}


@pytest.mark.parametrize(
    "code",
    [
        f"cmp $2, %edi; ja 9f; mov %edi, %eax; {JUMPS}",
        f"cmp $2, %edi; ja 9f; mov %edi, %eax; {LOADS}; mov %rsi, %r12; jmp *%rax",
        f"mov %edi, %eax; cmp $2, %edi; ja 9f; mov %rsi, %rdi; {JUMPS}",
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
        # not checked on one of the ways to the jump
        f"test %esi, %esi; je 1f; cmp $2, %edi; ja 9f; 1: mov %edi, %eax; {JUMPS}",
        f"cmp $2, %edi; jbe 1f; mov %esi, %edi; 1: mov %edi, %eax; {JUMPS}",
        # the copy that is checked was made on the way that does not come here
        f"mov %esi, %eax; cmp $2, %edi; jbe 1f; mov %edi, %eax; ret; 1: {JUMPS}",
        # what a call returns is another number
        f"mov %edi, %eax; cmp $2, %eax; ja 9f; call f; mov %eax, %eax; {JUMPS}",
        f"mov %edi, %eax; mov %esi, %edi; cmp $2, %edi; ja 9f; {JUMPS}",
        # only a part of the number is checked
        f"cmp $2, %dil; ja 9f; mov %edi, %eax; {JUMPS}",
        f"mov %edi, %eax; cmp $2, %ah; ja 9f; {JUMPS}",
        f"mov %rdi, %rax; cmp $2, %eax; ja 9f; {JUMPS}",
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


@pytest.mark.parametrize(
    "code",
    [
        f"cmp w0, #2; b.hi 9f; {A64_JUMPS}",
        f"cmp w3, #2; b.hi 9f; mov w0, w3; {A64_JUMPS}",
        f"cmp w0, #2; b.ls 1f; ret; 1: {A64_JUMPS}",
        f"mov w5, w0; cmp w0, #2; b.hi 9f; {A64_JUMPS}".replace("w0, uxtw", "w5, uxtw"),
    ],
)
def test_each_case_is_a_way_on_arm64(code: str, tmp_path: Path) -> None:
    found, cases = ran(tmp_path, code, arch=Arch.ARM64)
    assert found.gaps == {}
    assert cases in [set(done.then) for done in found.done.values()]


@pytest.mark.parametrize(
    "code",
    [
        A64_JUMPS,
        f"cmp w3, #2; b.hi 9f; {A64_JUMPS}",
        f"cmp w0, #2; cmp w3, w4; b.hi 9f; {A64_JUMPS}",
        f"cmp w0, #2; b.hi 9f; add w0, w0, #1; {A64_JUMPS}",
        f"cmp w0, #2; b.hi 9f; bl f; {A64_JUMPS}",
        f"cbz w4, 1f; cmp w0, #2; b.hi 9f; 1: {A64_JUMPS}",
        f"cmp w0, #2; b.hi 9f; {A64_JUMPS}".replace("w0, uxtw", "x0, lsl"),
    ],
)
def test_what_may_go_elsewhere_is_not_understood_on_arm64(code: str, tmp_path: Path) -> None:
    found, cases = ran(tmp_path, code, arch=Arch.ARM64)
    (why,) = found.gaps.values()
    assert "br" in why and "goes anywhere" in why
    assert not cases & set(found.done)


def test_a_jump_is_looked_at_again_when_a_later_way_brings_another_table(tmp_path: Path) -> None:
    """The register that held the table's address holds something else when the CPU jumps."""
    jumps = "mov %edi, %eax; movslq (%rcx,%rax,4), %rax; add %rdx, %rax; mov %rsi, %rcx; jmp *%rax"
    code = (
        "lea table(%rip), %rcx; lea table(%rip), %rdx; test %esi, %esi; jne 2f; "
        f"1: cmp $2, %edi; ja 9f; {jumps}; 2: lea other(%rip), %rcx; jmp 1b"
    )
    found, _ = ran(tmp_path, code)
    assert ["goes anywhere" in why for why in found.gaps.values()] == [True]
