# SPDX-License-Identifier: GPL-2.0-or-later
"""A serial line behind a console server's SSH."""

from __future__ import annotations

import paramiko

from harness.config.physical import SshConsole
from harness.machine import shell


class Behind:
    """A program on the console server, its output and input being the line's."""

    def __init__(self, session: shell.Shell, command: str) -> None:
        self._session = session
        self._channel: paramiko.Channel = session.channel(command)

    def recv(self, size: int, /) -> bytes:
        """Return what comes."""
        return self._channel.recv(size)

    def sendall(self, data: bytes, /) -> None:
        """Type ``data``."""
        self._channel.sendall(data)

    def shutdown(self, _how: int, /) -> None:
        """End the session."""
        self._session.close()

    def close(self) -> None:
        """End the session."""
        self._session.close()


def ssh(section: SshConsole) -> Behind:
    """Log in at the console server; LabError when it does not let us."""
    session = shell.connect(
        section.address, section.port, section.user, section.key_file, section.host_key
    )
    return Behind(session, section.command)
