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
