# SPDX-License-Identifier: GPL-2.0-or-later
"""GDB's remote serial protocol, the part that QEMU's gdbstub needs.

The protocol's thread N is the machine's CPU N - 1.  Source: the protocol's description in GDB's
manual ("Remote Serial Protocol") and the answers of QEMU 7.2.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.machine.line import connect_socket
from harness.verdict import LabError

_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 10.0
_RUN_LENGTH = re.compile(rb"(.)\*(.)", re.DOTALL)
_THREAD = re.compile(r"thread:p0*1\.([0-9a-f]+);")
_CHUNK = 1 << 16
_WHERE = "gdbstub"
_LARGEST = 1 << 20  # bytes of a packet


@dataclass(frozen=True)
class Stop:
    """Why the machine stopped."""

    signal: int  # SIGTRAP: stop point or single step; SIGINT: ``halt``
    cpu: int  # from 0


class StubLost(LabError):
    """The gdbstub does not answer, or not as it should."""


class Stub:
    """The connection to one machine's gdbstub.  Connecting halts the machine."""

    def __init__(self, path: Path) -> None:
        """Connect to the UNIX socket ``path``; StubLost if nobody listens there."""
        self._end = _connect(path)
        self._pending = bytearray()
        self._running = False
        self._selected: int | None = None  # the CPU whose registers and memory are read
        supported = self.ask("qSupported:multiprocess+;vContSupported+")
        while supported.startswith("T"):  # a stop reply: connecting has halted it
            supported = self._packet(time.monotonic() + _ANSWER_SECONDS)
        if "multiprocess+" not in supported or "vContSupported+" not in supported:
            raise StubLost(f"cannot run one CPU alone: {supported!r}", where=_WHERE)

    # -- registers, memory, stop points ----------------------------------------------------

    def ask(self, packet: str) -> str:
        """Send ``packet`` and return the answer; TimeoutError when none comes within 10 s."""
        self._send(packet)
        return self._packet(time.monotonic() + _ANSWER_SECONDS)

    def registers(self, cpu: int) -> bytes:
        """Return the registers of ``cpu``, in the order of the stub."""
        self._select(cpu)
        return self._hex("g")

    def read(self, cpu: int, address: int, size: int) -> bytes:
        """Return ``size`` bytes at the virtual ``address`` that ``cpu`` sees."""
        self._select(cpu)
        return self._hex(f"m{address:x},{size:x}")

    def write(self, cpu: int, address: int, data: bytes) -> None:
        """Write ``data`` to the virtual ``address`` that ``cpu`` sees."""
        self._select(cpu)
        packet = f"M{address:x},{len(data):x}:{data.hex()}"
        self._good(self.ask(packet), packet)

    def insert(self, address: int) -> None:
        """Stop every CPU that is about to execute ``address``."""
        self._good(self.ask(f"Z1,{address:x},1"), "Z1")

    def remove(self, address: int) -> None:
        """Remove the stop point at ``address``."""
        self._good(self.ask(f"z1,{address:x},1"), "z1")

    # -- running ---------------------------------------------------------------------------

    def go(self) -> None:
        """Let all CPUs run; ``wait`` returns when one stops."""
        self._run("vCont;c")

    def go_only(self, cpus: Iterable[int]) -> None:
        """Let ``cpus`` run, all others stay halted; ``wait`` returns when one stops."""
        self._run("vCont" + "".join(f";c:p1.{cpu + 1:x}" for cpu in cpus))

    def step(self, cpu: int) -> Stop:
        """Let ``cpu`` alone execute one instruction; it takes no interrupt."""
        self._run(f"vCont;s:p1.{cpu + 1:x}")
        stop = self.wait(_ANSWER_SECONDS)
        if stop is None:
            raise StubLost(f"CPU{cpu} does not execute a single step", where=_WHERE)
        return stop

    def wait(self, seconds: float) -> Stop | None:
        """Wait until the machine stops; return why, or None if it runs on after ``seconds``."""
        try:
            answer = self._packet(time.monotonic() + seconds)
        except TimeoutError:
            return None
        self._running = False
        stop = _stop(answer)
        self._selected = stop.cpu
        return stop

    def halt(self) -> Stop:
        """Halt the running machine.  A CPU may have stopped for another reason just before."""
        self._end.sendall(b"\x03")
        stop = self.wait(_ANSWER_SECONDS)
        if stop is None:
            raise StubLost("does not stop the machine", where=_WHERE)
        return stop

    @contextmanager
    def halted(self) -> Iterator[None]:
        """Keep the machine halted in the block; then let it run."""
        if self._running:
            self.halt()
        yield
        self.go()

    def close(self) -> None:
        """Let the machine run without stop points, and close the connection.  Never raise."""
        try:
            if self._running:
                self.halt()
            self.ask("D;1")
        except (OSError, StubLost):
            pass  # the machine is gone
        finally:
            self._end.close()

    def _run(self, packet: str) -> None:
        self._send(packet)
        self._running = True

    # -- packets ---------------------------------------------------------------------------

    def _select(self, cpu: int) -> None:
        if cpu != self._selected:
            packet = f"Hgp1.{cpu + 1:x}"
            self._good(self.ask(packet), packet)
            self._selected = cpu

    def _good(self, answer: str, packet: str) -> str:
        if not answer or re.fullmatch(r"E[0-9a-fA-F]{2}", answer):
            raise StubLost(f"answers {answer!r} to {packet}", where=_WHERE)
        return answer

    def _hex(self, packet: str) -> bytes:
        answer = self._good(self.ask(packet), packet)
        try:
            return bytes.fromhex(answer)
        except ValueError:
            raise StubLost(f"answers {answer[:40]!r} to {packet}", where=_WHERE) from None

    def _send(self, packet: str) -> None:
        self._end.sendall(frame(packet))

    def _packet(self, deadline: float) -> str:
        """Return the next packet, acknowledged; TimeoutError at ``deadline``."""
        while True:
            taken = unframe(self._pending)
            if taken is not None:
                self._end.sendall(b"+")
                return taken
            self._end.settimeout(max(0.001, deadline - time.monotonic()))
            data = self._end.recv(_CHUNK)
            if not data:
                raise StubLost("has hung up", where=_WHERE)
            self._pending += data
            if len(self._pending) > _LARGEST:
                raise StubLost(f"sends a packet without end: {self._pending[:40]!r}", where=_WHERE)


def frame(packet: str) -> bytes:
    """Return ``packet`` with its frame and check sum, as it is sent."""
    body = packet.encode("ascii")
    return b"$" + body + b"#%02x" % (sum(body) & 0xFF)


def unframe(pending: bytearray) -> str | None:
    """Remove the first complete packet from ``pending`` and return its text; None if there is none.

    StubLost if its check sum is wrong.
    """
    begin = pending.find(b"$")
    end = pending.find(b"#", begin)
    if begin < 0 or end < 0 or len(pending) < end + 3:
        return None
    body, check = bytes(pending[begin + 1 : end]), bytes(pending[end + 1 : end + 3])
    del pending[: end + 3]
    try:
        if int(check, 16) == sum(body) & 0xFF:
            return _RUN_LENGTH.sub(lambda m: m[1] * (m[2][0] - 28), body).decode("ascii")
    except ValueError:
        pass
    raise StubLost(f"garbled: {body[:40]!r}", where=_WHERE)


def _stop(answer: str) -> Stop:
    thread = _THREAD.search(answer)
    if not re.match(r"T[0-9a-f]{2}", answer) or thread is None:
        raise StubLost(f"stops with {answer!r}", where=_WHERE)
    return Stop(int(answer[1:3], 16), int(thread[1], 16) - 1)


def _connect(path: Path) -> socket.socket:
    try:
        return connect_socket(path, _CONNECT_SECONDS)
    except OSError as error:
        raise StubLost(f"nobody listens: {error.strerror}", where=str(path)) from error
