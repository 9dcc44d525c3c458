# SPDX-License-Identifier: GPL-2.0-or-later
"""A default system for tests of what is read there: a folder, programs that answer, a sysfs."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from tests.machine.test_grub import Here

CFG = """\
if [ "${next_entry}" ] ; then set default="${next_entry}"; set next_entry=; save_env next_entry; fi
if [ -f ${config_directory}/custom.cfg ]; then source ${config_directory}/custom.cfg; fi
"""
_TOOLS = (
    *(
        "awk",
        "base64",
        "basename",
        "cat",
        "chgrp",
        "chmod",
        "chown",
        "cp",
        "cut",
        "df",
        "dirname",
        "env",
    ),
    *(
        "find",
        "grep",
        "head",
        "id",
        "ls",
        "mkdir",
        "mktemp",
        "mv",
        "od",
        "printf",
        "readlink",
        "realpath",
    ),
    *("rm", "sed", "sh", "sha256sum", "sort", "stat", "sync", "tail", "test", "touch", "tr", "wc"),
)


class ToyDefaultSystem:
    """Fill in what it has, then ``start``: the shell finds in it what it would on a server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.grub = "grub"  # folder below boot/
        self.prefix = "grub"  # of the programs' names
        self.routes = "default via 192.0.2.1 dev eth0"
        self.routes6 = ""
        self.addresses: dict[str, str] = {}  # interface: what `ip -4 -o addr show dev` prints
        self.interfaces: dict[str, str] = {"lo": "no device", "eth0": "driver igb"}
        self.probes: dict[tuple[bool, str], str] = {}  # (of our folder, target): answer
        self.bond_mode = "active-backup 1"
        self.ssh = ""  # the server's address as sshd tells it
        self.tables = ""  # what `ip route show table all default` prints, if not the same
        self.links: dict[str, str] = {}  # interface: what `ip -o link show dev` prints
        self.secure_boot: bytes | None = None  # the EFI variable

    @property
    def drivers(self) -> list[str]:
        """The drivers of all interfaces."""
        return sorted({driver for name in self.interfaces if (driver := self.driver(name))})

    def add(self, name: str, said: str) -> None:
        """Add an interface: "driver igb, lower of br0", "igb", "no device", "a file"."""
        self.interfaces[name] = said

    def driver(self, name: str) -> str:
        """Return the driver of an interface, "" if it has none."""
        first = self.interfaces[name].split(",")[0].removeprefix("driver ").strip()
        return "" if first in ("no device", "a file", "") or " " in first else first

    def mac(self, name: str) -> str:
        """Return the MAC of an interface; a bridge or a bond has that of its first part."""
        lowers = self._lowers(name)
        if lowers:
            return self.mac(lowers[0])
        if self.interfaces[name].startswith("mac of "):
            return self.mac(self.interfaces[name].removeprefix("mac of "))
        return f"52:54:00:00:00:{list(self.interfaces).index(name):02x}"

    def macs(self, driver: str) -> set[str]:
        """Return the MACs of the interfaces that have ``driver``."""
        return {self.mac(name) for name in self.interfaces if self.driver(name) == driver}

    def start(self, patch: pytest.MonkeyPatch) -> Here:
        """Write all of it into the folder; return a shell in it."""
        boot = self.folder / "boot" / self.grub
        boot.mkdir(parents=True)
        (self.folder / "ours").mkdir()
        (boot / "grub.cfg").write_text(CFG)
        self._write_sysfs()
        self._write_programs()
        patch.setenv("PATH", str(self.folder / "bin"))
        patch.setenv("SSH_CONNECTION", f"192.0.2.77 4242 {self.ssh} 22" if self.ssh else "")
        return _Inside(self.folder)

    def _lowers(self, name: str) -> list[str]:
        return [one for one, said in self.interfaces.items() if said.endswith(f"lower of {name}")]

    def _write_sysfs(self) -> None:
        if self.secure_boot is not None:
            variables = self.folder / "sys/firmware/efi/efivars"
            variables.mkdir(parents=True)
            name = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
            (variables / name).write_bytes(self.secure_boot)
        net = self.folder / "sys/class/net"
        net.mkdir(parents=True)
        for name, said in self.interfaces.items():
            if said == "a file":
                (net / name).write_text("")
                continue
            (net / name).mkdir()
            mac = "00:00:00:00:00:00" if name == "lo" else self.mac(name)
            (net / name / "address").write_text(f"{mac}\n")
            (net / name / "operstate").write_text("up\n")
            if driver := self.driver(name):
                home = self.folder / "sys/drivers" / driver
                home.mkdir(parents=True, exist_ok=True)
                (net / name / "device").mkdir()
                (net / name / "device/driver").symlink_to(home)
            lowers = self._lowers(name)
            for lower in lowers:
                (net / name / f"lower_{lower}").symlink_to(net / lower)
            if lowers and name.startswith("bond"):
                (net / name / "bonding").mkdir()
                (net / name / "bonding/mode").write_text(f"{self.bond_mode}\n")
                (net / name / "bonding/active_slave").write_text(f"{lowers[0]}\n")
            elif lowers and "." not in name and not name.startswith(("team", "ovs-", "mgmt")):
                (net / name / "bridge").mkdir()
        if vlans := [name for name in self.interfaces if "." in name]:
            table = self.folder / "proc/net/vlan"
            table.mkdir(parents=True)
            for name in vlans:
                (table / name).write_text("")

    def _write_programs(self) -> None:
        programs = self.folder / "bin"
        programs.mkdir()
        for tool in _TOOLS:
            (programs / tool).symlink_to(str(shutil.which(tool, path="/usr/bin:/bin:/usr/sbin")))
        cases = [("*-6*route*show*default*", self.routes6)]
        cases += [("*route*show*table*all*", self.tables or self.routes)]
        cases += [(f"*link*show*dev {name}", said) for name, said in self.links.items()]
        cases += [("*route*show*default*", self.routes)]
        words = self.routes.split()
        cards = [name for name in self.interfaces if self.driver(name)]
        main = words[words.index("dev") + 1] if "dev" in words else cards[0]
        for name in self.interfaces:
            told = self.addresses.get(name, "")
            if name == main and not self.addresses:
                told = f"2: {name}    inet 192.0.2.9/24 brd 192.0.2.255 scope global {name}"
            cases.append((f"*-4*addr*dev {name}", told))
        self._program("ip", cases)
        self._program("uname", [("*", "x86_64")])
        probes = {
            (True, "fs_uuid"): "2426ac68",
            (True, "abstraction"): "",
            (True, "partmap"): "gpt",
            (True, "fs"): "ext2",
            (False, "abstraction"): "",
            (False, "fs"): "ext2",
            **self.probes,
        }
        where = {True: "*/ours*", False: "*/boot/*"}
        self._program(
            f"{self.prefix}-probe",
            [(f"*{target} {where[ours]}", said) for (ours, target), said in probes.items()],
        )
        cases = [("*", "/boot/ours")]
        self._program(f"{self.prefix}-mkrelpath", cases)
        home = shlex.quote(str(self.folder / "boot" / self.grub / "grubenv"))
        self._script(
            f"{self.prefix}-reboot", f"for last; do :; done; echo next_entry=$last >{home}"
        )
        self._script(
            f"{self.prefix}-editenv",
            f'case "$*" in *list*) cat {home};; *unset*) : >{home};; esac',
        )

    def _program(self, name: str, cases: list[tuple[str, str]]) -> None:
        arms = []
        for pattern, said in cases:
            quoted = pattern.replace(" ", "\\ ")
            arms.append(f"{quoted}) printf '%s\\n' {shlex.quote(said)};;")
        self._script(name, 'case "$*" in\n' + "\n".join(arms) + "\n*) exit 1;;\nesac")

    def _script(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)


class _Inside(Here):
    """A shell that finds /sys and /proc/net in the folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def run(self, command: str, *, timeout: float = 60.0, stdin: bytes = b"") -> str:
        for place in ("/sys/class/net", "/proc/net/vlan", "/sys/firmware"):
            command = command.replace(place, f"{self._folder}{place}")
        return super().run(command, timeout=timeout, stdin=stdin)
