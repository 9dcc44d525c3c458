# SPDX-License-Identifier: GPL-2.0-or-later
"""The bare guest's binaries: what the toolstack needs to find in them."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from harness.agent.build import BARE_SOURCES, bare_guest
from harness.arch import Arch

_PHYS32_ENTRY = 18


def test_x86_64_has_a_pvh_entry() -> None:
    with bare_guest(Arch.X86_64).open("rb") as file:
        elf = ELFFile(file)
        (segment,) = [s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD"]
        (note,) = [s for s in elf.iter_segments() if s["p_type"] == "PT_NOTE"]
        file.seek(note["p_offset"])
        name_bytes, size, kind, name, entry = struct.unpack("<III4sI", file.read(20))
    assert (name_bytes, size, kind, name) == (4, 4, _PHYS32_ENTRY, b"Xen\0")
    assert segment["p_paddr"] <= entry < segment["p_paddr"] + segment["p_filesz"]
    assert segment["p_paddr"] == 0x1000000


def test_x86_64_is_a_multiboot_kernel() -> None:
    """A device model does not load a 64-bit ELF file by its headers, only by these addresses."""
    with bare_guest(Arch.X86_64).open("rb") as file:
        (segment,) = [s for s in ELFFile(file).iter_segments() if s["p_type"] == "PT_LOAD"]
        file.seek(0)
        image = file.read()
    at = image.index(struct.pack("<I", 0x1BADB002), 0, 8192)
    magic, flags, check, *addresses = struct.unpack_from("<8I", image, at)
    assert at % 4 == 0 and flags == 1 << 16 and (magic + flags + check) % 2**32 == 0
    head, load, load_end, end, entry = addresses
    assert head - load == at - segment["p_offset"] and load == segment["p_paddr"]
    assert load_end - load == segment["p_filesz"] and end - load >= segment["p_memsz"]
    assert load <= entry < load_end


def test_arm64_is_an_image_that_holds_its_own_bss() -> None:
    image = bare_guest(Arch.ARM64).read_bytes()
    offset, size = struct.unpack_from("<QQ", image, 8)
    assert image[56:60] == b"ARM\x64"
    assert offset == 0x80000
    assert size >= len(image) > size - 4096  # the toolstack clears nothing


@pytest.mark.parametrize("arch", list(Arch))
def test_it_is_made_once(arch: Arch) -> None:
    first = bare_guest(arch)
    assert bare_guest(arch) == first and first.parent.parent.name == "bare"


def test_every_verb_of_the_document_is_one_of_the_guest() -> None:
    document = Path(__file__).resolve().parents[2] / "docs" / "agent-protocol.md"
    section = document.read_text().split("## The bare guest")[1].split("\n## ")[0]
    documented = set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) - {"verb"}
    documented |= {"reset_cont"}
    verbs = set(re.findall(r'\{"(\w+)", \w+\}', (BARE_SOURCES / "ops.c").read_text()))
    assert documented <= verbs and {"send", "poll", "list_ports"} <= verbs
