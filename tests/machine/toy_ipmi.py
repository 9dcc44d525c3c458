# SPDX-License-Identifier: GPL-2.0-or-later
"""A BMC that speaks IPMI 2.0 over LAN on loopback, for the real ipmitool to talk to.

It has cipher suite 1 (RAKP-HMAC-SHA1, then nothing): enough for a session, by the standard library
alone.  OpenIPMI's simulator, which the rack uses, cannot be made to refuse as vendors' BMCs do.
Numbers of sections are those of the specification of IPMI 2.0, revision 1.1.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

CIPHER = 1
_RMCP = bytes.fromhex("0600ff07")
_OPEN, _RAKP_1, _RAKP_3 = 0x10, 0x12, 0x14  # payload types, 13.27.3; an answer has the next one
_CHASSIS, _APPLICATION, _TRANSPORT = 0x00, 0x06, 0x0C  # network functions
ORDERS = {0: "off", 1: "on", 2: "cycle", 3: "reset", 4: "diag", 5: "soft"}  # 28.3


@dataclass
class ToyIpmi:
    """The server behind it is off at first.

    ``refuses`` returns the completion code of an order to a server that is on or off; an order
    that gets 0 takes effect ``delay`` seconds later.  ``open_status`` and ``rakp_status`` are the
    status codes of a session that it does not give (13.24), 0 if it does.  ``orders`` has every
    order that came, with its completion code.
    """

    user: str = "root"
    password: str = "calvin"
    refuses: Callable[[str, bool], int] = lambda order, is_on: 0
    delay: float = 0.0
    open_status: int = 0
    rakp_status: int = 0
    privilege_code: int = 0  # of Set Session Privilege Level
    sol_code: int = 0  # of Activate Payload
    is_on: bool = False
    orders: list[tuple[str, int]] = field(default_factory=list)
    _changes: tuple[float, bool] | None = None

    def powered(self) -> bool:
        """Return whether the server is on now."""
        if self._changes and time.monotonic() >= self._changes[0]:
            self.is_on, self._changes = self._changes[1], None
        return self.is_on

    def obey(self, order: str) -> int:
        """Return the completion code of ``order``."""
        code = self.refuses(order, self.powered())
        self.orders.append((order, code))
        if code == 0 and order in ("on", "off"):
            self._changes = (time.monotonic() + self.delay, order == "on")
        return code


@contextmanager
def serve(bmc: ToyIpmi) -> Iterator[int]:
    """Serve ``bmc`` on loopback; yield its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.bind(("127.0.0.1", 0))
        wire.settimeout(0.1)
        done = threading.Event()

        def listen() -> None:
            lan = _Lan(bmc)
            while not done.is_set():
                try:
                    asked, sender = wire.recvfrom(1024)
                except TimeoutError:
                    continue
                if answer := lan.answer(asked):
                    wire.sendto(answer, sender)

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield wire.getsockname()[1]
        finally:
            done.set()
            thread.join()


class _Lan:
    """The BMC's side of one session after the other."""

    def __init__(self, bmc: ToyIpmi) -> None:
        self._bmc = bmc
        self._key = bmc.password.encode().ljust(20, b"\0")
        self._ours, self._theirs = b"\1\2\3\4", bytes(4)  # the session's two numbers
        self._random, self._guid = os.urandom(16), bytes(range(16))
        self._challenge, self._who = b"", b""  # the console's random number; its role and name
        self._sequence = 0

    def answer(self, asked: bytes) -> bytes:
        if asked[4] != 6:  # a message of IPMI 1.5: there is no session yet
            said = self._command(asked[14:])
            return _RMCP + bytes(9) + bytes([len(said)]) + said
        kind = asked[5] & 0x3F
        (size,) = struct.unpack_from("<H", asked, 14)
        body = asked[16 : 16 + size]
        match kind:
            case 0:
                self._sequence += 1
                return self._wrapped(0, self._command(body), session=self._theirs)
            case 0x10:
                return self._wrapped(_OPEN + 1, self._opened(body))
            case 0x12:
                return self._wrapped(_RAKP_1 + 1, self._rakp_2(body))
            case 0x14:
                return self._wrapped(_RAKP_3 + 1, self._rakp_4(body))
        return b""

    def _wrapped(self, kind: int, body: bytes, session: bytes = bytes(4)) -> bytes:
        number = self._sequence if session != bytes(4) else 0
        return _RMCP + bytes([6, kind]) + session + struct.pack("<IH", number, len(body)) + body

    def _opened(self, body: bytes) -> bytes:
        """Open Session Response, 13.18."""
        self._theirs = body[4:8]
        if status := self._bmc.open_status:
            return bytes([body[0], status, 0, 0]) + self._theirs
        return bytes([body[0], 0, body[1] or 4, 0]) + self._theirs + self._ours + body[8:32]

    def _rakp_2(self, body: bytes) -> bytes:
        """RAKP Message 2, 13.21."""
        self._challenge, self._who = body[8:24], body[24:25] + body[27 : 28 + body[27]]
        status = self._bmc.rakp_status
        if self._who[2:] != self._bmc.user.encode():
            status = 0x0D  # unauthorized name
        if status:
            return bytes([body[0], status, 0, 0]) + self._theirs
        told = self._theirs + self._ours + self._challenge + self._random + self._guid + self._who
        known = self._theirs + self._random + self._guid
        return bytes([body[0], 0, 0, 0]) + known + self._signed(self._key, told)

    def _rakp_4(self, body: bytes) -> bytes:
        """RAKP Message 4, 13.23."""
        key = self._signed(self._key, self._challenge + self._random + self._who)
        told = self._signed(key, self._challenge + self._ours + self._guid)[:12]
        return bytes([body[0], 0, 0, 0]) + self._theirs + told

    def _signed(self, key: bytes, message: bytes) -> bytes:
        return hmac.new(key, message, hashlib.sha1).digest()

    def _command(self, asked: bytes) -> bytes:
        """Return the response to a message of 13.8."""
        function, sequence, command, data = asked[1] >> 2, asked[4], asked[5], asked[6:-1]
        head = bytes([asked[3], (function | 1) << 2])
        body = bytes([asked[0], sequence, command]) + self._said(function, command, data)
        return head + _sum(head) + body + _sum(body)

    def _said(self, function: int, command: int, data: bytes) -> bytes:
        """Return the completion code and what follows it."""
        bmc = self._bmc
        match function, command:
            case (0x06, 0x38):  # Get Channel Authentication Capabilities
                return bytes([0, 1, 0x80, 0x04, 0x02, 0, 0, 0, 0])
            case (0x06, 0x3B):  # Set Session Privilege Level
                return bytes([bmc.privilege_code]) + (b"" if bmc.privilege_code else data[:1])
            case (0x06, 0x3C):  # Close Session
                return bytes([0])
            case (0x06, 0x48):  # Activate Payload
                return bytes([bmc.sol_code or 0x81])
            case (0x06, 0x49):  # Deactivate Payload: there is none
                return bytes([0x80])
            case (0x00, 0x01):  # Get Chassis Status
                return bytes([0, 0x20 | bmc.powered(), 0, 0])
            case (0x00, 0x02):  # Chassis Control
                return bytes([bmc.obey(ORDERS[data[0]])])
            case (0x0C, 0x22):  # Get SOL Configuration Parameters: enabled, at 115.2 kbps
                return bytes([0, 0x11, {1: 1, 5: 0x0A, 6: 0x0A}.get(data[1], 0), 0])
        return bytes([0xC1])


def _sum(part: bytes) -> bytes:
    return bytes([-sum(part) & 0xFF])
