# SPDX-License-Identifier: GPL-2.0-or-later
"""Symbols both ways, and the build id, of a file a compiler made."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.hypervisor.symbols import build_id, is_shown, symbols
from harness.verdict import ConfigError

CODE = "static int a(int x) { return x * 3; }\nint counter[4];\nint b(int x) { return a(x); }\n"


@pytest.fixture
def elf(tmp_path: Path) -> Path:
    (tmp_path / "a.c").write_text(CODE)
    (tmp_path / "b.c").write_text("static int a(int x) { return x; } int c(int x) { return a(x); }")
    made = tmp_path / "a.elf"
    words = ["gcc", "-O0", "-nostdlib", "-static", "-Wl,--build-id=0x0123456789abcdef", "-Wl,-e,b"]
    subprocess.run([*words, "-o", made, tmp_path / "a.c", tmp_path / "b.c"], check=True)
    return made


def test_both_ways_agree_with_nm(elf: Path) -> None:
    table = symbols(elf)
    nm = subprocess.run(["nm", elf], check=True, capture_output=True, text=True).stdout
    for line in nm.splitlines():
        address, _, name = line.split()
        assert int(address, 16) in [symbol.address for symbol in table.named(name)]
    b = table["b"]
    assert b.function and not table["counter"].function
    assert table["counter"].size == 16
    assert table.at(b.address) == table.at(b.address + b.size - 1) == b
    assert table.describe(b.address + 1) == f"b+0x1/{b.size:#x}"


def test_a_name_that_is_not_one_symbol(elf: Path) -> None:
    table = symbols(elf)
    assert len(table.named("a")) == 2
    with pytest.raises(KeyError, match="a: 2 symbols"):
        table["a"]
    with pytest.raises(KeyError, match="nowhere: 0 symbols"):
        table["nowhere"]
    assert "nowhere" not in table
    assert table.at(1) is None and table.describe(1) == "0x1"


def test_the_table_is_read_once_until_the_file_changes(elf: Path) -> None:
    assert symbols(elf) is symbols(elf)


def test_build_id(elf: Path, tmp_path: Path) -> None:
    assert build_id(elf) == "0123456789abcdef"
    bare = tmp_path / "bare"
    subprocess.run(["strip", "-R", ".note.gnu.build-id", "-o", bare, elf], check=True)
    with pytest.raises(ConfigError, match="has no build id"):
        build_id(bare)
    with pytest.raises(ConfigError, match="has no symbol table"):
        symbols(bare)
    text = tmp_path / "text"
    text.write_text("no elf")
    with pytest.raises(ConfigError, match="not an ELF file"):
        build_id(text)


build_ids = st.binary(min_size=20, max_size=20)


@given(build_ids, st.binary(max_size=16))
def test_linux_shows_a_build_id_as_a_string(wanted: bytes, heap: bytes) -> None:
    assert is_shown(wanted.hex(), (wanted + heap).split(b"\0")[0].hex())


@given(build_ids)
def test_linux_shows_a_build_id_as_it_is(wanted: bytes) -> None:
    assert is_shown(wanted.hex(), wanted.hex())


@given(build_ids, build_ids, st.binary(max_size=16))
def test_another_build_id_is_told_apart(wanted: bytes, other: bytes, heap: bytes) -> None:
    """Unless both are the same up to the zero byte where Linux stops."""
    if wanted != other:
        assert not is_shown(wanted.hex(), other.hex())
        same = wanted.split(b"\0")[0] == other.split(b"\0")[0]
        assert is_shown(wanted.hex(), (other + heap).split(b"\0")[0].hex()) == same


def test_a_build_id_with_what_lay_behind_it_in_the_heap() -> None:
    """Seen: dom0 of 4.14 on arm64, with half a pointer of the kernel's."""
    wanted = "8f6025d5af0a241010483a94afb621808225ff12"
    assert is_shown(wanted, wanted + "2081bbc2c31affff02")
    assert not is_shown(wanted, wanted[:-2])
    assert not is_shown(wanted, "")
