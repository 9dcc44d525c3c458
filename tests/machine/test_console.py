# SPDX-License-Identifier: GPL-2.0-or-later
"""Console capture over a real socket: streams, time stamps, crashes, dialogue."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.machine.console import Console
from harness.verdict import HypervisorError, LabError

STAMPED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (.*)")


@contextmanager
def attached(folder: Path, *, up: bool) -> Iterator[tuple[Console, socket.socket]]:
    ours, theirs = socket.socketpair()
    console = Console(folder)
    console.attach(ours, up=up)
    yield console, theirs
    theirs.close()
    console.close()


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[tuple[Console, socket.socket]]:
    with attached(tmp_path / "console", up=False) as (console, theirs):
        theirs.sendall(b"(XEN) up\r\n")  # until Xen speaks, it is the firmware that does
        yield console, theirs


def texts(path: Path) -> list[str]:
    lines = path.read_text().splitlines()
    matches = [STAMPED.fullmatch(line) for line in lines]
    assert all(matches), lines
    return [match[1] for match in matches if match]


def test_streams_are_recorded_apart_with_times(
    wired: tuple[Console, socket.socket], tmp_path: Path
) -> None:
    console, line = wired
    line.sendall(b"(XEN) Xen version 4.17\r\n[    0.1] Linux ver")
    line.sendall(b"sion 6.1\r\n")
    console.expect("Linux version 6.1", 5)
    line.close()
    console.close()
    assert texts(tmp_path / "console/xen.log") == ["up", "Xen version 4.17"]
    assert texts(tmp_path / "console/dom0.log") == ["[    0.1] Linux version 6.1"]


def test_what_came_without_a_line_end_is_kept(
    wired: tuple[Console, socket.socket], tmp_path: Path
) -> None:
    console, line = wired
    line.sendall(b"half a line")
    line.close()
    console.close()
    assert texts(tmp_path / "console/dom0.log") == ["half a line"]


def test_expect_sees_lines_from_before_and_after(wired: tuple[Console, socket.socket]) -> None:
    console, line = wired
    line.sendall(b"early\n")
    assert console.expect("early", 5).stream == "dom0"
    later = threading.Timer(0.2, line.sendall, (b"late\n",))
    later.start()
    assert console.expect("^late$", 5).text == "late"
    later.join()


def test_expect_gives_up_with_a_clear_error(wired: tuple[Console, socket.socket]) -> None:
    console, _ = wired
    began = time.monotonic()
    with pytest.raises(LabError, match=r"dom0 console: no line matching 'never' within 0 s"):
        console.expect("never", 0.3)
    assert time.monotonic() - began < 3


def test_a_panic_of_xen_is_raised_at_once(wired: tuple[Console, socket.socket]) -> None:
    console, line = wired
    threading.Timer(0.2, line.sendall, (b"(XEN) Panic on CPU 1:\r\n",)).start()
    began = time.monotonic()
    with pytest.raises(HypervisorError, match="xen console at"):
        console.expect("libvirtd up", 30)
    assert time.monotonic() - began < 5


def test_a_panic_is_told_with_its_reason(wired: tuple[Console, socket.socket]) -> None:
    console, line = wired
    line.sendall(b"(XEN) \r\n(XEN) ****\r\n(XEN) Panic on CPU 1:\r\n")
    line.sendall(
        b"dom0 says on\r\n(XEN) \r\n(XEN) GNTTABOP went wild\r\n(XEN) ****\r\n(XEN) end\r\n"
    )
    deadline = time.monotonic() + 5
    while not any(seen.text == "end" for seen in console.tail("xen")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(HypervisorError, match=r"panic: Panic on CPU 1: GNTTABOP went wild$"):
        console.check()


def test_a_machine_too_small_for_dom0_is_no_fault_of_xen(
    wired: tuple[Console, socket.socket],
) -> None:
    console, line = wired
    line.sendall(b"(XEN) Panic on CPU 0:\r\n")
    why = b"(XEN) Not enough RAM for domain 0 allocation\r\n"
    threading.Timer(0.3, line.sendall, (why,)).start()  # who looks in between waits for it
    with pytest.raises(LabError, match=r"Not enough RAM .*; the machine is too small: give dom0"):
        console.expect("libvirtd up", 30)


def test_a_restored_machine_has_not_crashed(wired: tuple[Console, socket.socket]) -> None:
    console, line = wired
    line.sendall(b"(XEN) Xen BUG at here.c:1\r\n")
    with pytest.raises(HypervisorError):
        console.expect("never", 5)
    console.forget()
    console.check()
    assert len(console.events) == 1
    line.sendall(b"(XEN) Xen BUG at there.c:2\r\n")
    with pytest.raises(HypervisorError, match="there"):
        console.expect("never", 5)


def test_a_panic_of_dom0_is_not_blamed_on_xen(wired: tuple[Console, socket.socket]) -> None:
    console, line = wired
    line.sendall(b"[   12.3] Kernel panic - not syncing: sysrq triggered crash\r\nend\r\n")
    with pytest.raises(LabError, match="Kernel panic"):
        console.expect("nothing", 5)


def test_expect_stops_when_its_check_raises(wired: tuple[Console, socket.socket]) -> None:
    console, _ = wired

    def gone() -> None:
        raise LabError("QEMU is gone")

    with pytest.raises(LabError, match="QEMU is gone"):
        console.expect("never", 30, check=gone)


def test_an_ignored_stream_may_crash(tmp_path: Path) -> None:
    console = Console(tmp_path)
    console.ignore("domu1")
    console.follow("domu1", iter([b"[ 1.0] Kernel panic - not syncing: x\nlast\n"]))
    console.expect("last", 5, stream="domu1")
    console.check()
    assert len(console.events) == 1
    console.close()


def test_raw_bytes_reach_a_tap_and_typing_reaches_the_line(
    wired: tuple[Console, socket.socket],
) -> None:
    console, line = wired
    seen: list[bytes] = []
    console.tap(seen.append)
    line.sendall(b"login: ")
    deadline = time.monotonic() + 5
    while b"login: " not in b"".join(seen) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert b"".join(seen).endswith(b"login: ")
    console.type(b"root\n")
    assert line.recv(100) == b"root\n"


def _said(console: Console, stream: str, text: str) -> None:
    console.expect(f"^{text}$", 5, stream=stream)


def test_symptoms_are_kept_and_end_nothing(wired: tuple[Console, socket.socket]) -> None:
    console, line = wired
    line.sendall(b"[   12.3] BUG: Bad page state in process x  pfn:1\r\n")
    line.sendall(b"(XEN) Xen WARN at traps.c:7\r\n" * 30)
    line.sendall(b"(XEN) domain_crash called from x.c:1\r\n(XEN) end\r\n")  # is told by its domU
    _said(console, "xen", "end")
    assert console.events == ()
    kinds = [seen.event.kind for seen in console.symptoms]
    assert kinds == ["kernel bug"] + ["warning"] * 20


def test_a_reset_that_nobody_asked_for_is_a_crash(wired: tuple[Console, socket.socket]) -> None:
    console, line = wired
    line.sendall(b"(XEN) Xen version 4.18.2 (x)\r\n[   12.3] x\r\n(XEN) Xen version 4.18.2 (x)\r\n")
    with pytest.raises(HypervisorError, match=r"reset: .*begins anew.*; if Xen did not do it"):
        console.expect("never", 5)


def test_a_boot_that_the_harness_asked_for_is_none(wired: tuple[Console, socket.socket]) -> None:
    console, line = wired
    line.sendall(b"(XEN) Xen version 4.18.2 (x)\r\n[   12.3] bye\r\n")
    console.expect("bye", 5)
    console.booting()
    line.sendall(b"SeaBIOS (version 1)\r\n(XEN) Xen version 4.18.2 (x)\r\n(XEN) end\r\n")
    _said(console, "xen", "end")
    console.check()


def test_an_nmi_from_outside_is_no_fault_of_xen(wired: tuple[Console, socket.socket]) -> None:
    console, line = wired
    line.sendall(b"(XEN) Panic on CPU 3:\r\n(XEN) FATAL TRAP: vec 2, NMI[0000]\r\n")
    with pytest.raises(LabError, match=r"vec 2, NMI.*; it came from outside of Xen: see the"):
        console.expect("never", 5)


def test_after_its_watchdog_an_nmi_is_of_xen(wired: tuple[Console, socket.socket]) -> None:
    console, line = wired
    line.sendall(b"(XEN) Watchdog timer detects that CPU3 is stuck!\r\n")
    line.sendall(b"(XEN) Panic on CPU 3:\r\n(XEN) FATAL TRAP: vec 2, NMI[0000]\r\n")
    with pytest.raises(HypervisorError, match="watchdog: Watchdog timer detects that CPU3"):
        console.expect("never", 5)


@pytest.fixture
def restored(tmp_path: Path) -> Iterator[tuple[Console, socket.socket]]:
    """A machine that goes on from a snapshot: nobody has heard it boot."""
    with attached(tmp_path / "restored", up=True) as both:
        yield both


def test_what_a_restored_machine_says_first_is_dom0s(
    restored: tuple[Console, socket.socket],
) -> None:
    console, line = restored
    line.sendall(b"[   43.5] Kernel panic - not syncing: sysrq triggered crash\r\n")
    with pytest.raises(LabError, match="kernel panic"):
        console.expect("never", 5)
    (event,) = console.events
    assert event.line.stream == "dom0"


def test_a_restored_machine_that_boots_is_a_reset(
    restored: tuple[Console, socket.socket],
) -> None:
    console, line = restored
    line.sendall(b"(XEN) Xen version 4.17.5 (root@localhost)\r\n")
    with pytest.raises(HypervisorError, match="nobody asked for it"):
        console.expect("never", 5)


def test_a_machine_that_ended_by_itself_is_a_reset_of_xen(
    wired: tuple[Console, socket.socket],
) -> None:
    """Once all is read that came before its end, which may tell who wanted it."""
    console, line = wired
    line.sendall(b"(XEN) Xen version 4.17\r\n[    0.1] Linux version 6.1\r\n")
    line.close()
    assert "nobody asked for it" in console.ended()
    with pytest.raises(HypervisorError, match="reset: the machine was reset or switched off by it"):
        console.check()
    assert [seen.event.kind for seen in console.events] == ["reset"]


def test_a_machine_that_dom0_switched_off_is_no_crash(
    wired: tuple[Console, socket.socket],
) -> None:
    console, line = wired
    line.sendall(b"(XEN) Xen version 4.17\r\n(XEN) Hardware Dom0 halted: halting machine\r\n")
    line.close()
    assert "Hardware Dom0 halted" in console.ended()
    console.check()
