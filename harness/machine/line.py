# SPDX-License-Identifier: GPL-2.0-or-later
"""A line from this computer to a program in dom0 (an AgentChannel).

Under QEMU it is a virtio-serial line.  That is a device of the machine: after a restore it works
again without a new connection.  On a server the line is an SSH channel.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from harness.machine.patience import WALL, Clock, Deadline

_LOOK_SECONDS = 0.25  # between two calls of ``watch``, while nothing comes


def connect_socket(path: Path, seconds: float) -> socket.socket:
    """Connect to the UNIX socket ``path``; OSError if nobody listens there within ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        end = socket.socket(socket.AF_UNIX)
        try:
            end.connect(str(path))
            return end
        except OSError:
            end.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


class End(Protocol):
    """The part of a socket (or of an SSH channel) that a line needs."""

    def recv(self, size: int, /) -> bytes: ...

    def sendall(self, data: bytes, /) -> None: ...

    def settimeout(self, seconds: float | None, /) -> None: ...

    def setblocking(self, blocking: bool, /) -> None: ...

    def close(self) -> None: ...


class Line:
    """Our end of a line; ``name`` is the port's name in the guest's /sys/class/virtio-ports.

    Seconds are those of ``clock``.  While nothing comes, ``watch`` is called again and again with
    the seconds of silence so far.  It raises if the machine has died, so that nobody waits for an
    answer that cannot come.
    """

    def __init__(self, end: End, name: str, clock: Clock = WALL) -> None:
        self._end = end
        self.name = name
        self.clock = clock
        self.watch: Callable[[float], None] = lambda silent: None

    def write(self, data: bytes) -> None:
        """Send all of ``data``; OSError when the machine is gone."""
        self._end.settimeout(None)
        self._end.sendall(data)

    def read(self, limit: int, timeout: float) -> bytes:
        """Return 1..``limit`` bytes, b"" at the end; TimeoutError after ``timeout`` seconds.

        Raises what ``watch`` raises.
        """
        deadline = Deadline(self.clock, timeout)
        while True:
            left = deadline.left
            self._end.settimeout(max(0.001, min(left, _LOOK_SECONDS)))
            try:
                return self._end.recv(limit)
            except TimeoutError:
                left = deadline.left
                self.watch(timeout - left)
                if left <= 0:
                    raise TimeoutError(f"{self.name}: silent for {timeout:.1f} s") from None
            except OSError:
                return b""

    def close(self) -> None:
        """Do nothing: the line stays open for the next client of the program."""

    def empty(self) -> None:
        """Discard what has arrived and was not read."""
        self._end.setblocking(False)
        with contextlib.suppress(OSError):
            while self._end.recv(1 << 20):
                pass

    def hang_up(self) -> None:
        """Close the line."""
        self._end.close()
