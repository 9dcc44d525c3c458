# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the members of Xen's structures lie."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from elftools.dwarf.die import DIE

from harness.hypervisor.dwarf.units import name, number, type_of, units
from harness.hypervisor.dwarf.values import size_of, type_name
from harness.verdict import HarnessError

_RECORDS = ("DW_TAG_structure_type", "DW_TAG_union_type")
_QUALIFIERS = (
    "DW_TAG_typedef",
    "DW_TAG_const_type",
    "DW_TAG_volatile_type",
)


@dataclass(frozen=True)
class Member:
    """A member of a structure; those of structures in it are told as "tickets.head"."""

    name: str
    offset: int  # bytes from the start of the outermost structure
    size: int  # bytes; of an array: all of it
    type: str
    bits: tuple[int, int] | None = None  # of a bit-field: lowest bit, and how many
    element: int = 0  # of an array: bytes of one element
    element_type: str = ""  # of an array


@dataclass(frozen=True)
class Record:
    """A structure's size in bytes, and its members, nested ones after the one they are in."""

    size: int
    members: tuple[Member, ...]

    def __getitem__(self, wanted: str) -> Member:
        """Return the member ``wanted``; KeyError if there is none."""
        for member in self.members:
            if member.name == wanted:
                return member
        raise KeyError(wanted)

    def get(self, wanted: str) -> Member | None:
        """Return the member ``wanted``; None if there is none."""
        return next((member for member in self.members if member.name == wanted), None)


@functools.lru_cache(maxsize=64)
def record(elf: Path, wanted: str, unit_name: str) -> Record:
    """Return the structure ``wanted`` (its tag or its typedef) as the source file ``unit_name``
    sees it; HarnessError if it is not known there."""
    for unit in units(elf).named(unit_name):
        for die in unit.get_top_DIE().iter_children():
            if die.tag not in (*_RECORDS, "DW_TAG_typedef") or name(die) != wanted:
                continue
            base = _base(die)
            if base is not None and base.tag in _RECORDS and number(base, "DW_AT_byte_size"):
                return Record(size_of(base), tuple(_members(base, "", 0)))
    raise HarnessError(f"has no struct {wanted} in {unit_name}", where=str(elf))


def _members(record_: DIE, before: str, at: int) -> Iterator[Member]:
    for die in record_.iter_children():
        if die.tag != "DW_TAG_member":
            continue
        offset, bits = _place(die)
        base = _base(type_of(die))
        inner = base is not None and base.tag in _RECORDS
        called = before + name(die)
        if name(die):
            element = _element(base) if base is not None else 0
            size = _bytes(type_of(die))
            inside = type_name(type_of(base)) if element and base is not None else ""
            yield Member(called, at + offset, size, type_name(type_of(die)), bits, element, inside)
        if inner and base is not None:
            yield from _members(base, f"{called}." if name(die) else before, at + offset)


def _place(die: DIE) -> tuple[int, tuple[int, int] | None]:
    offset = number(die, "DW_AT_data_member_location") or 0
    size = number(die, "DW_AT_bit_size")
    if size is None:
        return offset, None
    bit = number(die, "DW_AT_data_bit_offset")
    if bit is None:  # DWARF 3: counted from the most significant bit of the storage unit
        unit = number(die, "DW_AT_byte_size") or size_of(type_of(die))
        bit = unit * 8 - (number(die, "DW_AT_bit_offset") or 0) - size
    return offset + bit // 8, (bit % 8, size)


def _base(die: DIE | None) -> DIE | None:
    while die is not None and die.tag in _QUALIFIERS:
        die = type_of(die)
    return die


def _element(die: DIE) -> int:
    return _bytes(type_of(die)) if die.tag == "DW_TAG_array_type" else 0


def _bytes(die: DIE | None) -> int:
    base = _base(die)
    if base is None or base.tag != "DW_TAG_array_type":
        return size_of(die)
    count = 1
    for child in base.iter_children():
        if child.tag == "DW_TAG_subrange_type":
            bound = number(child, "DW_AT_upper_bound")
            count *= bound + 1 if bound is not None else number(child, "DW_AT_count") or 0
    return count * _bytes(type_of(base))
