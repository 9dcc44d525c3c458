# SPDX-License-Identifier: GPL-2.0-or-later
"""What QEMU's monitor prints of its CPUs, for both architectures."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.machine import cpus, monitor
from harness.machine.cpus import dumped, parse

X86 = """\

CPU#0
RAX=0000000000000001 RBX=ffff830079bfe000 RCX=0000000000000000 RDX=0000000000002001
RSI=0000000000000000 RDI=ffff830079bfe540 RBP=ffff82d0405e7d80 RSP=ffff82d0405e7d58
R8 =0000000000000000 R9 =0000000000000001 R10=0000000000000002 R11=0000000000000246
RIP=ffff82d0402f1b5a RFL=00000297 [--S-APC] CPL=0 II=0 A20=1 SMM=0 HLT=0
ES =0000 0000000000000000 ffffffff 00c0f300 DPL=3 DS   [-WA]

CPU#1
RAX=0000000000000002 RBX=0000000000000000 RCX=0000000000000000 RDX=0000000000000000
RIP=ffff82d040321234 RFL=00000202 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=1
"""

ARM = """\

CPU#0
 PC=000000000020b8f4 X00=00008000fbfd1540 X01=0000000000000080
X02=0000000000000081 X03=0000000000000000  SP=00008000fbfe7cf0
PSTATE=600002c9 -ZC- NS EL2h    FPU disabled
"""


def test_x86() -> None:
    first, second = parse(X86)
    assert (first.number, first.pc) == (0, 0xFFFF82D0402F1B5A)
    assert first.registers["RDI"] == 0xFFFF830079BFE540
    assert (second.number, second.pc) == (1, 0xFFFF82D040321234)


def test_arm() -> None:
    (only,) = parse(ARM)
    assert only.pc == 0x20B8F4
    assert only.registers["X00"] == 0x8000FBFD1540


def test_nothing() -> None:
    assert parse("") == []


def test_memory() -> None:
    text = "00000a0000200010: 0x01 0x20 0x00\n00000a0000200018: 0xff\n"
    assert dumped(text) == b"\x01\x20\x00\xff"


def test_memory_that_is_not_there_or_not_whole() -> None:
    assert dumped("00008000fbfe7cf0: Cannot access memory\n") == b""
    assert dumped("Cannot access memory\n") == b""
    assert (
        dumped("0000000000000000: 0x01 0x02\n0000000000001000: Cannot access memory\n")
        == b"\x01\x02"
    )


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "* CPU #0: thread_id=851\n  CPU #1: thread_id=852\n"
    monkeypatch.setattr(monitor, "ask", lambda *_: text)
    assert cpus.threads(None) == {0: 851, 1: 852}


@pytest.mark.parametrize(("state", "sleeps"), [("S", True), ("R", False), ("D", False)])
def test_a_thread_sleeps_or_wants_to_run(state: str, sleeps: bool, tmp_path: Path) -> None:
    (tmp_path / "852").mkdir()
    (tmp_path / "852/stat").write_text(f"852 (CPU 1) S/TCG) {state} 1 851 851 0 -1\n")
    assert cpus.sleeps(852, tmp_path) is sleeps


def test_a_thread_that_has_ended_does_not_sleep(tmp_path: Path) -> None:
    assert not cpus.sleeps(852, tmp_path)
