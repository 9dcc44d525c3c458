# SPDX-License-Identifier: GPL-2.0-or-later
"""IPMI 2.0 over LAN, by the program ipmitool."""

from __future__ import annotations

import re

from harness import command
from harness.command import CommandFailed
from harness.config.physical import Bmc, IpmiPower
from harness.machine.power import State, Unsupported
from harness.verdict import LabError

_SECONDS = 40.0  # of one command
# Seconds for an answer and how often to ask anew (then 1 s longer): silence shows in about 10 s.
PATIENCE = ("-N", "1", "-R", "3", "-v")  # and it says why there is no session
# Of the order itself: with -v ipmitool also tells what else the BMC refused before it.
_NO_BUTTON = re.compile(
    r"chassis power control to \S+ failed: .*(not supported|invalid (command|data field))"
)


class Ipmi:
    """A BMC that speaks IPMI."""

    def __init__(self, section: IpmiPower) -> None:
        self._section = section

    @property
    def name(self) -> str:
        """The BMC's address."""
        return f"ipmi {self._section.address}"

    @property
    def tells_state(self) -> bool:
        """Every BMC does."""
        return True

    def on(self) -> None:
        """Chassis control: power up."""
        self._power("on")

    def off(self) -> None:
        """Chassis control: power down."""
        self._power("off")

    def soft_off(self) -> None:
        """Chassis control: soft shutdown by ACPI."""
        self._power("soft")

    def nmi(self) -> None:
        """Chassis control: diagnostic interrupt."""
        self._power("diag")

    def state(self) -> State:
        """Get chassis status."""
        said = self._power("status").lower()
        return "on" if "power is on" in said else "off" if "power is off" in said else "unknown"

    def _power(self, word: str) -> str:
        argv = [*arguments(self._section), *PATIENCE, "chassis", "power", word]
        try:
            return command.run(argv, env=environment(self._section), timeout=_SECONDS)
        except CommandFailed as error:
            said = error.output.lower()
            if "present state" in said:  # completion code 0xD5
                what = f"the BMC refuses `power {word}` in the server's present state"
                raise LabError(what, where=self.name) from None
            if _NO_BUTTON.search(said):
                raise Unsupported(f"the BMC has no `power {word}`", where=self.name) from None
            raise LabError(explained(error, self._section), where=self.name) from None


def arguments(section: Bmc) -> list[str]:
    """Return ipmitool's words for the BMC of ``section``; the password is no argument."""
    tool = command.which("ipmitool", "ipmitool")
    where = ["-H", section.address, "-p", str(section.port)]
    # Without a suite ipmitool asks the BMC for them, which some never answer.
    who = ["-U", section.user, "-E", "-C", str(section.cipher)]
    if section.privilege != "administrator":  # ipmitool's own default
        who += ["-L", section.privilege.upper()]
    return [tool, "-I", "lanplus", *where, *who]


def environment(section: Bmc) -> dict[str, str]:
    """Return what ipmitool's -E reads: arguments are for every user of this machine to see."""
    return {"IPMI_PASSWORD": section.password.read()}


def explained(error: CommandFailed, section: Bmc) -> str:
    """Return in plain words why ipmitool did not reach the BMC, or was sent away."""
    said = error.output.lower()
    if "address lookup for" in said:
        return f"the name {section.address} is not known to this machine (DNS, /etc/hosts)"
    if "insufficient resources for" in said:
        return (
            "the BMC answers but has no session left: others hold them, or a program that was "
            "killed (they end by themselves after a minute; `mc reset cold` ends all)"
        )
    level = section.privilege.upper()
    if "session privilege level" in said and "failed" in said:
        return f"the BMC: the user is no {section.privilege}; set privilege in lab.yaml"
    if re.search("(unauthorized|invalid) role|(insufficient|invalid) privilege", said):
        return (
            f"the BMC does not give the user the privilege level {level}; set privilege in lab.yaml"
        )
    if "unauthorized name" in said or "invalid name length" in said:
        return f"the BMC knows no user {section.user} with the privilege level {level}"
    if re.search("invalid \\w+ algorithm|no matching \\w+ payload|cipher", said):
        return "the BMC does not know the cipher suite: set cipher in lab.yaml"
    if re.search(
        "no response from rakp|(inactive|invalid) session id|received an unexpected", said
    ):
        return "the BMC does not keep up: it loses or confuses the sessions that it is asked for"
    if "rakp" in said or "unauthorized" in said or "hmac is invalid" in said:
        return "the BMC refuses the user or the password"
    if "unable to establish" in said or "did not end" in error.what or "timeout" in said:
        return "the BMC does not answer"
    return error.what
