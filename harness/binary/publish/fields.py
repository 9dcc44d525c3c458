# SPDX-License-Identifier: GPL-2.0-or-later
"""Which memory of Xen's structures an access is of, by what DWARF says of types.

A pointer has the type of the argument that it was, of the member that it was loaded from, or of
what the function returns that it came from.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.arch import Arch
from harness.binary.publish.traced import Access, Origins, Source
from harness.binary.values import MASK, PER_CPU
from harness.hypervisor.dwarf.frames import NUMBERS
from harness.hypervisor.dwarf.types import Record, record
from harness.hypervisor.dwarf.units import name, type_of, units
from harness.hypervisor.dwarf.values import register_of, type_name
from harness.verdict import HarnessError

_CURRENT = "vcpu *"  # the only pointer in a CPU's own memory that these functions use: ``current``
_NOT_KNOWN = ""


@dataclass(frozen=True)
class Memory:
    """A member of a structure, or a member of each element of an array in it."""

    pointer: str  # the type of what points to the structure: "domain *"
    offset: int  # bytes, of the member or of the first element's
    width: int  # bytes that an access has
    stride: int = 0  # bytes from element to element; 0: it is no array
    count: int = 1  # elements; 0: nobody knows how many

    def covers(self, offset: int) -> bool:
        """Say whether the member, or that of an element, is at ``offset``."""
        if not self.stride:
            return offset == self.offset
        number, rest = divmod(offset - self.offset, self.stride)
        return rest == 0 and number >= 0 and (not self.count or number < self.count)


def structure(elf: Path, tag: str, unit: str) -> Record | None:
    """Return the structure ``tag`` as the source file ``unit`` sees it; None if it has none."""
    try:
        return record(elf, tag, unit)
    except HarnessError:
        return None


class Fields:
    """The memory that the accesses of one function are of."""

    def __init__(
        self,
        elf: Path,
        arch: Arch,
        unit: str,
        entry: int,
        origins: Origins,
        arrays: Sequence[Memory] = (),
    ) -> None:
        """``entry``: of the function.  ``arrays``: where an element that is loaded is taken from
        if it is known only from which structure."""
        self.elf, self.unit, self.origins = elf, unit, origins
        self.arrays = arrays
        self.arguments = _arguments(elf, arch, entry)
        self.types: dict[str, str] = {}

    def is_of(self, access: Access, memory: Memory) -> bool:
        """Say whether ``access`` is of ``memory``.

        Where the type of the structure's address is not known, the offset must do; of the
        structure's beginning, and of an array, it does not.
        """
        if access.size != memory.width:
            return False
        if access.place is None:
            return bool(memory.stride) and memory.pointer in map(self.type_of, access.around)
        known = self.type_of(access.place.base)
        if known != memory.pointer and (known or not memory.offset or memory.stride):
            return False
        return memory.covers(access.place.offset & MASK)

    def learn(self, accesses: Iterable[Access], memory: Memory) -> None:
        """Give the pointers through which ``accesses`` are of ``memory`` its structure's type."""
        found = [one.place.base for one in accesses if one.place and self.is_of(one, memory)]
        self.types = dict.fromkeys(found, memory.pointer)

    def type_of(self, pointer: str) -> str:
        """Return the type of what is called ``pointer``: "domain *"; "": it is not known."""
        if pointer not in self.types:
            self.types[pointer] = _NOT_KNOWN  # a pointer that is made from itself, in a loop
            found = self._type(self.origins.sources.get(pointer, Source()))
            self.types[pointer] = _NOT_KNOWN if found == "void *" else found
        return self.types[pointer]

    def _type(self, source: Source) -> str:
        if source.joined:
            found = {self.type_of(one) for one in source.joined} - {_NOT_KNOWN}
            return found.pop() if len(found) == 1 else _NOT_KNOWN
        if source.register:
            return self.arguments.get(source.register, _NOT_KNOWN)
        if source.returned_by:
            return _returned(self.elf, self.unit).get(source.returned_by, _NOT_KNOWN)
        return self._loaded(source.loaded) if source.loaded is not None else _NOT_KNOWN

    def _loaded(self, access: Access) -> str:
        if access.place is not None and access.place.base == PER_CPU:
            return _CURRENT
        bases = access.around if access.place is None else {access.place.base}
        offset = None if access.place is None else access.place.offset & MASK
        types = {self._at(_pointee(self.type_of(base)), offset) for base in bases} - {_NOT_KNOWN}
        return types.pop() if len(types) == 1 else _NOT_KNOWN

    def _at(self, tag: str, offset: int | None) -> str:
        """Return the type of the pointer at ``offset`` (None: not known) in a ``tag``."""
        if tag.endswith(" *"):  # what is pointed to are pointers
            return tag
        found = structure(self.elf, tag, self.unit) if tag else None
        if found is None:
            return _NOT_KNOWN
        for member in found.members:
            if member.element == 8 and member.element_type.endswith(" *"):
                first = Memory(f"{tag} *", member.offset, 8, 8, member.size // 8)
                if first in self.arrays if offset is None else first.covers(offset):
                    return member.element_type
            elif member.offset == offset and member.size == 8:
                return member.type
        return _NOT_KNOWN


def _pointee(type_: str) -> str:
    return type_.removesuffix(" *") if type_.endswith(" *") else ""


def _arguments(elf: Path, arch: Arch, entry: int) -> Mapping[str, str]:
    """Return the types of what registers hold when the function at ``entry`` is entered."""
    table = units(elf)
    unit, function = table.unit(entry), table.function(entry)
    if unit is None or function is None:
        return {}
    found = {}
    for die in function.iter_children():
        if die.tag == "DW_TAG_formal_parameter":
            number = register_of(elf, unit, die, entry)
            if number is not None and number < len(NUMBERS[arch].names):
                found[_register(NUMBERS[arch].names[number])] = type_name(type_of(die))
    return found


def _register(name_: str) -> str:
    """Return what the tables of instructions call a register: "x0", "rdi"."""
    lower = name_.lower()
    return f"x{int(lower[1:])}" if lower[0] == "x" else lower


@functools.lru_cache(maxsize=16)
def _returned(elf: Path, unit: str) -> Mapping[str, str]:
    """Return the types of what the functions return that ``unit`` knows."""
    return {
        name(die): type_name(type_of(die))
        for one in units(elf).named(unit)
        for die in one.get_top_DIE().iter_children()
        if die.tag == "DW_TAG_subprogram" and type_of(die) is not None
    }
