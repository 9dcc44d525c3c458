"""A BMC that speaks Redfish: sushy-tools' emulator over a server that is a libvirt domain."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import bcrypt
import libvirt

from harness.arch import NAMES, Arch
from harness.machine import emulator
from harness.machine.connection import connect, default_uri
from harness.machine.qemu import _seclabels

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
_CONFIG = """\
SUSHY_EMULATOR_LISTEN_IP = '127.0.0.1'
SUSHY_EMULATOR_LISTEN_PORT = {port}
SUSHY_EMULATOR_LIBVIRT_URI = '{uri}'
SUSHY_EMULATOR_AUTH_FILE = '{folder}/htpasswd'
SUSHY_EMULATOR_STATE_DIR = '{folder}/sushy'
"""


@contextmanager
def redfish(
    folder: Path, *, name: str, firmware: str, ports: dict[str, int], user: str, password: str
) -> Iterator[str]:
    """Define the server and start its BMC; yield the path of its system in the service."""
    connection = connect()
    identity = str(uuid.uuid4())
    labels = "".join(
        f'<seclabel type="{"static" if label else "none"}" model="{model}"'
        + (f' relabel="no"><label>{label}</label></seclabel>' if label else "/>")
        for model, label in _seclabels(connection)
    )
    code = "/usr/share/OVMF/OVMF_CODE.fd"
    loader = f'<loader readonly="yes" type="pflash">{code}</loader>' if firmware == "uefi" else ""
    xml = _XML.format(
        name=f"{name}-{identity[:8]}",
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
        ssh=ports["ssh"],
    )
    domain = connection.defineXML(xml)
    try:
        with _service(folder, ports["redfish"], user, password):
            yield f"/redfish/v1/Systems/{identity}"
    finally:
        with suppress(libvirt.libvirtError):
            domain.destroy()
        domain.undefine()
        connection.close()


@contextmanager
def _service(folder: Path, port: int, user: str, password: str) -> Iterator[None]:
    (folder / "sushy").mkdir()
    digest = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    (folder / "htpasswd").write_text(f"{user}:{digest}\n")
    config = folder / "sushy.conf"
    config.write_text(_CONFIG.format(port=port, uri=default_uri(), folder=folder))
    program = Path(sys.executable).with_name("sushy-emulator")
    with (folder / "sushy.log").open("wb") as log:
        child = subprocess.Popen(
            [program, "--config", config], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/redfish/v1", timeout=5).close()
                break
            except OSError:
                assert child.poll() is None and time.monotonic() < deadline, "no Redfish service"
                time.sleep(0.2)
        yield
    finally:
        child.terminate()
        child.wait()
