# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the fields of Xen's structures lie in a built hypervisor, from its DWARF."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from elftools.dwarf.compileunit import CompileUnit
from elftools.dwarf.die import DIE
from elftools.elf.elffile import ELFFile

from harness.verdict import HarnessError

# Reads ``size`` bytes at virtual ``address`` as CPU ``cpu`` sees them: (cpu, address, size).
Memory = Callable[[int, int, int], bytes]

_UNIT = "event_channel.c"
_STRUCTURES = ("DW_TAG_structure_type", "DW_TAG_typedef")


def offsets(elf: Path) -> dict[str, tuple[int, int]]:
    """Return offset and size in bytes of the fields of ``struct evtchn`` in ``elf``.

    Sizes are those of base types, 0 for anything else.  HarnessError without DWARF.
    """
    return fields(elf, "evtchn")


@functools.lru_cache(maxsize=32)
def fields(elf: Path, name: str, unit_name: str = _UNIT) -> dict[str, tuple[int, int]]:
    """Return the same of structure ``name`` (or of the structure it is a typedef of), as the
    source file ``unit_name`` sees it."""
    with elf.open("rb") as source:
        file = ELFFile(source)
        if not file.has_dwarf_info():
            raise HarnessError("has no DWARF", where=str(elf))
        for unit in file.get_dwarf_info().iter_CUs():
            if _text(unit.get_top_DIE(), "DW_AT_name").endswith(unit_name):
                return _fields(unit, name)
    raise HarnessError(f"has no unit {unit_name}", where=str(elf))


def _fields(unit: CompileUnit, name: str) -> dict[str, tuple[int, int]]:
    for die in unit.get_top_DIE().iter_children():
        if die.tag in _STRUCTURES and _text(die, "DW_AT_name") == name:
            if die.tag == "DW_TAG_typedef":
                die = die.get_DIE_from_attribute("DW_AT_type")
            members = {
                _text(member, "DW_AT_name"): (
                    member.attributes["DW_AT_data_member_location"].value,
                    _size(member),
                )
                for member in die.iter_children()
                if "DW_AT_data_member_location" in member.attributes
            }
            if members:
                return members
    raise HarnessError(f"has no struct {name}")


def _size(member: DIE) -> int:
    die = member
    while "DW_AT_type" in die.attributes and die.tag != "DW_TAG_base_type":
        die = die.get_DIE_from_attribute("DW_AT_type")
    size = die.attributes.get("DW_AT_byte_size")
    return int(size.value) if size is not None and die.tag == "DW_TAG_base_type" else 0


def _text(die: DIE, attribute: str) -> str:
    value = die.attributes.get(attribute)
    return value.value.decode(errors="replace") if value is not None else ""
