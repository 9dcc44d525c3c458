# SPDX-License-Identifier: GPL-2.0-or-later
"""Debug keys over a console: a serial line on whose other end a Xen answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.machine import keys
from harness.machine.console import Console
from harness.verdict import LabError

DUMP = Path(__file__).parents[1] / "hypervisor" / "golden" / "keys" / "d-arm64.log"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(keys, "_QUIET_SECONDS", 0.3)


class Xen(threading.Thread):
    """The other end: reads keys, switches its input, prints a recorded dump."""

    def __init__(self, line: socket.socket, readers: list[str], dump: str) -> None:
        super().__init__(daemon=True)
        self.line, self.readers, self.dump = line, readers, dump
        self.dumped = 0

    def run(self) -> None:
        self.line.sendall(b"(XEN) Xen version 4.17\n")
        held = 0
        while data := self.line.recv(1):
            held = held + 1 if data == b"\x01" else 0
            if held == 3:
                held = 0
                self.readers.append(self.readers.pop(0))
                self.line.sendall(b"(XEN) *** Serial input to %s\n" % self.readers[0].encode())
            elif data == b"d" and self.readers[0] == "Xen" and self.dump:
                self.dumped += 1
                self.line.sendall(self.dump.encode())


@pytest.fixture
def line(tmp_path: Path) -> Iterator[tuple[Console, socket.socket]]:
    ours, theirs = socket.socketpair()
    console = Console(tmp_path / "console")
    console.attach(ours)
    yield console, theirs
    theirs.close()
    console.close()


@pytest.mark.parametrize("readers", [["DOM0", "Xen"], ["DOM0", "DOM1", "Xen"], ["Xen", "DOM0"]])
def test_registers_come_whoever_had_the_input(
    line: tuple[Console, socket.socket], readers: list[str]
) -> None:
    xen = Xen(line[1], readers, DUMP.read_text())
    xen.start()
    seen = keys.registers(line[0])
    assert [(cpu.number, cpu.pc) for cpu in seen] == [(0, 0x2670A0), (1, 0x2078C4)]
    assert xen.dumped == 1
    assert xen.readers[0] == "DOM0", "dom0 has its console back"


def test_a_xen_that_does_not_answer(line: tuple[Console, socket.socket]) -> None:
    Xen(line[1], ["DOM0", "Xen"], "").start()
    with pytest.raises(LabError, match="does not react to its debug keys"):
        keys.registers(line[0])


def test_what_xen_prints_in_a_block_is_there_after_it(
    line: tuple[Console, socket.socket],
) -> None:
    console, theirs = line
    theirs.sendall(b"(XEN) Xen version 4.17\n")
    console.expect("Xen version", 5, "xen")
    with keys.printed(console) as lines:
        theirs.sendall(b"(XEN) IRQ information:\ndom0 says something\n")
        threading.Timer(0.1, theirs.sendall, [b"(XEN)    IRQ:   0\n"]).start()
    assert [text.strip() for text in lines] == ["IRQ information:", "IRQ:   0"]
