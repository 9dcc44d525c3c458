# SPDX-License-Identifier: GPL-2.0-or-later
"""The plugin that notes what runs, in real QEMUs whose guests are a few instructions."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from harness.agent.build import compiler
from harness.arch import NAMES, Arch
from harness.machine.executed import Executed, _interface
from harness.verdict import LabError

RESET = {Arch.X86_64: 0xFFFF_FFF0, Arch.ARM64: 0}
# The first instruction jumps over the second one; the last jumps to the third, for ever.
GUEST = {
    Arch.X86_64: bytes(0xFFF0) + bytes.fromhex("eb01 90 90 ebfd").ljust(16, b"\0"),
    Arch.ARM64: bytes.fromhex("02000014 1f2003d5 1f2003d5 ffffff17"),
}
STARTS = {Arch.X86_64: (0, 2, 3, 4), Arch.ARM64: (0, 4, 8, 12)}
MACHINE = {
    Arch.X86_64: ("-machine", "pc"),
    Arch.ARM64: ("-machine", "virt", "-cpu", "cortex-a57"),
}


@contextmanager
def running(arch: Arch, guest: bytes, executed: Executed, folder: Path) -> Iterator[None]:
    """Run ``guest`` from reset, with a copy of it at COPY (arm64); kill QEMU after the block."""
    qemu = shutil.which(f"qemu-system-{NAMES[arch].qemu}")
    if qemu is None:
        pytest.skip("needs QEMU")
    firmware = folder / "firmware"
    firmware.write_bytes(guest)
    words = [qemu, "-accel", "tcg", *MACHINE[arch], "-smp", "2", "-m", "16", "-nodefaults"]
    words += ["-display", "none", "-bios", str(firmware)]
    if arch is Arch.ARM64:
        words += ["-device", f"loader,file={firmware},addr={COPY:#x},force-raw=on"]
    words += executed.arguments(arch)
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as process:
        try:
            yield
            assert process.poll() is None
        finally:
            process.kill()


def wait(executed: Executed, address: int) -> None:
    deadline = time.monotonic() + 20
    while not executed.read()(address, address + 1):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("arch", list(Arch))
def test_what_has_run_is_noted_though_qemu_is_killed(arch: Arch, tmp_path: Path) -> None:
    start = RESET[arch]
    elsewhere = (start + 0x100_0000, start + 0x100_0010)
    ranges = [(start, start + 3), (start + 3, start + 15), elsewhere]
    folder = tmp_path / "1,2"  # a comma separates words of an argument
    folder.mkdir()
    executed = Executed(folder / "executed", ranges)
    first, skipped, third, last = (start + each for each in STARTS[arch])
    with running(arch, GUEST[arch], executed, tmp_path):
        wait(executed, last)
    seen = executed.read()
    assert [seen(each, each + 1) for each in (first, skipped, third, last)] == [
        *(True, False, True, True)
    ]
    assert seen(first, last + 1) and not seen(*elsewhere)


# With the MMU on, addresses from 0 are those of the copy in memory.
PAGED = """
        mov x0, #0xff
        msr mair_el1, x0
        mov x0, #34             // addresses of 30 bits: blocks of 2 MiB
        movk x0, #0x80, lsl #16 // no TTBR1
        msr tcr_el1, x0
        mov x0, #0x1000
        msr ttbr0_el1, x0
        isb
        mrs x1, sctlr_el1
        orr x2, x1, #1
        msr sctlr_el1, x2
        isb
        nop                     // elsewhere
        msr sctlr_el1, x1
        isb
        b .
        .org 0x1000
        .quad 0x40400701        // normal memory at 0x40400000
"""
COPY, IN_COPY, BACK = 0x4040_0000, 12 * 4, 15 * 4


def test_code_elsewhere_in_memory_at_the_same_address_does_not_count(tmp_path: Path) -> None:
    source, made = tmp_path / "guest.S", tmp_path / "guest.o"
    source.write_text(PAGED)
    subprocess.run([compiler(Arch.ARM64), "-c", "-o", made, source], check=True)
    with made.open("rb") as file:
        guest = ELFFile(file).get_section_by_name(".text").data()
    executed = Executed(tmp_path / "executed", [(0, 4), (IN_COPY, IN_COPY + 4), (BACK, BACK + 4)])
    with running(Arch.ARM64, guest, executed, tmp_path):
        wait(executed, BACK)
    seen = executed.read()
    assert seen(0, 4) and not seen(IN_COPY, IN_COPY + 4)


def test_a_file_that_is_cut_off_is_told(tmp_path: Path) -> None:
    path = tmp_path / "executed"
    executed = Executed(path, [(16, 32)])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(LabError, match="cut off"):
        executed.read()


@pytest.mark.parametrize(
    ("version", "interface"),
    [
        ("QEMU emulator version 7.2.19 (Debian 1:7.2+dfsg-7)", 1),
        ("QEMU emulator version 8.2.2", 1),
        ("QEMU emulator version 9.0.0", 2),
        ("QEMU emulator version 10.0.2 (Debian 1:10.0.2)", 2),
    ],
)
def test_the_interface_is_one_that_this_qemu_takes(version: str, interface: int) -> None:
    assert _interface(version) == interface
