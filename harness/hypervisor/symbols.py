# SPDX-License-Identifier: GPL-2.0-or-later
"""Symbols and build id of a built hypervisor."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection, SymbolTableSection

from harness.verdict import ConfigError


@dataclass(frozen=True)
class Symbol:
    """A function or object: ``address`` as the running hypervisor sees it, ``size`` in bytes."""

    name: str
    address: int
    size: int
    function: bool

    def __contains__(self, address: int) -> bool:
        return self.address <= address < self.address + max(self.size, 1)


class Symbols:
    """The symbol table of one ELF file, both ways."""

    def __init__(self, symbols: list[Symbol]) -> None:
        self._by_address = sorted(symbols, key=lambda symbol: symbol.address)
        self._starts = [symbol.address for symbol in self._by_address]
        self._by_name: dict[str, list[Symbol]] = {}
        for symbol in self._by_address:
            self._by_name.setdefault(symbol.name, []).append(symbol)

    def __iter__(self) -> Iterator[Symbol]:
        return iter(self._by_address)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Symbol:
        """Return the one symbol ``name``; KeyError if there is none or more than one."""
        found = self._by_name.get(name, [])
        if len(found) != 1:
            raise KeyError(f"{name}: {len(found)} symbols")
        return found[0]

    def named(self, name: str) -> list[Symbol]:
        """Return every symbol ``name`` (statics of several files), lowest address first."""
        return list(self._by_name.get(name, ()))

    def at(self, address: int) -> Symbol | None:
        """Return the symbol that ``address`` lies in, functions first; None if in none."""
        last = bisect.bisect_right(self._starts, address)
        # Aliases and labels share addresses; an enclosing function may begin well before.
        inside = [
            symbol for symbol in self._by_address[max(0, last - 16) : last] if address in symbol
        ]
        return max(inside, key=lambda symbol: (symbol.function, symbol.size), default=None)

    def describe(self, address: int) -> str:
        """Return ``address`` as Xen prints it: "evtchn_write_lock+0x18/0x24"."""
        symbol = self.at(address)
        if symbol is None:
            return f"{address:#x}"
        return f"{symbol.name}+{address - symbol.address:#x}/{symbol.size:#x}"


def symbols(elf: Path) -> Symbols:
    """Return the symbol table of ``elf`` (read once per file and process).

    ConfigError if it is no ELF file or has no symbols.
    """
    return _symbols(elf, elf.stat().st_mtime_ns)


def build_id(elf: Path) -> str:
    """Return the GNU build id of ``elf`` in hex, as Xen reports its own (XENVER_build_id).

    ConfigError if it is no ELF file or has no such note.
    """
    with _opened(elf) as file:
        for section in file.iter_sections():
            if not isinstance(section, NoteSection):
                continue
            for note in section.iter_notes():
                if note["n_type"] == "NT_GNU_BUILD_ID":
                    return str(note["n_desc"])
    raise ConfigError("has no build id", where=str(elf))


def is_shown(build_id: str, shown: str) -> bool:
    """Return whether ``shown``, /sys/hypervisor/properties/buildid, is ``build_id`` (both in hex).

    Linux's buildid_show() printed the bytes as a C string for long: only those before a zero byte,
    and where there is none, what lay behind them in the heap as well.
    """
    wanted, seen = bytes.fromhex(build_id), bytes.fromhex(shown)
    start, zero, _ = wanted.partition(b"\0")
    return seen in (wanted, start) if zero else seen.startswith(wanted)


@functools.lru_cache(maxsize=16)
def _symbols(elf: Path, _mtime: int) -> Symbols:
    kinds: Mapping[str, bool] = {"STT_FUNC": True, "STT_OBJECT": False, "STT_NOTYPE": False}
    with _opened(elf) as file:
        table = file.get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection):
            raise ConfigError("has no symbol table", where=str(elf))
        found = [
            Symbol(symbol.name, symbol["st_value"], symbol["st_size"], kinds[kind])
            for symbol in table.iter_symbols()
            if (kind := symbol["st_info"]["type"]) in kinds
            and symbol.name
            and symbol["st_shndx"] != "SHN_UNDEF"
        ]
    return Symbols(found)


class _opened:
    """Context manager: ``elf`` as an ELFFile, with errors that a person understands."""

    def __init__(self, elf: Path) -> None:
        self._path = elf

    def __enter__(self) -> ELFFile:
        self._file = self._path.open("rb")
        try:
            return ELFFile(self._file)
        except ELFError as error:
            self._file.close()
            raise ConfigError(f"not an ELF file: {error}", where=str(self._path)) from error

    def __exit__(self, *_: object) -> None:
        self._file.close()
