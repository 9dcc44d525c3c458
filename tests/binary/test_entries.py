# SPDX-License-Identifier: GPL-2.0-or-later
"""A copy that its caller enters in two places, each with instructions of its own."""

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
