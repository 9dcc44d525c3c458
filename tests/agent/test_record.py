# SPDX-License-Identifier: GPL-2.0-or-later
"""The layouts of guests/agent/record.h and of harness/history/format/record.py are one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from harness.agent.build import SOURCES, compiler
from harness.agent.pages import HEADER, MAGIC, PAGE, PAGE_BYTES, RECORDS_PER_PAGE
from harness.arch import Arch
from harness.history.format.record import RECORD, Op, Via


def assertions() -> str:
    """Python's layouts as C assertions."""
    lines = ["#include <stddef.h>", '#include "record.h"']
    for name, layout in (("record", RECORD), ("page_header", HEADER)):
        lines.append(f"_Static_assert(sizeof(struct {name}) == {layout.itemsize}, {name!r});")
        for field, (kind, offset, *_) in (layout.fields or {}).items():
            lines += [
                f"_Static_assert(offsetof(struct {name}, {field}) == {offset}, {field!r});",
                f"_Static_assert(sizeof(((struct {name} *)0)->{field}) == {kind.itemsize}, 'is');",
            ]
    lines += [f"_Static_assert(OP_{op.name} == {op.value}, {op.name!r});" for op in Op]
    lines += [f"_Static_assert(VIA_{via.name} == {via.value}, {via.name!r});" for via in Via]
    lines += [
        f"_Static_assert(PAGE_MAGIC == {MAGIC}ull, 'magic');",
        f"_Static_assert(PAGE_BYTES == {PAGE_BYTES}, 'page');",
        f"_Static_assert(RECORDS_PER_PAGE == {RECORDS_PER_PAGE}, 'page');",
        f"_Static_assert(sizeof(struct page) == {PAGE.itemsize}, 'page');",
    ]
    return "\n".join(lines).replace("'", '"') + "\n"


def compiles(arch: Arch, text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [compiler(arch), "-std=c11", "-fsyntax-only", f"-I{SOURCES}", "-xc", "-"],
        input=text,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("arch", Arch)
def test_c_and_python_have_the_same_record(arch: Arch) -> None:
    done = compiles(arch, assertions())
    assert done.returncode == 0, done.stderr


def test_a_difference_would_be_seen() -> None:
    done = compiles(Arch.X86_64, assertions().replace("OP_SEND == 6", "OP_SEND == 7"))
    assert done.returncode != 0 and "SEND" in done.stderr


def test_c_knows_no_operation_that_python_does_not() -> None:
    header = Path(SOURCES, "record.h").read_text()
    assert set(re.findall(r"\bOP_([A-Z_]+) =", header)) == {op.name for op in Op}
    assert set(re.findall(r"\bVIA_([A-Z_]+) =", header)) == {via.name for via in Via}
