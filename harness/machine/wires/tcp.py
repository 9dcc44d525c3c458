# SPDX-License-Identifier: GPL-2.0-or-later
"""A serial line at a TCP port, raw or in the telnet protocol (RFC 854)."""

from __future__ import annotations

import socket

from harness.config.physical import TcpConsole
from harness.machine.wires import Wire
from harness.verdict import LabError

_SECONDS = 15.0  # to connect
_IAC, _DONT, _DO, _WONT, _WILL, _SB, _SE = 255, 254, 253, 252, 251, 250, 240
_NUL = 0
_BINARY, _ECHO, _SUPPRESS_GO_AHEAD = 0, 1, 3
# A negotiation of one option is some bytes long.  What is longer is none: it is passed over, so
# that nobody makes us wait for its end, with ever more of it in memory.
_LONGEST = 4096
_WANTED = {_BINARY, _ECHO, _SUPPRESS_GO_AHEAD}  # of the other side: characters as they come


def tcp(section: TcpConsole) -> Wire:
    """Connect; LabError when nobody listens."""
    try:
        line = socket.create_connection((section.address, section.port), timeout=_SECONDS)
    except OSError as error:
        raise LabError(
            f"cannot reach the serial line: {error.strerror or error}",
            where=f"console {section.address}:{section.port}",
        ) from None
    line.settimeout(None)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return Telnet(line) if section.protocol == "telnet" else line


class Telnet:
    """A socket without telnet's own words: they are answered and taken out."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._rest = b""  # of a command that has come in part
        self._after_cr = False  # a NUL that comes next only says that the CR stands alone
        self._binary = False  # True: the other side sends bytes as they are (RFC 856)

    def recv(self, size: int, /) -> bytes:
        """Return the characters of what comes."""
        while data := self._line.recv(size):
            text, answer = self._split(self._rest + data)
            if answer:
                self._line.sendall(answer)
            if text:
                return text
        return b""

    def sendall(self, data: bytes, /) -> None:
        """Send characters; one that looks like a command is doubled."""
        self._line.sendall(data.replace(b"\xff", b"\xff\xff"))

    def shutdown(self, how: int, /) -> None:
        """End the connection."""
        self._line.shutdown(how)

    def close(self) -> None:
        """Close the socket."""
        self._line.close()

    def _split(self, data: bytes) -> tuple[bytes, bytes]:
        """Return (characters, answers) of ``data``; keep what is a command's beginning."""
        text, answer, at = bytearray(), bytearray(), 0
        ends = _Ends(data)
        self._rest = b""
        while at < len(data):
            command = data.find(_IAC, at)
            command = len(data) if command < 0 else command
            text += self._without_nul(data[at:command])
            at = command
            if at == len(data):
                break
            length = _length(data, at, ends)
            if length == 0 and len(data) - at <= _LONGEST:
                self._rest = data[at:]
                break
            if length == 0 or length > _LONGEST:
                at += 2
                continue
            if data[at + 1] == _IAC:
                text.append(_IAC)
                self._after_cr = False
            if data[at : at + length] == bytes((_IAC, _WILL, _BINARY)):
                self._binary = True
            answer += _reply(data[at : at + length])
            at += length
        return bytes(text), bytes(answer)

    def _without_nul(self, text: bytes) -> bytes:
        """Return ``text`` without the NULs that only say of a CR that it stands alone."""
        if not text or self._binary:
            return text
        if self._after_cr and text[0] == _NUL:
            text = text[1:]
        self._after_cr = text.endswith(b"\r")
        return text.replace(b"\r\0", b"\r")


class _Ends:
    """Where negotiations end in ``data``, looked for once."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._next = 0  # the first one from where we are on; -1: there is none

    def after(self, at: int) -> int:
        """Return where the first end from ``at`` on is; -1 if there is none.  Only go on."""
        if 0 <= self._next < at or self._next == 0:
            self._next = self._data.find(bytes((_IAC, _SE)), at)
        return self._next


def _length(data: bytes, at: int, ends: _Ends) -> int:
    """Return how long the command at ``at`` is, 0 when it is not whole yet."""
    there = len(data) - at
    if there < 2:
        return 0
    if data[at + 1] == _SB:
        end = ends.after(at)
        return 0 if end < 0 else end + 2 - at
    size = 3 if data[at + 1] in (_DONT, _DO, _WONT, _WILL) else 2
    return size if there >= size else 0


def _reply(command: bytes) -> bytes:
    """Return the answer to a negotiation: yes to plain characters, no to everything else.

    What is refused or given up needs no answer, and one would go round for ever.
    """
    if len(command) == 3 and command[1] == _WILL:
        return bytes((_IAC, _DO if command[2] in _WANTED else _DONT, command[2]))
    if len(command) == 3 and command[1] == _DO:
        agreed = command[2] in (_BINARY, _SUPPRESS_GO_AHEAD)
        return bytes((_IAC, _WILL if agreed else _WONT, command[2]))
    return b""
