# SPDX-License-Identifier: GPL-2.0-or-later
"""IPMI Serial over LAN, by the program ipmitool.

A BMC has one such session.  One that somebody else holds is ended: the lease on the server says
that it is ours.  Who takes it from us does it behind our back: the IPMI session lives on, the
characters go elsewhere, and some BMCs say nothing.  So the BMC is asked now and then who has it.
"""

from __future__ import annotations

import re
import socket
import threading
import time

from harness import command
from harness.command import CommandFailed
from harness.config.physical import SolConsole
from harness.machine.power.ipmi import PATIENCE, arguments, environment, explained
from harness.machine.wires import Taken
from harness.machine.wires.program import Program
from harness.verdict import LabError

_SECONDS = 30.0
_OPEN_SECONDS = 20.0  # until ipmitool says that the session is there
_ASK_SECONDS = 15.0  # between two questions who has the line: what a silent theft costs at most
_ESCAPE = "\x1e"  # ipmitool's own commands begin with it: nothing that we type does
_READY = b"SOL Session operational"
_TAKEN = "somebody else took the Serial over LAN of {address}"
# Get Payload Instance Info (IPMI 2.0, 24.6) of the first instance of type 1, Serial over LAN; it
# answers with the number of the session that has it, 0 for none.
_WHO = ("-N", "1", "-R", "3", "raw", "0x06", "0x4b", "0x01", "0x01")
_ANSWER = re.compile(r"^ ((?:[0-9a-f]{2} ){3}[0-9a-f]{2})(?: [0-9a-f]{2})*$", re.MULTILINE)
_NOBODY = "00 00 00 00"


def sol(section: SolConsole) -> Sol:
    """Open the line; LabError when the BMC does not let us."""
    words, env = arguments(section), environment(section)
    _deactivate(words, env, section)
    line = Sol(words, env, section.address)
    try:
        line.wait_until_open()
    except LabError:
        line.shutdown(socket.SHUT_RDWR)
        line.close()
        raise
    return line


class Sol:
    """The line; it ends with Taken when the BMC says that somebody else has it."""

    def __init__(self, words: list[str], env: dict[str, str], address: str) -> None:
        self._words, self._env = words, env
        self._address = address
        self._program = Program([*words, "-e", _ESCAPE, "sol", "activate"], env)
        self._heard = b""  # of what ipmitool says first, and was not received yet
        self._ended = threading.Event()
        self._ready = threading.Event()
        self._ours: str | None = None  # the number of our session; None: the BMC does not tell
        threading.Thread(target=self._watch, name="sol-watch", daemon=True).start()

    def wait_until_open(self) -> None:
        """Wait until the BMC has opened the line; LabError says why it does not."""
        where = f"console ipmi-sol {self._address}"
        deadline = time.monotonic() + _OPEN_SECONDS
        while _READY not in self._heard:
            if not self._program.comes(max(0.0, deadline - time.monotonic())):
                what = f"the BMC does not open the Serial over LAN within {_OPEN_SECONDS:.0f} s"
                raise LabError(what, where=where)
            if not (data := self._program.recv(4096)):
                said = self._heard.decode(errors="replace").strip().splitlines()
                why = said[-1].removeprefix("Info: ").strip() if said else "ipmitool ended"
                hint = "enable it in the BMC" if "disabled" in why else ""
                raise LabError(f"no Serial over LAN: {why}", where=where, hint=hint)
            self._heard += data
        self._ready.set()

    def recv(self, size: int, /) -> bytes:
        """Return what comes, b"" at the end; Taken when somebody else has it now."""
        if self._heard:
            data, self._heard = self._heard[:size], self._heard[size:]
            return data
        data = self._program.recv(size)
        if data or self._ended.is_set() or not self._ours:
            return data
        if self._who() in (self._ours, _NOBODY, None):
            return b""
        raise Taken(_TAKEN.format(address=self._address))

    def sendall(self, data: bytes, /) -> None:
        """Type ``data``."""
        self._program.sendall(data)

    def shutdown(self, how: int, /) -> None:
        """End the session."""
        self._ended.set()
        self._ready.set()
        self._program.shutdown(how)

    def close(self) -> None:
        """Free what the session holds."""
        self._program.close()

    def _watch(self) -> None:
        """Ask who has the line; end the program when it is no more the session that had it."""
        self._ready.wait()
        if not self._ended.is_set():
            self._ours = self._who()
        while self._ours and not self._ended.wait(_ASK_SECONDS):
            if self._who() not in (self._ours, None):
                self._program.shutdown(socket.SHUT_RDWR)
                return

    def _who(self) -> str | None:
        """Return the number of the session that has the line; None if the BMC does not tell."""
        try:
            said = command.run([*self._words, *_WHO], env=self._env, timeout=_SECONDS)
        except CommandFailed:
            return None
        found = _ANSWER.search(said)
        return found[1] if found else None


def _deactivate(words: list[str], env: dict[str, str], section: SolConsole) -> None:
    """End a session that there may be; LabError when the BMC does not answer."""
    try:
        command.run([*words, *PATIENCE, "sol", "deactivate"], env=env, timeout=_SECONDS)
    except CommandFailed as error:
        if "already" in error.output.lower() or "de-activated" in error.output.lower():
            return  # there was none: as it should be
        where = f"console ipmi-sol {section.address}"
        raise LabError(explained(error, section), where=where) from None
