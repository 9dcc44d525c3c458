# SPDX-License-Identifier: GPL-2.0-or-later
"""labgrid: places of a coordinator, their reservations and power, by its own client."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import command
from harness.command import CommandFailed
from harness.config.physical import LabgridPower, PowerDriver
from harness.machine.power import State, Unsupported
from harness.verdict import LabError

_SECONDS = 60.0
_OURS = re.compile(r"You have already acquired place \S+$")  # else it adds: on HOST


class Labgrid:
    """The power of a place."""

    def __init__(self, section: LabgridPower) -> None:
        self._section = section

    @property
    def name(self) -> str:
        """The place."""
        return f"labgrid {self._section.place}"

    @property
    def tells_state(self) -> bool:
        """Those power drivers of labgrid do that have it."""
        return True

    def on(self) -> None:
        """``power on``."""
        self._client("power", "on")

    def off(self) -> None:
        """``power off``."""
        self._client("power", "off")

    def soft_off(self) -> None:
        """labgrid knows none."""
        raise Unsupported("labgrid has no soft off", where=self.name)

    def nmi(self) -> None:
        """labgrid knows none."""
        raise Unsupported("labgrid has no NMI", where=self.name)

    def state(self) -> State:
        """``power get``: "power for place PLACE is on"."""
        found = re.search(r"\bis (on|off)\b", self._client("power", "get"))
        return "unknown" if found is None else "on" if found[1] == "on" else "off"

    @contextmanager
    def held(self, ours: Callable[[], None]) -> Iterator[None]:
        """Acquire the place for the block, so that no other user of labgrid takes it.

        A run of ours on this computer that was killed may still have it: our lease says that there
        is none any more.  At the end it is released, unless ``ours`` raises: then the server is
        another run's.
        """
        try:
            self._client("acquire")
        except LabError as error:
            if not _OURS.search(error.what):
                raise
        try:
            yield
        finally:
            # Only if it is still ours: "release" would end any harness's, after somebody (an
            # administrator) had released ours and another run had acquired the place.
            with contextlib.suppress(LabError):
                ours()
                self._client("release-from", f"{_host()}/{_user()}")

    def _client(self, *words: str) -> str:
        section = self._section
        where = [f"--coordinator={section.coordinator}", f"--place={section.place}"]
        argv = [_program(), *where, *words]
        env = {"LG_USERNAME": _user(), "LG_HOSTNAME": _host()}
        try:
            return command.run(argv, env=env, timeout=_SECONDS)
        except CommandFailed as error:
            lines = [line for line in error.output.strip().splitlines() if line.strip()]
            why = lines[-1].strip() if lines else error.what
            raise LabError(f"labgrid-client {' '.join(words)}: {why}", where=self.name) from None


@contextmanager
def places(
    sections: Iterable[PowerDriver], ours: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold every labgrid place among ``sections`` for the block; LabError when one is taken.

    ``ours`` raises LabError if the lease of the server is lost: then no place is released.
    """
    with contextlib.ExitStack() as stack:
        for section in sections:
            if isinstance(section, LabgridPower):
                stack.enter_context(Labgrid(section).held(ours))
        yield


def _user() -> str:
    return os.environ.get("LG_USERNAME", "evtchn-harness")


def _host() -> str:
    return os.environ.get("LG_HOSTNAME", socket.gethostname())


def _program() -> str:
    beside = Path(sys.executable).with_name("labgrid-client")
    found = str(beside) if beside.exists() else shutil.which("labgrid-client")
    if found is None:
        raise LabError(
            "labgrid-client is not installed",
            hint="run: pip install 'xen-evtchn-harness[labgrid]'",
        )
    return found
