"""What a server of a rack is: how it is switched, heard, booted and reached.

Secrets are never values here, only where they are: what is printed, logged or written into a
manifest can have none.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from harness.config.host import Domains, QemuHost, Section
from harness.verdict import ConfigError

Port = Annotated[int, Field(ge=1, le=65535)]
Cipher = Annotated[int, Field(ge=1, le=17)]  # IPMI's suite: 3 everywhere, 17 on newer BMCs
Words = Annotated[tuple[str, ...], Field(min_length=1)]  # a program and its arguments


class Secret(Section):
    """Where a password is: a ``file`` whose first line it is, or a variable of the environment."""

    file: str | None = None
    env: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise ValueError("needs exactly one place; give either file or env")
        return self

    def read(self) -> str:
        """Return the secret; ConfigError says where it was looked for, never what was there."""
        if self.env is not None:
            found = os.environ.get(self.env, "")
            place, hint = f"${self.env}", "set the variable"
        else:
            path = Path(self.file or "").expanduser()
            place, hint = str(path), "the first line of that file is the password"
            try:
                found = path.read_text(encoding="utf-8").partition("\n")[0].strip()
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
                raise ConfigError(f"cannot read the secret: {why}", where=place) from None
        if not found:
            raise ConfigError("the secret is empty or missing", where=place, hint=hint)
        return found


class Bmc(Section):
    """Where the server's BMC is, and how it lets us in, by IPMI 2.0 over LAN."""

    address: str
    port: Port = 623
    user: str
    password: Annotated[Secret, Field(examples=["{file: bmc.password}"])]
    cipher: Cipher = 3


class IpmiPower(Bmc):
    """Power by the BMC's chassis commands."""

    driver: Literal["ipmi"]


class RedfishPower(Section):
    """The server's BMC, by Redfish; the extra ``redfish`` has what it needs."""

    driver: Literal["redfish"]
    url: str
    user: str
    password: Annotated[Secret, Field(examples=["{file: bmc.password}"])]
    system: str | None = None  # path such as /redfish/v1/Systems/1; None: the BMC's only one
    verify: bool | str = True  # check the certificate; a path: against that CA file


class CommandPower(Section):
    """Anything a program can switch: a PDU, a relay.  ``state`` prints a line with on or off."""

    driver: Literal["command"]
    turn_on: Words  # not "on": YAML takes that word for true
    turn_off: Words
    state: Words | None = None
    soft_off: Words | None = None
    nmi: Words | None = None


class LabgridPower(Section):
    """A place of a labgrid coordinator; the extra ``labgrid`` has what it needs."""

    driver: Literal["labgrid"]
    coordinator: str  # host:port
    place: str


PowerDriver = Annotated[
    IpmiPower | RedfishPower | CommandPower | LabgridPower, Field(discriminator="driver")
]


class SolConsole(Bmc):
    """The serial line as the BMC passes it on (IPMI Serial over LAN)."""

    driver: Literal["ipmi-sol"]


class TcpConsole(Section):
    """The serial line at a TCP port: ser2net, a terminal server."""

    driver: Literal["tcp"]
    address: str
    port: Port
    protocol: Literal["raw", "telnet"] = "raw"


class SshConsole(Section):
    """The serial line behind a console server's SSH; ``command`` there shows it."""

    driver: Literal["ssh"]
    address: str
    port: Port = 22
    user: str
    key_file: str
    host_key: str  # "ssh-ed25519 AAAA..."
    command: str = ""  # "": what the login itself gives


class CommandConsole(Section):
    """Any program that shows the serial line and takes what is typed (conserver's console)."""

    driver: Literal["command"]
    command: Words


ConsoleDriver = Annotated[
    SolConsole | TcpConsole | SshConsole | CommandConsole, Field(discriminator="driver")
]


class Ssh(Section):
    """The server's default system, as root: there Xen is installed, and there we come back to."""

    address: str
    port: Port = 22
    key_file: str
    host_key: str  # of the default system, as ssh-keyscan prints it: "ssh-ed25519 AAAA..."


class Booting(Section):
    """How Xen is put beside the default system, and what its command line needs here."""

    folder: str = "/boot/xen-evtchn-harness"
    grub: str = "/boot/grub"  # where grub.cfg and grubenv are
    xen_args: str = ""  # the console's: "console=com1 com1=115200,8n1"; "": the first serial port
    modules: tuple[str, ...] = ()  # drivers that dom0's network needs: [igb]
    leave: Literal["default", "off"] = "default"  # after a run: the default system, or no power


class Limits(Section):
    """How long things may take on this server, in seconds."""

    power: Annotated[float, Field(gt=0, le=600)] = 30.0  # until the new state shows
    boot: Annotated[float, Field(gt=0, le=3600)] = 600.0  # power-on to SSH of the default system
    xen: Annotated[float, Field(gt=0, le=3600)] = 600.0  # reboot to dom0's SSH
    wait: Annotated[float, Field(ge=0)] = 7200.0  # for another run to give the server back


_POWER = "[{driver: ipmi, address: bmc, user: admin, password: {file: bmc.password}}]"
_CONSOLE = "{driver: tcp, address: console-server, port: 4001}"
_SSH = "{address: server, key_file: id_ed25519, host_key: ssh-ed25519 AAAA...}"


class PhysicalHost(Domains):
    """A server, known by its power switch, its serial line and its SSH."""

    kind: Literal["physical"]
    power: Annotated[  # the next when one fails
        tuple[PowerDriver, ...], Field(min_length=1, examples=[_POWER])
    ]
    console: Annotated[ConsoleDriver, Field(examples=[_CONSOLE])]
    ssh: Annotated[Ssh, Field(examples=[_SSH])]
    boot: Booting = Booting()
    limits: Limits = Limits()


Host = QemuHost | PhysicalHost
KINDS: dict[str, type[QemuHost] | type[PhysicalHost]] = {
    "qemu": QemuHost,
    "physical": PhysicalHost,
}
