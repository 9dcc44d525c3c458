# SPDX-License-Identifier: GPL-2.0-or-later
"""The compilation units and DIEs of one ELF file, found by address."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from elftools.dwarf.compileunit import CompileUnit
from elftools.dwarf.die import DIE
from elftools.dwarf.ranges import RangeEntry
from elftools.elf.elffile import ELFFile

from harness.hypervisor.per_thread import cached_per_thread
from harness.verdict import HarnessError

Range = tuple[int, int]  # the first address, and the first after it

_ORIGINS = ("DW_AT_abstract_origin", "DW_AT_specification")


class Units:
    """The units of ``elf``: opened once, and parsed as far as it is asked.

    HarnessError without DWARF.
    """

    def __init__(self, elf: Path) -> None:
        self.elf = elf
        with elf.open("rb") as source:
            file = ELFFile(source)
            if not file.has_dwarf_info():
                raise HarnessError("has no DWARF", where=str(elf))
            self.info: Any = file.get_dwarf_info()  # keeps the sections in memory
            self.machine = str(file["e_machine"])
        self._functions: dict[int, list[tuple[int, int, DIE]]] = {}

    def unit(self, address: int) -> CompileUnit | None:
        """Return the unit whose code is at ``address``."""
        found = _at(self._aranges, address)
        if found is None:
            found = _at(self._tops, address)
        return None if found is None else self.info.get_CU_at(found)

    def named(self, ending: str) -> Iterator[CompileUnit]:
        """Yield the units of the source files whose name ends in ``ending``."""
        for unit in self.info.iter_CUs():
            if source_of(unit).endswith(ending):
                yield unit

    def function(self, address: int) -> DIE | None:
        """Return the function (out of line) at ``address``."""
        unit = self.unit(address)
        if unit is None:
            return None
        for low, high, die in self._functions_of(unit):
            if low <= address < high:
                return die
        return None

    def _functions_of(self, unit: CompileUnit) -> list[tuple[int, int, DIE]]:
        if unit.cu_offset not in self._functions:
            self._functions[unit.cu_offset] = [
                (low, high, die)
                for die in unit.get_top_DIE().iter_children()
                if die.tag == "DW_TAG_subprogram"
                for low, high in ranges(unit, die)
            ]
        return self._functions[unit.cu_offset]

    @functools.cached_property
    def _aranges(self) -> _Index:
        table = self.info.get_aranges()
        entries = table.entries if table is not None else ()
        return _index((e.begin_addr, e.begin_addr + e.length, e.info_offset) for e in entries)

    @functools.cached_property
    def _tops(self) -> _Index:
        """The same from the units that are not in there: clang writes no .debug_aranges, but what
        is written in assembly has them.  Takes seconds."""
        listed = {unit for _, unit in self._aranges.spans}
        return _index(
            (low, high, unit.cu_offset)
            for unit in self.info.iter_CUs()
            if unit.cu_offset not in listed
            for low, high in ranges(unit, unit.get_top_DIE())
        )


def units(elf: Path) -> Units:
    """Return the units of ``elf`` (one per file and thread)."""
    return _units(elf, elf.stat().st_mtime_ns)


@cached_per_thread(4)
def _units(elf: Path, _mtime: int) -> Units:
    return Units(elf)


@dataclass(frozen=True)
class _Index:
    starts: list[int]
    spans: list[tuple[int, int]]  # by the start: the end, and where the unit is


def _index(spans: Iterable[tuple[int, int, int]]) -> _Index:
    ordered = sorted(span for span in spans if span[0] < span[1])
    return _Index([low for low, _, _ in ordered], [(high, unit) for _, high, unit in ordered])


def _at(index: _Index, address: int) -> int | None:
    last = bisect.bisect_right(index.starts, address) - 1
    return index.spans[last][1] if last >= 0 and address < index.spans[last][0] else None


def name(die: DIE) -> str:
    """Return the name of ``die``, which the abstract instance of an inlined function has."""
    for origin in _ORIGINS:
        while "DW_AT_name" not in die.attributes and origin in die.attributes:
            die = die.get_DIE_from_attribute(origin)
    value = die.attributes.get("DW_AT_name")
    return value.value.decode(errors="replace") if value is not None else ""


def source_of(unit: CompileUnit) -> str:
    """Return the source file of ``unit``, with the folder in which it was compiled.

    Until 4.16 make went into every folder: "event_channel.c", compiled in "./xen/common".
    """
    folder = unit.get_top_DIE().attributes.get("DW_AT_comp_dir")
    place = folder.value.decode(errors="replace") if folder is not None else ""
    return str(PurePosixPath(place, name(unit.get_top_DIE())))


def number(die: DIE, attribute: str) -> int | None:
    """Return the constant ``attribute`` of ``die``; None if it has none."""
    value = die.attributes.get(attribute)
    return int(value.value) if value is not None and isinstance(value.value, int) else None


def type_of(die: DIE) -> DIE | None:
    """Return the type of a variable, member, pointer or typedef."""
    while "DW_AT_type" not in die.attributes:
        origin = next((origin for origin in _ORIGINS if origin in die.attributes), None)
        if origin is None:
            return None
        die = die.get_DIE_from_attribute(origin)
    return die.get_DIE_from_attribute("DW_AT_type")


def ranges(unit: CompileUnit, die: DIE) -> tuple[Range, ...]:
    """Return the addresses that ``die`` covers, lowest first."""
    attributes = die.attributes
    if "DW_AT_ranges" in attributes:
        lists = unit.dwarfinfo.range_lists()
        start = number(unit.get_top_DIE(), "DW_AT_low_pc") or 0
        found = []
        for entry in lists.get_range_list_at_offset(attributes["DW_AT_ranges"].value, unit):
            if isinstance(entry, RangeEntry):
                shift = 0 if entry.is_absolute else start
                found.append((entry.begin_offset + shift, entry.end_offset + shift))
            else:
                start = entry.base_address
        return tuple(sorted(found))
    if "DW_AT_low_pc" not in attributes or "DW_AT_high_pc" not in attributes:
        return ()
    low, high = attributes["DW_AT_low_pc"].value, attributes["DW_AT_high_pc"]
    return ((low, high.value if high.form == "DW_FORM_addr" else low + high.value),)


def covers(unit: CompileUnit, die: DIE, address: int) -> bool:
    """Say whether ``address`` is in the code of ``die``."""
    return any(low <= address < high for low, high in ranges(unit, die))
