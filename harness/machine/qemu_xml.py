# SPDX-License-Identifier: GPL-2.0-or-later
"""What libvirt is asked for when a machine under QEMU starts: its XML, and QEMU's arguments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jinja2
import libvirt

from harness.arch import Arch
from harness.config.host import QemuHost
from harness.data import IMAGES
from harness.machine import (
    cpu_model,
    device_tree,
    emulator,
    qemu_disk,
    qemu_user,
    spare_port,
)
from harness.machine.accel import Choice
from harness.verdict import LabError


@dataclass(frozen=True)
class Boot:
    """What to boot: local files, and the command lines of Xen and of dom0."""

    xen: Path
    kernel: Path
    initramfs: Path
    root: Path | None  # raw image; every machine writes into an overlay of its own
    xen_args: str
    dom0_args: str


@dataclass(frozen=True)
class Asked:
    """A machine, as libvirt is asked for it.  Its sockets and its disk are in ``folder``."""

    name: str
    host: QemuHost
    boot: Boot
    accel: Choice
    folder: Path
    has_stub: bool  # QEMU's gdbstub listens, at ``stub``
    plugin: tuple[str, ...] = ()  # QEMU's arguments that load a plugin

    @property
    def serial(self) -> Path:
        """The socket of the serial line."""
        return self.folder / "serial"

    @property
    def lines(self) -> list[Path]:
        """The sockets of dom0's virtio ports: one per domain, and a spare one."""
        return [self.folder / f"agent.{number}" for number in range(2 + self.host.domus)]

    @property
    def disk(self) -> Path:
        """The disk, which must be there when the machine starts."""
        return self.folder / "root.qcow2"

    @property
    def stub(self) -> Path:
        """The socket of the gdbstub."""
        return self.folder / "stub"

    def xml(self, connection: libvirt.virConnect, port: int) -> str:
        """Return the XML for ``connection``; QEMU forwards ``port`` of 127.0.0.1 to dom0's sshd.

        LabError if libvirt cannot tell what QEMU has.
        """
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(IMAGES / "libvirt"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
        )
        return environment.get_template(f"machine-{self.host.arch}.xml.j2").render(
            name=self.name,
            accel=self.accel.accel,
            memory_mib=self.host.memory_mib,
            cpus=self.host.cpus,
            emulator=emulator.emulator(self.host.arch, self.accel.accel),
            serial=self.serial,
            disk=self.disk,
            aio=qemu_disk.disk_io(qemu_disk.qemu_img(), self.disk),
            lines=self.lines,
            seclabels=qemu_user.seclabels(connection),
            extra=self._extra(connection, port),
        )

    def _extra(self, connection: libvirt.virConnect, port: int) -> list[str]:
        """QEMU arguments that libvirt's XML cannot express."""
        own = [*self._stub_arguments(), *self.plugin]
        forward = f"user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:22"
        boot = self.boot
        if self.host.arch is Arch.X86_64:
            module = f"{boot.kernel} {boot.dom0_args}".replace(",", ",,")
            modules = f"{module},{str(boot.initramfs).replace(',', ',,')}"
            return [
                *own,
                *self._tcg_cpu(connection),
                *("-netdev", forward, "-device", "virtio-net-pci,netdev=net0,addr=0x1d,romfile="),
                *("-kernel", str(boot.xen), "-append", boot.xen_args, "-initrd", modules),
            ]
        tree = self.folder / "machine.dtb"
        device_tree.write(
            tree,
            emulator=emulator.qemu(self.host.arch),
            machine=[
                *("-machine", "virt,virtualization=on,gic-version=3", "-cpu", "cortex-a57"),
                *("-smp", str(self.host.cpus), "-m", str(self.host.memory_mib)),
            ],
            xen_args=boot.xen_args,
            dom0_args=boot.dom0_args,
            kernel_size=boot.kernel.stat().st_size,
            ramdisk_size=boot.initramfs.stat().st_size,
        )
        loader = "loader,force-raw=on,addr={:#x},file={}"
        return [
            *own,
            *("-machine", "virtualization=on"),
            *("-netdev", forward, "-device", "virtio-net-device,netdev=net0"),
            *("-kernel", str(boot.xen), "-dtb", str(tree)),
            *("-device", loader.format(device_tree.KERNEL_AT, boot.kernel)),
            *("-device", loader.format(device_tree.RAMDISK_AT, boot.initramfs)),
        ]

    def _stub_arguments(self) -> list[str]:
        """The gdbstub, and (x86-64) a spare serial port with which we can raise an interrupt."""
        if not self.has_stub:
            return []
        spare = spare_port.ARGUMENTS if self.host.arch is Arch.X86_64 else ()
        return ["-gdb", f"unix:{self.stub},server=on,wait=off", *spare]

    def _tcg_cpu(self, connection: libvirt.virConnect) -> list[str]:
        """The CPU of an x86-64 machine under TCG, as QEMU arguments: libvirt does not choose it."""
        if self.accel.accel != "tcg":
            return []
        program = emulator.emulator(self.host.arch, "tcg")
        try:
            said = connection.getDomainCapabilities(program, "x86_64", "pc", "qemu")
        except libvirt.libvirtError as error:
            message = error.get_error_message()
            raise LabError(f"libvirt cannot list the CPU models of {program}: {message}") from error
        return ["-cpu", cpu_model.tcg_cpu(said), *cpu_model.ARGUMENTS]
