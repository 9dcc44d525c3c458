# SPDX-License-Identifier: GPL-2.0-or-later
"""Any command as a power switch: a PDU's own tool, a relay, a script."""

from __future__ import annotations

import re

from harness import command
from harness.config.physical import CommandPower
from harness.machine.power import State, Unsupported

_SECONDS = 60.0  # of one command
_STATE = re.compile(r"\b(on|off)\b", re.IGNORECASE)


class Program:
    """A switch that programs operate."""

    def __init__(self, section: CommandPower) -> None:
        self._section = section

    @property
    def name(self) -> str:
        """The program that switches on."""
        return f"command {self._section.turn_on[0]}"

    @property
    def tells_state(self) -> bool:
        """Only with a command for it."""
        return self._section.state is not None

    def on(self) -> None:
        """Run ``turn_on``."""
        self._run(self._section.turn_on, "turn_on")

    def off(self) -> None:
        """Run ``turn_off``."""
        self._run(self._section.turn_off, "turn_off")

    def soft_off(self) -> None:
        """Run ``soft_off``."""
        self._run(self._section.soft_off, "soft_off")

    def nmi(self) -> None:
        """Run ``nmi``."""
        self._run(self._section.nmi, "nmi")

    def state(self) -> State:
        """Run ``state``; the last on or off that it prints counts."""
        if self._section.state is None:
            return "unknown"
        words = _STATE.findall(self._run(self._section.state, "state"))
        last = words[-1].lower() if words else ""
        return "on" if last == "on" else "off" if last == "off" else "unknown"

    def _run(self, words: tuple[str, ...] | None, field: str) -> str:
        if words is None:
            raise Unsupported(f"lab.yaml gives no command `{field}`", where=self.name)
        return command.run(words, timeout=_SECONDS)
