# SPDX-License-Identifier: GPL-2.0-or-later
"""A program that shows the serial line, on a terminal of its own."""

from __future__ import annotations

import contextlib
import os
import select
import tty
from collections.abc import Mapping, Sequence

import pexpect

from harness import command
from harness.verdict import LabError


class Program:
    """``words`` run on a raw pseudo terminal; they end when it does, SIGKILL of ours included."""

    def __init__(self, words: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        # Before the fork: in the child, pexpect would not end what fails for this reason.
        command.check(words, env or {})
        try:
            self._child = pexpect.spawn(
                words[0],
                list(words[1:]),
                env={**os.environ, **(env or {})},
                echo=False,
                timeout=None,
            )
        except pexpect.ExceptionPexpect as error:
            raise LabError(f"cannot start {words[0]}: {error}", where="console") from None
        self._terminal = self._child.child_fd
        tty.setraw(self._terminal)

    def recv(self, size: int, /) -> bytes:
        """Return what the program prints; b"" when it has ended."""
        try:
            return os.read(self._terminal, size)
        except OSError:  # EIO: nobody has the other end open
            return b""

    def comes(self, seconds: float) -> bool:
        """Wait for output or the end, at most ``seconds``; return whether there is one of them."""
        return bool(select.select([self._terminal], [], [], seconds)[0])

    def sendall(self, data: bytes, /) -> None:
        """Type ``data``."""
        while data:
            data = data[os.write(self._terminal, data) :]

    def shutdown(self, _how: int, /) -> None:
        """End the program."""
        with contextlib.suppress(OSError, pexpect.ExceptionPexpect):
            self._child.terminate(force=True)

    def close(self) -> None:
        """End the program and its terminal."""
        with contextlib.suppress(OSError, pexpect.ExceptionPexpect):
            self._child.close(force=True)
