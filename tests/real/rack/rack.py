# SPDX-License-Identifier: GPL-2.0-or-later
"""Servers of the rack, started and wired up on 127.0.0.1, and their entries in a lab.yaml.

``python -m tests.real.rack.rack FOLDER [--firmware uefi] [--arch arm64]`` starts one and keeps it
until Ctrl-C: what is behind the tests, to look at by hand.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from harness import command
from harness.arch import NAMES, Arch
from tests.real.rack.bmc import ipmi_sim
from tests.real.rack.disk import Disk, disk
from tests.real.rack.firmware import firmware as firmware_of
from tests.real.rack.server import Hardware

PASSWORD = "s3cret-of-the-rack"
USER = "admin"
_PORTS = ("ssh", "serial", "lan", "redfish", "pdu", "coordinator")
_ROOT = Path(__file__).resolve().parents[3]
_CPU = {Arch.X86_64: "Opteron_G3", Arch.ARM64: "cortex-a57"}
_MACHINE = {
    Arch.X86_64: "pc,accel=tcg",
    Arch.ARM64: "virt,accel=tcg,virtualization=on,gic-version=3,acpi=off",
}


@dataclass
class Rack:
    """One server that runs, and how to reach it."""

    name: str
    folder: Path
    disk: Disk
    arch: Arch
    ports: dict[str, int]
    bmc: subprocess.Popen[bytes] | None = None
    entry: dict[str, Any] = field(default_factory=dict)

    def lab(self, **changes: Any) -> Path:
        """Write a lab.yaml with this server, ``changes`` in its entry; return its path."""
        path = self.folder / "lab.yaml"
        path.write_text(yaml.safe_dump({"hosts": {self.name: self.entry | changes}}))
        return path

    def fault(self, *names: str) -> None:
        """Let the hardware have these faults from now on, and no others."""
        (self.folder / "faults").write_text(" ".join(names))

    def ssh(self, line: str) -> str:
        """Run a command in the default system; CommandFailed when it does not answer."""
        options = ["-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=10"]
        options += ["-o", f"UserKnownHostsFile={self.folder}/known_hosts", "-o", "BatchMode=yes"]
        words = ["ssh", *options, "-i", str(self.folder / "key"), "-p", str(self.ports["ssh"])]
        return command.run([*words, "root@127.0.0.1", line], timeout=60)


@contextmanager
def server(
    folder: Path,
    *,
    arch: Arch = Arch.X86_64,
    firmware: str = "bios",
    bmc: str = "ipmi",
    name: str = "rack-1",
) -> Iterator[Rack]:
    """Start a server, its power off, with that sort of BMC; end it all with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    built = disk(arch, firmware)
    ports = {what: free_port() for what in _PORTS}
    rack = Rack(name, folder, built, arch, ports)
    _keys(rack)
    overlay = folder / "disk.qcow2"
    create = [command.which("qemu-img", "qemu-utils"), "create", "-q", "-f", "qcow2"]
    command.run([*create, "-b", built.image, "-F", "raw", overlay])
    qemu = (
        ()
        if bmc in ("redfish", "virtualbmc")
        else tuple(_qemu(arch, firmware, overlay, ports["ssh"]))
    )
    hardware = Hardware(qemu, str(folder), ports["serial"])
    words = [sys.executable, "-m", "tests.real.rack.server", str(hardware.write())]
    with contextlib.ExitStack() as stack:
        child = subprocess.Popen(words, stdin=subprocess.PIPE, cwd=_ROOT)
        stack.callback(_end, child)
        _wait_for(folder / "button")
        rack.entry = _entry(rack)
        tcp = {"driver": "tcp", "address": "127.0.0.1", "port": ports["serial"]}
        if bmc == "redfish":
            from tests.real.rack.redfish import redfish

            keys = {"user": USER, "password": PASSWORD}
            service = redfish(folder, name=name, firmware=firmware, ports=ports, **keys)
            system = stack.enter_context(service)
            url = f"http://127.0.0.1:{ports['redfish']}"
            secret = {"user": USER, "password": {"file": str(folder / "bmc.password")}}
            rack.entry["power"] = [{"driver": "redfish", "url": url, "system": system, **secret}]
            rack.entry["console"] = tcp
        elif bmc == "virtualbmc":
            from tests.real.rack.virtualbmc import virtualbmc

            keys = {"user": USER, "password": PASSWORD}
            stack.enter_context(
                virtualbmc(folder, name=name, firmware=firmware, ports=ports, **keys)
            )
            rack.entry["console"] = tcp
        elif bmc == "labgrid":
            from tests.real.rack.labgrid import labgrid

            coordinator = stack.enter_context(labgrid(folder, name=name, ports=ports))
            place = {"driver": "labgrid", "coordinator": coordinator, "place": name}
            rack.entry |= {"power": [place], "console": tcp}
        else:
            rack.bmc = stack.enter_context(ipmi_sim(folder, rack.ports, USER, PASSWORD))
        yield rack


def _qemu(arch: Arch, firmware: str, overlay: Path, ssh: int) -> list[str]:
    qemu = command.which(f"qemu-system-{NAMES[arch].qemu}", "qemu-system-x86 qemu-system-arm")
    nic = "virtio-net-pci,netdev=n,romfile="
    if arch is Arch.ARM64:
        nic = "virtio-net-device,netdev=n"
    block = "virtio-blk-device" if arch is Arch.ARM64 else "virtio-blk-pci"
    words = [
        *("nice", "-n", "10", qemu, "-nodefaults", "-display", "none"),
        *("-machine", _MACHINE[arch], "-cpu", _CPU[arch], "-smp", "2", "-m", "2560"),
        *("-drive", f"file={overlay},if=none,id=d,cache=unsafe", "-device", f"{block},drive=d"),
        *("-netdev", f"user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{ssh}-10.0.2.15:22"),
        *("-device", nic),
    ]
    if firmware == "uefi":
        code = firmware_of(arch)
        words += ["-drive", f"if=pflash,format=raw,readonly=on,file={code}"]
    return words


def _entry(rack: Rack) -> dict[str, Any]:
    bmc = {
        "address": "127.0.0.1",
        "port": rack.ports["lan"],
        "user": USER,
        "password": {"file": str(rack.folder / "bmc.password")},
    }
    console = "console=com1 com1=115200,8n1 spec-ctrl=no"
    return {
        "kind": "physical",
        "arch": str(rack.arch),
        "power": [{"driver": "ipmi", **bmc}],
        "console": {"driver": "ipmi-sol", **bmc},
        "ssh": {
            "address": "127.0.0.1",
            "port": rack.ports["ssh"],
            "key_file": str(rack.folder / "key"),
            "host_key": rack.disk.keys.host_public.strip(),
        },
        "boot": {"xen_args": console if rack.arch is Arch.X86_64 else "console=dtuart"},
        "limits": {"power": 20, "boot": 180, "xen": 240},
    }


def _keys(rack: Rack) -> None:
    keys = rack.disk.keys
    for name, text in (("key", keys.user_private), ("bmc.password", f"{PASSWORD}\n")):
        (rack.folder / name).write_text(text)
        (rack.folder / name).chmod(0o600)
    line = f"[127.0.0.1]:{rack.ports['ssh']} {keys.host_public}"
    (rack.folder / "known_hosts").write_text(line)


def _end(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    child.stdin.close()
    try:
        child.wait(20)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arch", type=Arch, default=Arch.X86_64)
    parser.add_argument("--firmware", choices=("bios", "uefi"), default="bios")
    parser.add_argument(
        "--bmc", choices=("ipmi", "redfish", "virtualbmc", "labgrid"), default="ipmi"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with (
        contextlib.suppress(KeyboardInterrupt),
        server(**vars(options)) as rack,
    ):
        print(f"--lab {rack.lab()} --host {rack.name}", flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
