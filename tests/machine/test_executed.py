# SPDX-License-Identifier: GPL-2.0-or-later
"""The plugin that notes what runs, in real QEMUs whose guests are four instructions."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("arch", list(Arch))
def test_what_has_run_is_noted_though_qemu_is_killed(arch: Arch, tmp_path: Path) -> None:
    qemu = shutil.which(f"qemu-system-{NAMES[arch].qemu}")
    if qemu is None:
        pytest.skip("needs QEMU")
    firmware = tmp_path / "firmware"
    firmware.write_bytes(GUEST[arch])
    start = RESET[arch]
    elsewhere = (start + 0x100_0000, start + 0x100_0010)
    ranges = [(start, start + 3), (start + 3, start + 15), elsewhere]
    folder = tmp_path / "1,2"  # a comma separates words of an argument
    folder.mkdir()
    executed = Executed(folder / "executed", ranges)
    words = [qemu, "-accel", "tcg", *MACHINE[arch], "-smp", "2", "-m", "16", "-nodefaults"]
    words += ["-display", "none", "-bios", str(firmware)]
    words += executed.arguments(arch)
    first, skipped, third, last = (start + each for each in STARTS[arch])
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 20
            while not executed.read()(last, last + 1):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            process.kill()
    seen = executed.read()
    assert [seen(each, each + 1) for each in (first, skipped, third, last)] == [
        *(True, False, True, True)
    ]
    assert seen(first, last + 1) and not seen(*elsewhere)


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
