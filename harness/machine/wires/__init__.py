# SPDX-License-Identifier: GPL-2.0-or-later
"""A server's serial line over the network, as one two-way stream of bytes, whatever carries it.

If the line ends while the harness records it, the harness opens it again and writes a mark into
the recording where bytes may be missing.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol

from harness.config.physical import (
    CommandConsole,
    ConsoleDriver,
    SolConsole,
    SshConsole,
    TcpConsole,
)
from harness.verdict import HarnessError, LabError

_PAUSE_SECONDS = 1.0  # before a line that ended is opened again; twice as long after each failure,
_LONGEST_PAUSE = 5.0  # but not longer than this
_MARK = "the console was lost for {seconds:.1f} s ({why})"


class Taken(OSError):
    """Somebody else took the line from us."""


class Wire(Protocol):
    """The part of a socket that a serial line needs."""

    def recv(self, size: int, /) -> bytes:
        """Wait for 1..``size`` bytes and return them; b"" at the end."""
        ...

    def sendall(self, data: bytes, /) -> None:
        """Send all of ``data``; OSError when the line is gone."""
        ...

    def shutdown(self, how: int, /) -> None:
        """End the line: who waits in ``recv`` gets b""."""
        ...

    def close(self) -> None:
        """Free what the line holds."""
        ...


def opener(section: ConsoleDriver) -> Callable[[], Wire]:
    """Return what opens the line that ``section`` of lab.yaml describes, as often as needed."""
    match section:
        case SolConsole():
            from harness.machine.wires.sol import sol

            return lambda: sol(section)
        case TcpConsole():
            from harness.machine.wires.tcp import tcp

            return lambda: tcp(section)
        case SshConsole():
            from harness.machine.wires.ssh import ssh

            return lambda: ssh(section)
        case CommandConsole():
            from harness.machine.wires.program import Program

            return lambda: Program(section.command)


class Lasting:
    """A wire that is opened anew whenever it ends, until ``shutdown``.

    ``heard`` counts the bytes that came, ``odd`` those that are no text; ``problem`` is why
    there is no line now, "" while there is one.  ``gaps`` counts how often it ended, ``taken``
    how often because somebody else took it.  ``notice`` is told of each gap, once it is over.
    """

    def __init__(
        self, open_wire: Callable[[], Wire], notice: Callable[[str], None] = lambda text: None
    ) -> None:
        """Open the line once; LabError when even that fails."""
        self._open = open_wire
        self._notice = notice
        self._ended = threading.Event()
        self._wire: Wire = open_wire()
        self.problem = ""
        self.gaps = 0
        self.taken = 0
        self.heard = 0
        self.odd = 0

    def recv(self, size: int, /) -> bytes:
        """Return what comes; after a gap, first a line that tells of it."""
        why = "the line ended"
        try:
            data = self._wire.recv(size)
        except Taken as error:
            data, why = b"", str(error)
            self.taken += 1
        except OSError:
            data = b""
        if not data and not self._ended.is_set():
            return self._again(why)
        self.heard += len(data)
        self.odd += sum(
            byte > 126 or (byte < 32 and byte not in b"\r\n\t\b\x1b\0") for byte in data
        )
        return data

    def drain(self) -> None:
        """Read and forget what comes, until ``shutdown``."""
        while self.recv(4096):
            pass

    def sendall(self, data: bytes, /) -> None:
        """Send to the line there is now; LabError when there is none."""
        if self.problem:
            raise LabError(self.problem, where="console")
        self._wire.sendall(data)

    def shutdown(self, how: int, /) -> None:
        """End it for good."""
        self._ended.set()
        with contextlib.suppress(OSError):
            self._wire.shutdown(how)

    def close(self) -> None:
        """Free the line."""
        with contextlib.suppress(OSError):
            self._wire.close()

    def _again(self, why: str) -> bytes:
        began = time.monotonic()
        self.gaps += 1
        self.problem = why
        with contextlib.suppress(OSError):
            self._wire.shutdown(socket.SHUT_RDWR)
        self._wire.close()
        pause = _PAUSE_SECONDS
        while not self._ended.wait(pause):
            try:
                self._wire = self._open()
            except (HarnessError, OSError) as error:
                self.problem = why = str(error)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            self.problem = ""
            mark = _MARK.format(seconds=time.monotonic() - began, why=why)
            self._notice(mark)
            return f"\r\nharness: {mark}\r\n".encode()
        return b""
