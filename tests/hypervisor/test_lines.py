# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines and addresses, of what the compilers of both architectures make of small code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.agent.build import compiler
from harness.arch import Arch
from harness.hypervisor.dwarf.lines import Row, merged, rows

HEADER = """\
static inline int evtchn_usable(int state)
{
    asm volatile ( "nop" ); /* usable */
    return state > 1;
}
"""
SOURCE = """\
#include <xen/event.h>
int send(int state, int *sent)
{
    if ( !evtchn_usable(state) )
        return -22; /* refused */
    *sent += 1; /* sent */
    return 0;
}
"""
FILES = ("xen/common/event_channel.c", "xen/include/xen/event.h", "xen/common/event_2l.c")


@pytest.mark.parametrize("arch", list(Arch))
@pytest.mark.parametrize("dwarf", ["-gdwarf-4", "-gdwarf-5"])
@pytest.mark.parametrize("inside", [".", "common"], ids=["from the top", "in each folder"])
def test_rows_of_the_files_inlined_ones_too(
    arch: Arch, dwarf: str, inside: str, tmp_path: Path
) -> None:
    for name, text in {FILES[0]: SOURCE, FILES[1]: HEADER}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    place = tmp_path / "xen" / inside
    name, include = ("common/event_channel.c", "./include")
    if inside != ".":
        name, include = ("event_channel.c", "../include")
    elf = tmp_path / "xen-syms"
    words = ["-O2", dwarf, "-nostdlib", "-static", "-Wl,-e,send", f"-I{include}", "-o", str(elf)]
    subprocess.run([compiler(arch), *words, name], cwd=place, check=True)

    found = rows(elf, FILES)
    lines = {(row.file, row.line) for row in found}
    assert (FILES[0], SOURCE[: SOURCE.index("/* sent */")].count("\n") + 1) in lines
    assert (FILES[1], HEADER[: HEADER.index("/* usable */")].count("\n") + 1) in lines
    assert {row.file for row in found} == set(FILES[:2])
    assert all(begin < end for begin, end in (row.addresses for row in found))


def test_ranges_ascend_and_do_not_touch() -> None:
    found = [Row("f", 1, (8, 12)), Row("f", 2, (4, 8)), Row("f", 3, (20, 21)), Row("g", 9, (5, 6))]
    assert merged(found) == [(4, 12), (20, 21)]
    assert merged([]) == []
