# SPDX-License-Identifier: GPL-2.0-or-later
"""Serial lines from afar: real sockets, real programs, gaps that are marked."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.physical import CommandConsole, SolConsole, TcpConsole
from harness.machine.console import Console
from harness.machine.wires import Lasting, opener
from harness.machine.wires import sol as sol_module
from harness.machine.wires.tcp import Telnet
from harness.verdict import LabError
from tests.real.rack.bmc import ipmi_sim
from tests.real.rack.rack import free_port

pytestmark = pytest.mark.slow

IAC, SB, SE, WILL, DO, DONT, WONT = 255, 250, 240, 251, 253, 254, 252


def until(condition: object, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_program_is_a_serial_line(tmp_path: Path) -> None:
    script = "echo '(XEN) up'; while read -r line; do echo \"said $line\"; done"
    console = Console(tmp_path)
    section = CommandConsole(driver="command", command=("sh", "-c", script))
    console.attach(Lasting(opener(section)))
    console.expect("up", 10, stream="xen")
    console.type(b"hello\n")
    console.expect("^said hello$", 10)
    console.close()


def test_a_line_that_ends_is_opened_again_and_the_gap_marked(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        section = TcpConsole(driver="tcp", address="127.0.0.1", port=server.getsockname()[1])
        wire = Lasting(opener(section))
        console = Console(tmp_path)
        console.attach(wire)
        first, _ = server.accept()
        first.sendall(b"(XEN) one\r\n")
        console.expect("one", 10, stream="xen")
        first.close()
        second, _ = server.accept()
        second.sendall(b"(XEN) two\r\n")
        console.expect("two", 10, stream="xen")
        console.type(b"typed")
        assert second.recv(100) == b"typed"
        console.close()
        second.close()
    assert wire.gaps == 1
    assert "harness: the console was lost for" in (tmp_path / "dom0.log").read_text()


def test_a_line_that_stays_away_says_why_and_takes_no_keys(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        section = TcpConsole(driver="tcp", address="127.0.0.1", port=server.getsockname()[1])
        wire = Lasting(opener(section))
        first, _ = server.accept()
    console = Console(tmp_path)
    console.attach(wire)
    first.close()
    until(lambda: "Connection refused" in wire.problem)
    with pytest.raises(LabError, match="cannot reach the serial line: Connection refused"):
        console.type(b"x")
    began = time.monotonic()
    console.close()
    assert time.monotonic() - began < 3


def test_a_line_that_cannot_be_opened_is_a_lab_error() -> None:
    with pytest.raises(LabError, match=r"console 127.0.0.1:1: cannot reach the serial line"):
        Lasting(opener(TcpConsole(driver="tcp", address="127.0.0.1", port=1)))


def test_what_is_no_text_is_counted() -> None:
    ours, theirs = socket.socketpair()
    wire = Lasting(lambda: ours)
    theirs.sendall(b"\x80\x01text\r\n")
    assert len(wire.recv(100)) == 8
    assert (wire.heard, wire.odd) == (8, 2)
    theirs.close()
    wire.close()


def test_a_serial_over_lan_that_somebody_took_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sol_module, "_ASK_SECONDS", 0.5)
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    with socket.create_server(("127.0.0.1", 0)) as serial:
        ports = {"lan": free_port(), "serial": serial.getsockname()[1]}
        with ipmi_sim(tmp_path, ports, "admin", "s3cret"):
            line, _ = serial.accept()
            where = {"address": "127.0.0.1", "port": ports["lan"], "user": "admin"}
            section = SolConsole.model_validate(
                {"driver": "ipmi-sol", "password": {"file": str(secret)}, **where}
            )
            gaps: list[str] = []
            wire = Lasting(opener(section), gaps.append)
            console = Console(tmp_path / "console")
            console.attach(wire)
            console.expect("SOL Session operational", 20, stream="xen")
            line.sendall(b"(XEN) one\r\n")
            console.expect("one", 10, stream="xen")
            thief = opener(section)()  # ends ours first, as everybody does
            until(lambda: wire.gaps == 1 and not wire.problem, 30)
            console.expect("harness: the console was lost for .*somebody else took", 10)
            until(lambda: _heard(line, console), 20)
            thief.shutdown(socket.SHUT_RDWR)
            thief.close()
            console.close()
            line.close()
    assert wire.taken == 1 and len(gaps) == 1


def _heard(line: socket.socket, console: Console) -> bool:
    """Say something on the line that is ours again; it may be a moment until it is."""
    line.sendall(b"(XEN) two\r\n")
    time.sleep(0.3)
    return any(seen.text == "two" for seen in console.tail("xen"))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=20), max_size=5), st.data())
def test_telnet_gives_the_characters_however_they_arrive(
    texts: list[bytes], data: st.DataObject
) -> None:
    negotiations = [
        bytes((IAC, WILL, 1)),
        bytes((IAC, DO, 31)),
        bytes((IAC, SB, 24, 1, IAC, SE)),
        bytes((IAC, 241)),
    ]
    stream = bytearray()
    for text in texts:
        stream += text.replace(b"\xff", b"\xff\xff")
        stream += data.draw(st.sampled_from(negotiations))
    ours, theirs = socket.socketpair()
    telnet = Telnet(ours)
    size = data.draw(st.integers(1, 7))

    def send() -> None:
        for at in range(0, len(stream), size):
            theirs.sendall(stream[at : at + size])
        theirs.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    got = b""
    while chunk := telnet.recv(64):
        got += chunk
    sender.join()
    telnet.close()
    theirs.close()
    assert got == b"".join(texts).replace(b"\r\0", b"\r")  # RFC 854: CR NUL is a lone CR


def test_telnet_agrees_to_plain_characters_and_to_nothing_else() -> None:
    ours, theirs = socket.socketpair()
    telnet = Telnet(ours)
    theirs.sendall(bytes((IAC, WILL, 1, IAC, WILL, 31, IAC, DO, 0, IAC, DO, 24)) + b"x")
    assert telnet.recv(10) == b"x"
    answer = theirs.recv(100)
    assert answer == bytes((IAC, DO, 1, IAC, DONT, 31, IAC, WILL, 0, IAC, WONT, 24))
    telnet.sendall(b"a\xffb")
    assert theirs.recv(10) == b"a\xff\xffb"
    telnet.close()
    theirs.close()


def test_telnet_in_binary_mode_keeps_every_byte() -> None:
    ours, theirs = socket.socketpair()
    telnet = Telnet(ours)
    theirs.sendall(b"a\r\0" + bytes((IAC, WILL, 0)) + b"b\r\0c")
    assert telnet.recv(10) == b"a\rb\r\0c"
    telnet.close()
    theirs.close()
