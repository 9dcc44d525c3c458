# SPDX-License-Identifier: GPL-2.0-or-later
"""A hostile guest: its agent and its console send whatever they like, through the real code.

The wire is a socket pair and there is no QEMU.  What is asked: an error that says why, whose
verdict is MISS or FAIL, in bounded time and memory; and that the others are served all the while.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.agent import wire
from harness.agent.client import AgentClient
from harness.agent.wire import AgentGarbled, AgentLost
from harness.hypervisor import console_lines
from harness.machine import console_log
from harness.machine.console import Console
from harness.machine.line import Line
from harness.run import agents
from harness.verdict import HypervisorError, LabError, Verdict
from tests.agent.fake_agent import FakeAgent
from tests.fuzz.outcomes import memory

pytestmark = pytest.mark.slow

HELLO = FakeAgent(1, [])._answer("hello", "hello")
SECONDS = 1.0  # for which a console floods


@contextlib.contextmanager
def sends(parts: Iterator[bytes], seconds: float = 30.0) -> Iterator[socket.socket]:
    """Yield our end of a line on whose other end ``parts`` are sent, for so long at most."""
    ours, theirs = socket.socketpair()

    def flood() -> None:
        until = time.monotonic() + seconds
        with contextlib.suppress(OSError):
            while time.monotonic() < until and (part := next(parts, b"")):
                theirs.sendall(part)
            theirs.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    try:
        yield ours
    finally:
        for end in (ours, theirs):
            end.close()
        thread.join(10)


def _slowly() -> Iterator[bytes]:
    for _ in range(1000):
        time.sleep(0.05)
        yield b"o"


# -- the agent -----------------------------------------------------------------------------

MANY = b"a" * 65536
HOSTILE: dict[str, tuple[Callable[[], Iterator[bytes]], str]] = {
    "a line without end": (lambda: itertools.repeat(MANY), "a line without end"),
    "zeros without end": (lambda: itertools.repeat(bytes(65536)), "a line without end"),
    "lines that are none": (lambda: itertools.repeat(b"\n" * 65536), "not an answer"),
    "markup": (lambda: itertools.repeat(b"ok [/x] <script>\x1b[2J\x1b]0;me\x07\n"), "no number"),
    "a payload of a TiB": (lambda: iter([b"ok bytes=%d\n" % (1 << 40)]), "a payload of"),
    "a negative payload": (lambda: iter([b"ok bytes=-9\n"]), "a payload of -9"),
    "a payload that is no number": (lambda: iter([b"ok bytes=many\n"]), "no number 'bytes'"),
    "a number without end": (lambda: iter([b"ok protocol=" + b"9" * 8000 + b"\n"]), "no number"),
    "no release": (lambda: iter([HELLO.replace(b"4.17", b"x.y")]), "its greeting cannot be"),
    "no architecture": (lambda: iter([HELLO.replace(b"x86_64", b"vax")]), "its greeting cannot"),
    "a clock that stands": (lambda: iter([HELLO.replace(b"tick_hz=1", b"tick_hz=-1")]), "its gree"),
    "millions of vCPUs": (lambda: iter([HELLO.replace(b"vcpus=", b"vcpus=9999999")]), "its greet"),
    "nothing, and the end": (lambda: iter([]), "channel ended"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_agent_is_a_lab_fault_with_the_reason(name: str) -> None:
    parts, told = HOSTILE[name]
    began = time.monotonic()
    with memory(4), sends(parts()) as end:
        agent = AgentClient(Line(end, "agent of domu1"), "domu1")
        with pytest.raises(AgentLost, match=told) as caught:
            agent.hello()
        assert caught.value.verdict is Verdict.MISS
        assert len(str(caught.value)) < 1000
    assert time.monotonic() - began < 20


def test_an_agent_that_answers_a_byte_now_and_then_is_late() -> None:
    with sends(_slowly()) as end:
        agent = AgentClient(Line(end, "agent of domu1"), "domu1")
        began = time.monotonic()
        with pytest.raises(AgentLost, match="no answer to 'ticks' within 1 s"):
            agent.connection.ask("ticks", timeout=1.0)
        assert time.monotonic() - began < 10


def test_a_payload_that_comes_byte_by_byte_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_SLOWEST", 1 << 20)
    parts = itertools.chain([b"ok vcpu=0 lost=0 bytes=4096\n"], _slowly())
    with sends(parts) as end:
        agent = AgentClient(Line(end, "agent of domu1"), "domu1")
        began = time.monotonic()
        with pytest.raises(AgentLost, match="no answer to 'collect'"):
            agent.collect(0, timeout=1.0)
        assert time.monotonic() - began < 10


def test_records_without_end_take_the_memory_of_the_limit_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "_LARGEST_PAYLOAD", 1 << 20)
    parts = itertools.chain([b"ok vcpu=0 lost=0 bytes=1048576\n"], itertools.repeat(MANY))
    with memory(8), sends(parts) as end:
        agent = AgentClient(Line(end, "agent of domu1"), "domu1")
        with pytest.raises(LabError, match="pages of records are damaged"):
            agent.collect(0)


def test_an_agent_that_says_it_is_dom0_is_not_believed() -> None:
    greeting = FakeAgent(0, [])._answer("hello", "hello")
    with sends(iter([greeting])) as end, pytest.raises(AgentGarbled) as caught:
        agents.greet({"domu1": 7}, [Line(end, "x")], lambda line: None)
    told = "domu1: the agent says that it is in domain 0, and its domain is 7"
    assert str(caught.value) == told


def _is_lost(agent: AgentClient) -> None:
    with pytest.raises(AgentLost):
        agent.hello()


def test_a_good_agent_beside_a_hostile_one_is_served() -> None:
    good = FakeAgent(0, [])
    with sends(itertools.repeat(MANY)) as end:
        bad = AgentClient(Line(end, "agent of domu1"), "domu1")
        dom0 = AgentClient(good, "dom0")
        asking = threading.Thread(target=_is_lost, args=(bad,))
        asking.start()
        for _ in range(50):
            assert dom0.clock().error == 100
        asking.join(20)
        assert not asking.is_alive() and dom0.domid == 0


# -- the console ----------------------------------------------------------------------------

PANIC = b"\r\n(XEN) Panic on CPU 1:\r\n(XEN) FATAL TRAP\r\n"
FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "a line without end": lambda: itertools.repeat(MANY),
    "empty lines": lambda: itertools.repeat(b"\n" * 512),
    "escape codes": lambda: itertools.repeat(b"\x1b[2J\x1b]0;me\x07\x1b[31m" * 300),
    "markup": lambda: itertools.repeat(b"[/x][bold]<script>alert(1)</script>\r\n" * 100),
    "marks of Xen": lambda: itertools.repeat(b"(XEN) " * 5000),
    "broken lines": lambda: itertools.repeat(b"xxxx(XEN) y\n" * 500),
    "panics of Linux": lambda: itertools.repeat(b"Kernel panic - not syncing: x\r\n" * 100),
    "a line number without end": lambda: itertools.repeat(b"Xen BUG at x.c:" + b"9" * 9000 + b"\n"),
    "no text": lambda: itertools.repeat(bytes(range(256)) * 64),
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """Logs of at most so many bytes, as a guest cannot print 32 MiB in a second here."""
    monkeypatch.setattr(console_log.ConsoleLog.__init__, "__defaults__", (1 << 18, 1 << 17))
    return (1 << 18) + 2 * (1 << 17) + 1000


@pytest.mark.parametrize("name", FLOODS)
def test_a_console_that_floods_takes_no_memory_no_disk_and_hides_no_panic(
    name: str, tmp_path: Path, small: int
) -> None:
    told = iter([b"(XEN) Xen version 4.17\r\n"])
    parts = itertools.chain(told, itertools.islice(FLOODS[name](), 3000), iter([PANIC]))
    last = threading.Event()

    def until_late() -> Iterator[bytes]:
        end = time.monotonic() + SECONDS
        for part in parts:
            if time.monotonic() > end:
                break
            yield part
        yield PANIC
        last.set()

    console = Console(tmp_path / "console")
    good = [f"good line {number}\n".encode() for number in range(2000)]
    with memory(40), sends(until_late()) as end:
        console.attach(end)
        console.follow("domu1", iter(good))
        assert last.wait(60)
        for reader in console._readers:
            reader.join(60)
            assert not reader.is_alive()
        console.close()
    _blamed(console, name)
    for log in (tmp_path / "console").iterdir():
        assert log.stat().st_size <= small and log.suffix == ".log", log
        assert max(map(len, log.read_bytes().split(b"\n"))) < 2 * console_lines.LONGEST
    assert (tmp_path / "console/domu1.log").read_text().count("good line") == 2000


def _blamed(console: Console, name: str) -> None:
    """The first crash is told: Xen's own, or the one that the guest claims of itself."""
    error = HypervisorError if name != "panics of Linux" else LabError
    with pytest.raises(error) as caught:
        console.check()
    assert caught.value.verdict in (Verdict.FAIL, Verdict.MISS)
    assert len(str(caught.value)) < 2 * console_lines.LONGEST
    assert len(console.events) <= 200
    if name == "panics of Linux":
        assert any("more lines report a crash" in note for note in console.notes)


def test_a_log_that_was_capped_has_its_beginning_and_its_end(tmp_path: Path, small: int) -> None:
    lines = [f"line {number} {'x' * 90}\n".encode() for number in range(20_000)]
    console = Console(tmp_path)
    console.follow("domu1", iter(lines))
    console._readers[0].join(60)
    console.close()
    text = (tmp_path / "domu1.log").read_text()
    written = [line.split(" ", 2)[2] for line in text.splitlines() if " line " in line]
    assert written[0].startswith("0 ") and written[-1].startswith("19999 ")
    assert f"{20_000 - len(written):,} lines were left out here" in text
    (note,) = console.notes
    assert note.startswith("the console of domu1 printed too much: ")
    assert [path.name for path in tmp_path.iterdir()] == ["domu1.log"]


def test_a_killed_harness_leaves_the_newest_lines_beside_the_log(tmp_path: Path) -> None:
    log = console_log.ConsoleLog(tmp_path / "xen.log", head=1000, part=500)
    for number in range(100):
        log.write("2026-01-01T00:00:00.000Z", f"line {number}")
    beside = (tmp_path / "xen.log.tail").read_text() + (tmp_path / "xen.log.tail-1").read_text()
    assert "line 99\n" in beside and "the newest lines are in xen.log.tail" in (
        tmp_path / "xen.log").read_text()  # fmt: skip
