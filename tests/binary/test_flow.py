# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of an address that a function has put on its stack, and taken from there."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.arch import Arch
from harness.binary.copies import Text
from harness.binary.publish.flow import flow
from harness.binary.publish.traced import Access
from harness.binary.tables import table_of
from harness.hypervisor.dwarf.inlined import Copy
from harness.hypervisor.symbols import symbols
from tests.binary.assembled import assembled, function


def accesses(folder: Path, arch: Arch, code: str) -> list[Access]:
    elf = assembled(folder, arch, function("f", code))
    known = symbols(elf)["f"]
    whole = Copy("f", "f", ((known.address, known.address + known.size),))
    found = flow(Text(elf, arch), whole, table_of(arch))
    assert found.gaps == {}
    return list(found.accesses())


@pytest.mark.parametrize(
    ("arch", "code"),
    [
        (
            Arch.X86_64,
            "mov 0x38(%rdi), %rax; lea 8(%rax,%rsi,8), %rcx; mov %rcx, -8(%rsp); xor %ecx, %ecx; "
            "mov -8(%rsp), %rdx; mov (%rdx), %rdx; ret",
        ),
        (
            Arch.ARM64,
            "ldr x3, [x0, #0x38]; add x4, x3, x1, lsl #3; str x4, [sp, #8]; mov x4, #0; "
            "ldr x5, [sp, #8]; ldr x5, [x5, #8]; ret",
        ),
    ],
)
def test_that_of_an_element_is_still_of_its_array(arch: Arch, code: str, tmp_path: Path) -> None:
    """The number of the element is not known; as clang 14 has the queue's head in 4.17."""
    structure, element = accesses(tmp_path, arch, code)
    assert structure.place is not None and element.place is None
    assert f"[{structure.place}]" in element.around


def test_what_was_overwritten_there_is_forgotten(tmp_path: Path) -> None:
    code = (
        "mov 0x38(%rdi), %rax; lea 8(%rax,%rsi,8), %rcx; mov %rcx, -8(%rsp); movl $0, -4(%rsp); "
        "mov -8(%rsp), %rdx; mov (%rdx), %rdx; ret"
    )
    _, other = accesses(tmp_path, Arch.X86_64, code)
    assert other.around == frozenset()


@pytest.mark.parametrize(
    ("arch", "code"),
    [
        (
            Arch.X86_64,
            "mov 8(%rdi), %rax; mov 8(%rdi), %rcx; cmp %rcx, %rax; sete %dl; test %dl, %dl; "
            "je 2f; ret; 2: mov 0x48(%r8), %r9; ret",
        ),
        (
            Arch.ARM64,
            "ldr x3, [x0, #8]; ldr x4, [x0, #8]; cmp x4, x3; cset w5, eq; cbz w5, 2f; ret; "
            "2: ldr x9, [x8, #0x48]; ret",
        ),
        (
            Arch.ARM64,
            "ldr x3, [x0, #8]; ldr x4, [x0, #8]; cmp x4, x3; mov x6, #0; csel x5, x6, x8, eq; "
            "cbnz x5, 2f; ret; 2: ldr x9, [x8, #0x48]; ret",
        ),
    ],
)
def test_what_is_read_twice_need_not_be_the_same(arch: Arch, code: str, tmp_path: Path) -> None:
    """Another CPU may have written it: what runs only then is looked at, too."""
    found = accesses(tmp_path, arch, code)
    assert 0x48 in {one.place.offset for one in found if one.place is not None}


@pytest.mark.parametrize(
    ("arch", "code"),
    [
        (
            Arch.X86_64,
            "mov 0x38(%rdi), %rax; mov 0x40(%rdi), %rcx; test %rsi, %rsi; cmove %rcx, %rax; "
            "mov (%rax,%rdx,8), %rax; ret",
        ),
        (
            Arch.ARM64,
            "ldr x3, [x0, #0x38]; ldr x4, [x0, #0x40]; cmp x1, #0; csel x3, x4, x3, eq; "
            "ldr x3, [x3, x2, lsl #3]; ret",
        ),
    ],
)
def test_an_element_of_one_array_or_the_other_is_of_both(
    arch: Arch, code: str, tmp_path: Path
) -> None:
    """The condition does not make it one of what was compared."""
    first, second, element = accesses(tmp_path, arch, code)
    assert element.place is None
    assert {f"[{first.place}]", f"[{second.place}]"} <= element.around
    assert not {"rsi", "x1"} & element.around


def test_a_number_on_the_stack_may_be_changed_by_who_is_called(tmp_path: Path) -> None:
    """It was one bit of a pointer; the function that is called gets its address."""
    code = (
        "sub $24, %rsp; mov (%rdi), %rax; and $1, %eax; mov %rax, 8(%rsp); lea 8(%rsp), %rdi; "
        "call f; mov 8(%rsp), %rax; test $2, %al; jne 2f; ret; 2: mov 0x48(%rbx), %r9; ret"
    )
    found = accesses(tmp_path, Arch.X86_64, code)
    assert 0x48 in {one.place.offset for one in found if one.place is not None}
