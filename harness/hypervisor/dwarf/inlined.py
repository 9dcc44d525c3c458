# SPDX-License-Identifier: GPL-2.0-or-later
"""The functions that an address is in: the one whose code it is, and those inlined there."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from elftools.dwarf.compileunit import CompileUnit
from elftools.dwarf.die import DIE

from harness.hypervisor.dwarf.units import (
    Range,
    Units,
    covers,
    name,
    number,
    ranges,
    source_of,
    units,
)
from harness.hypervisor.per_thread import cached_per_thread

_FUNCTIONS = ("DW_TAG_subprogram", "DW_TAG_inlined_subroutine")
_SCOPES = ("DW_TAG_inlined_subroutine", "DW_TAG_lexical_block")


@dataclass(frozen=True)
class Level:
    """One function of the chain at an address."""

    function: str
    file: str  # name of the source file, without its directory; "": not known
    line: int  # where in it: of the innermost level the instruction's, of the others the call's
    inlined: bool
    unit: CompileUnit = field(repr=False, compare=False)
    # The function's DIE, and those of the blocks in it around the address, outermost first.
    scopes: tuple[DIE, ...] = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.function} ({self.file}:{self.line})" if self.file else self.function


def chain(elf: Path, address: int) -> tuple[Level, ...]:
    """Return the functions that ``address`` is in, innermost first; () where DWARF knows none.

    Of a caller, ``address`` is that of the call (the return address less one).
    """
    table = units(elf)
    outermost = table.function(address)
    if outermost is None:
        return ()
    unit = outermost.cu
    groups = [[outermost]]
    for die in _inwards(unit, outermost, address):
        if die.tag == "DW_TAG_inlined_subroutine":
            groups.append([die])
        else:
            groups[-1].append(die)
    file, line = _line(table, unit, address)
    found = []
    for scopes in reversed(groups):
        inlined = scopes[0].tag == "DW_TAG_inlined_subroutine"
        found.append(Level(name(scopes[0]), file, line, inlined, unit, tuple(scopes)))
        file = _file(table, unit, number(scopes[0], "DW_AT_call_file"))
        line = number(scopes[0], "DW_AT_call_line") or 0
    return tuple(found)


@dataclass(frozen=True)
class Copy:
    """A function's code, out of line or inlined."""

    function: str
    caller: str  # the function out of line that it is in, or itself
    ranges: tuple[Range, ...]


@functools.lru_cache(maxsize=8)
def copies(elf: Path, names: Collection[str], files: tuple[str, ...]) -> tuple[Copy, ...]:
    """Return every copy of the functions ``names`` in the source files that end in ``files``."""
    return tuple(
        copy
        for unit in units(elf).info.iter_CUs()
        if source_of(unit).endswith(files)
        for die in unit.get_top_DIE().iter_children()
        if die.tag == "DW_TAG_subprogram"
        for copy in _copies(unit, die, name(die), names)
    )


def _copies(unit: CompileUnit, die: DIE, caller: str, names: Collection[str]) -> Iterator[Copy]:
    if die.tag in _FUNCTIONS and (function := name(die)) in names:
        covered = ranges(unit, die)
        if covered:
            yield Copy(function, caller, covered)
    for child in die.iter_children():
        yield from _copies(unit, child, caller, names)


def _inwards(unit: CompileUnit, die: DIE, address: int) -> Iterator[DIE]:
    """Yield the blocks and inlined functions around ``address`` in ``die``, outermost first."""
    for child in die.iter_children():
        if child.tag not in _SCOPES:
            continue
        if covers(unit, child, address):
            yield child
            yield from _inwards(unit, child, address)
            return
        if child.tag == "DW_TAG_lexical_block" and not ranges(unit, child):
            inner = list(_inwards(unit, child, address))
            if inner:  # a block that was moved as a whole into what is inlined in it
                yield from (child, *inner)
                return


def _file(table: Units, unit: CompileUnit, index: int | None) -> str:
    program = table.info.line_program_for_CU(unit)
    if program is None or index is None:
        return ""
    files = program["file_entry"]
    place = index if program["version"] >= 5 else index - 1
    if not 0 <= place < len(files):
        return ""
    return PurePosixPath(files[place].name.decode(errors="replace")).name


def _line(table: Units, unit: CompileUnit, address: int) -> tuple[str, int]:
    starts, rows = _rows(table, unit.cu_offset)
    last = bisect.bisect_right(starts, address) - 1
    if last < 0 or rows[last] is None:
        return "", 0
    file, line = rows[last] or (0, 0)
    return _file(table, unit, file), line


@cached_per_thread(64)
def _rows(table: Units, offset: int) -> tuple[list[int], list[tuple[int, int] | None]]:
    """Return the addresses where lines begin, and (file, line); None: nothing is there."""
    program = table.info.line_program_for_CU(table.info.get_CU_at(offset))
    found: dict[int, tuple[int, int] | None] = {}
    for entry in program.get_entries() if program is not None else ():
        state = entry.state
        if state is None:
            continue
        if state.end_sequence:
            found.setdefault(state.address, None)
        else:
            found[state.address] = (state.file, state.line)
    ordered = sorted(found)
    return ordered, [found[address] for address in ordered]
