# SPDX-License-Identifier: GPL-2.0-or-later
"""An unlock that asserts first that this CPU holds the lock, as debug builds of rwlock.h do."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.arch import Arch
from harness.binary.copies import Text
from harness.binary.findings import Refinement
from harness.binary.modelled import modelled_lock
from harness.binary.refine import refine
from harness.binary.tables import table_of
from harness.hypervisor.dwarf.inlined import Copy
from harness.hypervisor.rwlock_word import LAYOUTS
from harness.hypervisor.symbols import symbols
from tests.binary.assembled import assembled, function

ASSERTS = (
    "ldr w8, [x0]; mvn w9, w8; tst w9, #0xc000; b.ne 9f; mrs x10, tpidr_el2; ldr w9, [x10, #8]; "
    "and w8, w8, #0x3fff; cmp w8, w9; b.ne 9f"
)
LEAVES = "1: ldxr w10, [x0]; and w10, w10, {}; stxr w11, w10, [x0]; cbnz w11, 1b; ret; 9: brk #1"


def refined(folder: Path, code: str) -> Refinement:
    lines = [*function("f", "ret"), *function("_write_unlock", code)]
    text = Text(assembled(folder, Arch.ARM64, lines), Arch.ARM64)
    symbol = symbols(text.elf)["_write_unlock"]
    copy = Copy("_write_unlock", "_write_unlock", ((symbol.address, symbol.address + symbol.size),))
    modelled = modelled_lock("rwlock", Arch.ARM64, LAYOUTS[1])
    return refine(text, copy, modelled, 0, table_of(Arch.ARM64))


@pytest.mark.parametrize("asserts", [ASSERTS, ""])
@pytest.mark.parametrize(
    ("barrier", "mask", "verdict"),
    [
        ("dmb ish", "#0xffff0000", "as modelled"),
        ("nop", "#0xffff0000", "refuted"),
        ("dmb ish", "#0xffffc000", "refuted"),  # the writer's flags stay
    ],
)
def test_what_is_behind_the_assertion_is_judged(
    asserts: str, barrier: str, mask: str, verdict: str, tmp_path: Path
) -> None:
    found = refined(tmp_path, f"{asserts}; {barrier}; {LEAVES.format(mask)}")
    assert found.verdict == verdict


def test_a_function_that_only_traps_is_not_covered(tmp_path: Path) -> None:
    found = refined(tmp_path, "ldr w8, [x0]; brk #1")
    assert [(one.why, found.verdict) for one in found.not_covered] == [
        ("no way through it comes to its end", "not covered")
    ]
