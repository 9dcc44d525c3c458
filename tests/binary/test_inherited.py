# SPDX-License-Identifier: GPL-2.0-or-later
"""Which barrier of its caller a copy of a lock function may count for its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.arch import Arch
from harness.binary.copies import Text
from harness.binary.events import Barrier
from harness.binary.inherited import barriers
from harness.binary.tables import table_of
from harness.hypervisor.dwarf.inlined import Copy
from harness.hypervisor.symbols import symbols
from tests.binary.assembled import assembled, function


def before_nop(folder: Path, arch: Arch, code: str) -> frozenset[Barrier]:
    """Return the barriers that come before the only ``nop`` of the function f, which begins a copy
    that ends before ``isb``, or else behind the ``nop``; in ``code`` "COLD" begins the part that
    the compiler has moved away."""
    hot, _, cold = code.partition("COLD")
    parts = {"f": hot, "f.cold": cold} if cold else {"f": hot}
    lines = [line for name, body in parts.items() for line in function(name, body)]
    elf = assembled(folder, arch, lines)
    text = Text(elf, arch)
    found = [
        instruction.address
        for name in parts
        for start in [symbols(elf)[name]]
        for instruction in text.between(start.address, start.address + start.size)
        if instruction.mnemonic in ("nop", "isb")
    ]
    entry, end = (*found, found[0] + 4)[:2]
    copy = Copy("evtchn_write_lock", "f", ((entry, end),))
    return barriers(text, copy, entry, table_of(arch))


@pytest.mark.parametrize(
    ("code", "has_one"),
    [
        ("str x1, [x0]; dmb ish; cbz x2, 1f; nop; ret; 1: ret", True),
        ("str x1, [x0]; dmb ish; cbz x2, 1f; nop; 1: ret", True),
        ("dmb ish; 1: nop; sub x2, x2, #1; cbnz x2, 1b; ret", True),
        ("dmb ish; cbz x2, 2f; mov x1, #1; b 3f; 2: mov x1, #2; 3: nop; ret", True),
        # The copy itself jumps to where it begins, to try once more.
        ("dmb ish; 1: nop; ldxr w2, [x0]; stxr w3, w1, [x0]; cbnz w3, 1b; isb; ret", True),
        ("dmb ish; 1: nop; ldxr w2, [x0]; stxr w3, w1, [x0]; isb; cbnz w3, 1b; ret", False),
        ("1: dmb ish; 2: nop; ldxr w2, [x0]; stxr w3, w1, [x0]; cbnz w3, 2b; isb; b 1b", True),
        ("dmb ish; 1: nop; ldxr w2, [x0]; stxr w3, w1, [x0]; cbnz w3, 1b; isb; b 1b", False),
        ("cbz x2, 2f; dmb ish; b 3f; 2: dmb ish; 3: nop; ret", True),
        ("dmb ish; str x1, [sp]; nop; ret", True),  # its own stack
        ("cbz x2, 2f; brk #1; 2: dmb ish; nop; ret", True),
        ("dmb ish; cbz x2, 2f; 1: nop; ret COLD 2: mov x1, #1; b 1b", True),
        ("dmb ish; cbz x2, 2f; ret COLD 2: mov x1, #1; nop; ret", True),
        ("nop; ret", False),
        ("nop; dmb ish; b f", False),  # where the function begins
        ("dmb ish; str x1, [x0]; nop; ret", False),
        ("dmb ish; ldxr x1, [x0]; cbnz x1, 1f; stxr w3, x2, [x0]; ret; 1: nop; ret", False),
        ("cbz x2, 2f; dmb ish; 2: nop; ret", False),
        ("dmb ish; 1: nop; ldr x3, [x0]; cbnz x3, 1b; ret", False),
        ("dmb ish; bl f; nop; ret", False),
        ("dmb ish; blr x1; nop; ret", False),
        ("dmb ish; svc #0; nop; ret", False),
        ("br x1; dmb ish; nop; ret", False),  # a table of jumps: anywhere
        ("cbz x2, 1f; dmb ish; b 2f; 1: brk #1; 2: nop; ret", False),  # WARN() goes on
        ("cbz x2, 2f; dmb ish; 1: nop; ret COLD 2: str x1, [x0]; b 1b", False),
        ("cbz x2, 2f; cbz x3, 3f; ret COLD 2: dmb ish; 3: nop; ret", False),
    ],
)
def test_a_barrier_of_the_caller_counts_if_it_comes_on_every_way(
    code: str, has_one: bool, tmp_path: Path
) -> None:
    assert bool(before_nop(tmp_path, Arch.ARM64, code)) == has_one


@pytest.mark.parametrize(
    ("code", "has_one"),
    [
        ("mov %rsi, (%rdi); mfence; test %rdx, %rdx; je 1f; nop; ret; 1: ret", True),
        ("mfence; mov %rsi, (%rdi); nop; ret", False),
        ("jmp *%rax; mfence; nop; ret", False),
        ("notrack jmp *%rax; mfence; nop; ret", False),
        ("jmp *(%rax); mfence; nop; ret", False),
    ],
)
def test_also_on_x86(code: str, has_one: bool, tmp_path: Path) -> None:
    assert bool(before_nop(tmp_path, Arch.X86_64, code)) == has_one
