"""IPMI Serial over LAN, by the program ipmitool.

A BMC has one such session.  One that somebody else holds is ended: the lease on the server says
that it is ours.
"""

from __future__ import annotations

from harness import command
from harness.command import CommandFailed
from harness.config.physical import SolConsole
from harness.machine.power.ipmi import PATIENCE, arguments, environment, explained
from harness.machine.wires.program import Program
from harness.verdict import LabError

_SECONDS = 30.0
_ESCAPE = "\x1e"  # ipmitool's own commands begin with it: nothing that we type does


def sol(section: SolConsole) -> Program:
    """Open the line; LabError when the BMC does not let us."""
    words, env = arguments(section), environment(section)
    _deactivate(words, env, section.address)
    return Program([*words, "-e", _ESCAPE, "sol", "activate"], env)


def _deactivate(words: list[str], env: dict[str, str], address: str) -> None:
    """End a session that there may be; LabError when the BMC does not answer."""
    try:
        command.run([*words, *PATIENCE, "sol", "deactivate"], env=env, timeout=_SECONDS)
    except CommandFailed as error:
        if "already" in error.output.lower() or "de-activated" in error.output.lower():
            return  # there was none: as it should be
        raise LabError(explained(error), where=f"console ipmi-sol {address}") from None
