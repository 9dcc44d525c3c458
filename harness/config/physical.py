# SPDX-License-Identifier: GPL-2.0-or-later
"""The fields of a physical server: its power switch, serial line, boot loader and SSH.

A secret is never a value here; a field only says where the secret is.  So no secret can be
printed, logged or written into a manifest.
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from harness import bounded
from harness.config.host import Domains, QemuHost, Section
from harness.verdict import ConfigError

Port = Annotated[int, Field(ge=1, le=65535)]
Cipher = Annotated[int, Field(ge=1, le=17)]  # IPMI's suite: 3 everywhere, 17 on newer BMCs


def _host(value: str) -> str:
    if not re.fullmatch(r"[^\s/@\[\]-][^\s/@\[\]]*", value):
        raise ValueError("must be a host's name or IP address, not a URL; write for example bmc-1")
    if value.count(":") == 1:
        raise ValueError("must be without a port; give that in the field port")
    if re.fullmatch(r"[\d.]+", value):
        try:
            ipaddress.IPv4Address(value)
        except ValueError:
            raise ValueError("is no IPv4 address; write four numbers up to 255") from None
    return value


def _url(value: str) -> str:
    if not re.match(r"https?://[^/\s]", value, re.IGNORECASE):
        raise ValueError(
            "must begin with https:// or http://; write for example `https://bmc.example`"
        )
    parts = urlsplit(value)
    if parts.username is not None:
        raise ValueError("must be without a login; give that in the fields user and password")
    if parts.path.rstrip("/") not in ("", "/redfish", "/redfish/v1") or parts.query:
        raise ValueError(
            "must end after the host and its port; give a system's path in the field system"
        )
    return value


def _system(value: str) -> str:
    if not value.startswith("/redfish/"):
        raise ValueError("must be a path; write for example /redfish/v1/Systems/1")
    return value


def _host_key(value: str) -> str:
    if not re.match(r"(ssh|ecdsa|sk)-\S+ +[A-Za-z0-9+/=.]+", value):
        raise ValueError(
            "must be the key itself, after the host's name in a line of ssh-keyscan; "
            "write for example `ssh-ed25519 AAAA...`"
        )
    return value


def _private_key(value: str) -> str:
    if value.endswith(".pub"):
        raise ValueError("is the public half; give the private key's file, without .pub")
    return value


def _coordinator(value: str) -> str:
    if not re.fullmatch(r"([^\s/:\[\]-][^\s/:\[\]]*|\[[0-9a-fA-F:.]+\])(:\d{1,5})?", value):
        raise ValueError(
            "is HOST[:PORT] (labgrid 24 and newer), not a crossbar URL; "
            "write for example `lab.example:20408`"
        )
    return value


def _arguments(value: str) -> str:
    for bad in re.finditer(r"[\\'\"]|[^\x20-\x7e]", value):
        raise ValueError(
            f"GRUB cannot pass on the character {bad[0]!r}; leave it out: no argument of Xen needs "
            "quotes or backslashes"
        )
    return value


Address = Annotated[str, AfterValidator(_host), Field(examples=["bmc-1"])]
HostKey = Annotated[str, AfterValidator(_host_key)]
KeyFile = Annotated[str, AfterValidator(_private_key)]
Words = Annotated[tuple[str, ...], Field(min_length=1)]  # a program and its arguments


class Secret(Section):
    """Where a password is: in the first line of ``file``, or in environment variable ``env``."""

    file: str | None = None
    env: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise ValueError("needs exactly one of file and env; give one of them")
        return self

    def read(self) -> str:
        """Return the secret; ConfigError names its place, but never shows its value."""
        if self.env is not None:
            found = os.environ.get(self.env, "")
            place, hint = f"${self.env}", "set this environment variable"
        else:
            path = Path(self.file or "").expanduser()
            place, hint = str(path), "write the password into the first line of this file"
            try:
                found = bounded.text(path, bounded.SECRET).partition("\n")[0].strip()
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
                raise ConfigError(f"cannot read the secret: {why}", where=place) from None
        if not found:
            raise ConfigError("the secret is empty or missing", where=place, hint=hint)
        return found


class Bmc(Section):
    """Address and login of the server's BMC, for IPMI 2.0 over LAN."""

    address: Address
    port: Port = 623
    user: str
    password: Annotated[Secret, Field(examples=["{file: bmc.password}"])]
    cipher: Cipher = 3
    privilege: Literal["administrator", "operator"] = "administrator"  # that the user has there


class IpmiPower(Bmc):
    """Power switched by IPMI's chassis commands."""

    driver: Literal["ipmi"]


class RedfishPower(Section):
    """Power switched by the BMC through Redfish; needs the extra ``redfish``."""

    driver: Literal["redfish"]
    url: Annotated[str, AfterValidator(_url), Field(examples=["https://bmc.example"])]
    user: str
    password: Annotated[Secret, Field(examples=["{file: bmc.password}"])]
    # path such as /redfish/v1/Systems/1; None: the BMC's only one
    system: Annotated[str, AfterValidator(_system)] | None = None
    verify: bool | str = True  # check the certificate; a path: against that CA file


class CommandPower(Section):
    """Power switched by programs, e.g. for a PDU; ``state`` prints a line with on or off."""

    driver: Literal["command"]
    turn_on: Words  # not "on": YAML takes that word for true
    turn_off: Words
    state: Words | None = None
    soft_off: Words | None = None
    nmi: Words | None = None


class LabgridPower(Section):
    """Power switched by labgrid, as a place of its coordinator; needs the extra ``labgrid``."""

    driver: Literal["labgrid"]
    coordinator: Annotated[  # host:port
        str, AfterValidator(_coordinator), Field(examples=["lab.example:20408"])
    ]
    place: str


PowerDriver = Annotated[
    IpmiPower | RedfishPower | CommandPower | LabgridPower, Field(discriminator="driver")
]


class SolConsole(Bmc):
    """The serial line through the BMC (IPMI Serial over LAN)."""

    driver: Literal["ipmi-sol"]


class TcpConsole(Section):
    """The serial line at a TCP port, for example of ser2net or a terminal server."""

    driver: Literal["tcp"]
    address: Address
    port: Port
    protocol: Literal["raw", "telnet"] = "raw"


class SshConsole(Section):
    """The serial line through SSH to a console server, where ``command`` opens it."""

    driver: Literal["ssh"]
    address: Address
    port: Port = 22
    user: str
    key_file: KeyFile
    host_key: HostKey  # "ssh-ed25519 AAAA..."
    command: str = ""  # "": logging in already opens the line


class CommandConsole(Section):
    """The serial line through a program's stdin and stdout (conserver's console, for example)."""

    driver: Literal["command"]
    command: Words


ConsoleDriver = Annotated[
    SolConsole | TcpConsole | SshConsole | CommandConsole, Field(discriminator="driver")
]


class Ssh(Section):
    """SSH as root to the default system, which installs Xen and is booted again after a run."""

    address: Address
    port: Port = 22
    key_file: KeyFile
    host_key: HostKey  # of the default system, as ssh-keyscan prints it: "ssh-ed25519 AAAA..."


class Booting(Section):
    """Where Xen is installed beside the default system, and what this server needs to boot it."""

    folder: str = "/boot/xen-evtchn-harness"
    grub: str = "/boot/grub"  # where grub.cfg and grubenv are
    xen_args: Annotated[str, AfterValidator(_arguments)] = (
        ""  # the console's: "console=com1 com1=115200,8n1"; "": the first serial port
    )
    modules: tuple[str, ...] = ()  # drivers that dom0's network needs: [igb]
    leave: Literal["default", "off"] = "default"  # after a run: the default system, or no power


class Limits(Section):
    """How long the harness waits for this server, in seconds."""

    power: Annotated[float, Field(gt=0, le=600)] = 30.0  # until the new power state is seen
    boot: Annotated[float, Field(gt=0, le=3600)] = 600.0  # power-on to SSH of the default system
    xen: Annotated[float, Field(gt=0, le=3600)] = 600.0  # reboot to dom0's SSH
    wait: Annotated[float, Field(ge=0)] = 7200.0  # for another run to give the server back


_POWER = "[{driver: ipmi, address: bmc, user: admin, password: {file: bmc.password}}]"
_CONSOLE = "{driver: tcp, address: console-server, port: 4001}"
_SSH = "{address: server, key_file: id_ed25519, host_key: ssh-ed25519 AAAA...}"


class PhysicalHost(Domains):
    """A physical server, reached through its power switch, its serial line and SSH."""

    kind: Literal["physical"]
    power: Annotated[  # if one fails, the next one is tried
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
