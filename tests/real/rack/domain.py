# SPDX-License-Identifier: GPL-2.0-or-later
"""A server that is a libvirt domain: what BMCs that drive libvirt switch on and off."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import libvirt

from harness.arch import NAMES, Arch
from harness.machine import emulator
from harness.machine.connection import connect, default_uri, mend
from harness.machine.qemu_user import seclabels
from tests.real.rack.firmware import firmware as firmware_of

_XML = """\
<domain type="qemu" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
  <name>{name}</name><uuid>{uuid}</uuid>
  <memory unit="MiB">2560</memory><vcpu>2</vcpu>
  <os><type arch="{arch}" machine="{machine}">hvm</type>{loader}</os>
  <features><acpi/>{features}</features>
  <cpu mode="custom" match="exact" check="none"><model fallback="forbid">{cpu}</model></cpu>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
  {labels}
  <devices>
    <emulator>{emulator}</emulator>
    <controller type="usb" model="none"/><memballoon model="none"/>
    <serial type="unix"><source mode="connect" path="{serial}"/><target port="0"/></serial>
    <disk type="file" device="disk">
      <driver name="qemu" type="qcow2" cache="unsafe"/>
      <source file="{disk}"/><target dev="vda" bus="virtio"/>
    </disk>
  </devices>
  <qemu:commandline>
    <qemu:arg value="-netdev"/>
    <qemu:arg value="user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{ssh}-10.0.2.15:22"/>
    <qemu:arg value="-device"/><qemu:arg value="virtio-net-pci,netdev=n,addr=0x1d,romfile="/>
  </qemu:commandline>
</domain>
"""


@dataclass(frozen=True)
class Domain:
    """A domain that is defined, its power off."""

    uri: str
    name: str
    uuid: str


@contextmanager
def _virtlogd() -> Iterator[None]:
    """Keep the daemon busy: ours leaves when idle, and a BMC cannot switch on without it."""
    with ExitStack() as stack:
        if os.geteuid() == 0:
            connect().close()
            mend("virtlogd")
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect("/run/libvirt/virtlogd-sock")
        yield


@contextmanager
def domain(folder: Path, *, name: str, firmware: str, ssh: int) -> Iterator[Domain]:
    """Define the server of ``folder``; it is gone with the block, on or off."""
    with _virtlogd():
        yield from _defined(folder, name, firmware, ssh)


def _defined(folder: Path, name: str, firmware: str, ssh: int) -> Iterator[Domain]:
    connection = connect()
    identity = str(uuid.uuid4())
    labels = "".join(
        f'<seclabel type="{"static" if label else "none"}" model="{model}"'
        + (f' relabel="no"><label>{label}</label></seclabel>' if label else "/>")
        for model, label in seclabels(connection)
    )
    code = firmware_of(Arch.X86_64) if firmware == "uefi" else ""
    loader = f'<loader readonly="yes" type="pflash">{code}</loader>' if firmware == "uefi" else ""
    full = f"{name}-{identity[:8]}"
    xml = _XML.format(
        name=full,
        uuid=identity,
        arch=NAMES[Arch.X86_64].qemu,
        machine="pc",
        loader=loader,
        features="<apic/>",
        cpu="Opteron_G3",
        labels=labels,
        emulator=emulator.emulator(Arch.X86_64, "tcg"),
        serial=folder / "serial",
        disk=folder / "disk.qcow2",
        ssh=ssh,
    )
    defined = connection.defineXML(xml)
    try:
        yield Domain(default_uri(), full, identity)
    finally:
        with suppress(libvirt.libvirtError):
            defined.destroy()
        defined.undefine()
        connection.close()
