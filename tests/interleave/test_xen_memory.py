# SPDX-License-Identifier: GPL-2.0-or-later
"""What the words of a halted Xen's locks say: releases of Xen lay them out in different ways."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from harness.hypervisor.rwlock_word import BYTE_WIDE, LAYOUTS, RwlockWord
from harness.interleave.xen_memory import ChannelMemory

TOY = Path(__file__).parent / "toy" / "event_channel.c"
PORT = 2
SINCE_4_14, SINCE_4_19, _ = LAYOUTS


class Toy:
    """A Xen with one domain, whose memory is what lies in its ELF file."""

    def __init__(self, folder: Path, event_lock: str) -> None:
        self.elf = folder / "xen-syms"
        flags = ["-g", "-nostdlib", "-static", f"-DEVENT_LOCK={event_lock}"]
        subprocess.run(["gcc", *flags, str(TOY), "-o", str(self.elf)], check=True)
        self._written: dict[int, int] = {}

    def read(self, address: int, size: int) -> bytes:
        if address in self._written:
            return self._written[address].to_bytes(size, "little")
        with self.elf.open("rb") as file:
            for part in ELFFile(file).iter_segments(type="PT_LOAD"):
                if part["p_vaddr"] <= address < part["p_vaddr"] + part["p_memsz"]:
                    data = part.data().ljust(part["p_memsz"], b"\0")
                    return bytes(data[address - part["p_vaddr"] :][:size])
        raise AssertionError(f"nothing is at {address:#x}")

    def values(self, layout: RwlockWord, lock: int, event_lock: int) -> dict[str, int]:
        """Return what is read when the channel's lock and the event_lock have these words."""
        memory = ChannelMemory(self.elf, "rwlock", layout, self.read, lambda *_: None)
        addresses = memory.words(PORT).addresses
        self._written = {addresses["cnts"]: lock, addresses["elock"]: event_lock}
        return memory.variable_reader(PORT, {"wmode", "readers", "elock"}).values()


@pytest.mark.parametrize(
    ("layout", "free", "waits", "holds"),
    [
        (BYTE_WIDE, 2 << 8, 2 << 8 | 1, 0xFF),
        (SINCE_4_14, 2 << 14, 2 << 14 | 1 << 12, 3 << 12 | 5),
        (SINCE_4_19, 2 << 16, 2 << 16 | 1 << 14, 3 << 14 | 5),
    ],
)
def test_a_rwlocks_word_is_read_as_this_xen_writes_it(
    layout: RwlockWord, free: int, waits: int, holds: int, tmp_path: Path
) -> None:
    xen = Toy(tmp_path, "rwlock_t")
    assert xen.values(layout, free, 0) == {"readers": 2, "wmode": 0, "elock": 0}
    assert xen.values(layout, waits, waits) == {"readers": 2, "wmode": 1, "elock": 0}
    assert xen.values(layout, holds, holds) == {"readers": 0, "wmode": 3, "elock": 1}


def test_an_event_lock_may_be_a_spinlock(tmp_path: Path) -> None:
    """Up to 4.16.  Its word may be any number, whether it is taken or not."""
    xen = Toy(tmp_path, "spinlock_t")
    assert xen.values(SINCE_4_14, 0, 0x3000_3000)["elock"] == 0
    assert xen.values(SINCE_4_14, 0, 0x0006_0005)["elock"] == 1
