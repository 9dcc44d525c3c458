# SPDX-License-Identifier: GPL-2.0-or-later
"""Which addresses of an ELF file were made of which lines of some source files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from elftools.dwarf.compileunit import CompileUnit

from harness.hypervisor.dwarf.units import Range, units

_DWARF5 = 5


@dataclass(frozen=True)
class Row:
    """Addresses that begin a statement of one line."""

    file: str  # as it was asked for
    line: int
    addresses: Range


def rows(elf: Path, files: Collection[str]) -> list[Row]:
    """Return the rows of ``files`` (relative to Xen's tree), inlined copies included.

    ``elf`` has DWARF; else HarnessError.  A row without addresses of its own (several statements of
    one instruction) has the address of that instruction.
    """
    found = set[Row]()
    info = units(elf).info
    for unit in info.iter_CUs():
        program = info.line_program_for_CU(unit)
        if program is not None:
            found |= set(_rows(program, _names(unit, program, files)))
    return sorted(found, key=lambda row: (row.addresses, row.file, row.line))


def _names(unit: CompileUnit, program: Any, files: Collection[str]) -> dict[int, str]:
    """Return which of ``files`` the numbers of files in ``program`` mean."""
    first = 0 if program["version"] >= _DWARF5 else 1
    folders = [each.decode(errors="replace") for each in _folders(program)]
    if first:
        folders = ["", *folders]  # 0 is the folder in which the unit was compiled
    place = unit.get_top_DIE().attributes.get("DW_AT_comp_dir")
    compiled = PurePosixPath(place.value.decode(errors="replace") if place is not None else "")
    found = {}
    for number, entry in enumerate(program["file_entry"], first):
        name = entry.name.decode(errors="replace")
        folder = folders[entry.dir_index] if entry.dir_index < len(folders) else ""
        path = str(_normal(compiled / folder / name))
        for file in files:
            if path == file or path.endswith(f"/{file}"):
                found[number] = file
    return found


def _folders(program: Any) -> list[bytes]:
    return [bytes(each) for each in program["include_directory"]]


def _normal(path: PurePosixPath) -> PurePosixPath:
    """Return ``path`` without "." and ".."."""
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts:
            parts.pop()
        else:
            parts.append(part)
    return PurePosixPath(*parts)


def _rows(program: Any, names: Mapping[int, str]) -> Iterator[Row]:
    if not names:
        return
    before = None
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        if before is not None and before.is_stmt and before.line and before.file in names:
            end = max(state.address, before.address + 1)
            yield Row(names[before.file], before.line, (before.address, end))
        before = None if state.end_sequence else state


def merged(found: Collection[Row]) -> list[Range]:
    """Return the addresses of all rows as ranges that ascend and do not touch."""
    ranges: list[Range] = []
    for begin, end in sorted(row.addresses for row in found):
        if ranges and begin <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
        else:
            ranges.append((begin, end))
    return ranges
