# SPDX-License-Identifier: GPL-2.0-or-later
"""The debugger's protocol: framing by properties, the rest against a real QEMU without a guest."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.machine.rsp import Stub, StubLost, frame, unframe

QEMU = shutil.which("qemu-system-x86_64")
RESET = 0xFFF0  # where an x86 begins; the stub shows it without the segment's base
BASE = 0xFFFF_0000
LOOP = bytes.fromhex("90 90 eb fc")  # nop; nop; jmp back

text = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="$#*}"))


@given(text, st.binary(max_size=4))
def test_a_packet_survives_the_line(packet: str, before: bytes) -> None:
    noise = bytes(byte for byte in before if byte != ord("$"))
    pending = bytearray(b"+" + noise.replace(b"#", b"") + frame(packet) + b"$rest")
    assert unframe(pending) == packet
    assert pending == b"$rest"


@given(text)
def test_a_packet_that_is_not_whole_waits(packet: str) -> None:
    whole = frame(packet)
    for length in range(len(whole)):
        pending = bytearray(whole[:length])
        assert unframe(pending) is None
        assert pending == whole[:length]


def test_repeated_characters_are_spelt_out() -> None:
    body = b"0* "  # "0", and 32 - 29 = 3 more
    pending = bytearray(b"$" + body + b"#%02x" % (sum(body) & 0xFF))
    assert unframe(pending) == "0000"


def test_a_garbled_packet_is_an_error() -> None:
    with pytest.raises(StubLost, match="garbled"):
        unframe(bytearray(b"$T05#00"))


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.machine.rsp._CONNECT_SECONDS", 0.1)
    with pytest.raises(StubLost, match="nobody listens"):
        Stub(tmp_path / "stub")


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    if QEMU is None:
        pytest.skip("needs qemu-system-x86")
    socket, firmware = tmp_path / "stub", tmp_path / "firmware"
    firmware.write_bytes(bytes(RESET) + LOOP.ljust(16, b"\0"))
    words = [QEMU, "-accel", "tcg", "-machine", "pc", "-smp", "2", "-m", "16", "-nodefaults"]
    words += ["-bios", str(firmware)]
    words += ["-display", "none", "-S", "-gdb", f"unix:{socket},server=on,wait=off"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as process:
        try:
            made = Stub(socket)
            yield made
            made.close()
        finally:
            process.kill()


def pc(stub: Stub, cpu: int) -> int:
    return int.from_bytes(stub.registers(cpu)[128:136], "little")


def test_a_real_stub(stub: Stub) -> None:
    assert pc(stub, 0) == RESET
    assert stub.step(0).cpu == 0
    assert pc(stub, 0) != RESET
    stub.write(0, 0x5000, b"evtchn")
    assert stub.read(0, 0x5000, 6) == b"evtchn"
    with pytest.raises(StubLost, match="answers"):
        stub.remove(0x1234)  # was never inserted


def test_a_cpu_alone_runs_to_a_stop_point(stub: Stub) -> None:
    code = BASE + RESET + 1
    stub.insert(code)
    stub.go_only([0])
    stop = stub.wait(5)
    assert stop is not None and (stop.signal, stop.cpu) == (signal.SIGTRAP, 0)
    assert pc(stub, 0) == RESET + 1
    stub.step(0)  # over the stop point
    stub.go_only([0])
    assert stub.wait(5) == stop
    stub.remove(code)
    stub.go_only([0])
    assert stub.wait(0.2) is None
    assert stub.halt().cpu in (0, 1)
