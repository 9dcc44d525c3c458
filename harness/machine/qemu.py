"""A machine under QEMU, through libvirt: a transient domain that dies with our connection.

VIR_DOMAIN_START_AUTODESTROY lets libvirt end the machine when this process goes,
SIGKILL included; nothing is ever defined, so nothing can be left defined.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import jinja2
import libvirt

from harness import command
from harness.arch import Arch
from harness.config.host import QemuHost
from harness.data import IMAGES
from harness.hypervisor.cpu import Cpu
from harness.machine import cpu_model, cpus, device_tree, emulator
from harness.machine.accel import Choice
from harness.machine.connection import connect, mend
from harness.machine.console import Console
from harness.machine.line import Line, connect_socket
from harness.verdict import LabError

_CONNECT_SECONDS = 20.0
_MENDED_SECONDS = 0.5  # a daemon just started needs a moment
_SNAPSHOT = "pristine"
SPARE, _SPARE_AT = "spare-serial", "0x1c"
# Of the monitor's "info pci": what the BIOS has given to the device in that slot.
_SPARE_PORT = re.compile(
    r"device\s+28, function 0:(?:(?!\n\s*Bus).)*?IRQ (?P<irq>\d+),.*?I/O at (?P<io>0x[0-9a-f]+)",
    re.DOTALL,
)
_MEMORY_AT = {Arch.X86_64: 0, Arch.ARM64: 0x4000_0000}  # QEMU's pc (below 3 GiB) and virt


@dataclass(frozen=True)
class Boot:
    """What to boot: files on this machine, and the two command lines."""

    xen: Path
    kernel: Path
    initramfs: Path
    root: Path | None  # raw image, never written: every machine gets its own overlay
    xen_args: str
    dom0_args: str


class QemuMachine:
    """One QEMU under libvirt; see harness.machine.Machine.

    ``folder`` is a scratch directory of the run; ``console`` records.  ``stub``: QEMU's gdbstub
    listens at the socket of that name in ``folder``.
    """

    looks = 10  # at the CPUs: QEMU's monitor is fast
    boot_seconds = 240.0  # a busy machine under TCG is slow, not dead

    def __init__(
        self,
        host: QemuHost,
        boot: Boot,
        accel: Choice,
        *,
        folder: Path,
        console: Console,
        stub: bool = False,
    ) -> None:
        self.host = host
        self.boot = boot
        self.accel = accel
        self._folder = folder
        self._console = console
        self.stub = folder / "stub" if stub else None
        self._connection: libvirt.virConnect | None = None
        self._domain: libvirt.virDomain | None = None
        self._port = 0
        # To dom0's /dev/vport*, by the name agent.0, agent.1... one per domain, and a spare one.
        self.lines: list[Line] = []

    @property
    def console(self) -> Console:
        """The recorded serial line."""
        return self._console

    @property
    def ssh(self) -> tuple[str, int]:
        """Loopback port that QEMU forwards to dom0's sshd."""
        return "127.0.0.1", self._port

    @property
    def name(self) -> str:
        """Name of the libvirt domain, unique to this run."""
        return f"{self.host.name}-{self._folder.name.rpartition('-')[2]}"

    def power_on(self) -> None:
        """Start QEMU paused, attach the recorder, let it run."""
        self._connection = connect(self.host.libvirt_uri)
        for attempt in range(5):
            self._port = self.host.ssh_port or _free_port()
            try:
                self._domain = self._connection.createXML(
                    self._xml(),
                    libvirt.VIR_DOMAIN_START_AUTODESTROY | libvirt.VIR_DOMAIN_START_PAUSED,
                )
                break
            except libvirt.libvirtError as error:
                message = error.get_error_message()
                taken = "host forwarding rule" in message
                if taken and self.host.ssh_port is None and attempt < 4:
                    continue  # somebody took the port between our look and QEMU's bind
                if attempt < 4 and mend(message):
                    time.sleep(_MENDED_SECONDS)
                    continue
                if taken:
                    raise LabError(
                        f"port {self._port} of 127.0.0.1 is taken",
                        where=f"host {self.host.name}: ssh_port",
                        hint="free it, or leave ssh_port out to get any free one",
                    ) from error
                raise LabError(
                    f"QEMU did not start: {_last_line(message)}", where=self.name
                ) from error
        self._console.attach(_connect_unix(self._folder / "serial"))
        self.lines = [Line(_connect_unix(path), path.name) for path in self._line_paths()]
        assert self._domain is not None
        self._domain.resume()

    def power_off(self) -> None:
        """Destroy the domain and end the recording."""
        if self._domain is not None:
            with contextlib.suppress(libvirt.libvirtError):
                self._domain.destroy()
            self._domain = None
        if self._connection is not None:
            with contextlib.suppress(libvirt.libvirtError):
                self._connection.close()
            self._connection = None
        for line in self.lines:
            line.hang_up()
        self._console.close()

    def check(self) -> None:
        """Raise when QEMU has ended or a console showed a crash; the crash comes first."""
        self._console.check()
        try:
            state, reason = self._running().state()
        except libvirt.libvirtError as error:
            raise LabError(
                f"QEMU is gone: {error.get_error_message()}", where=f"host {self.host.name}"
            ) from error
        well = [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED]
        if self.stub:  # whose stops libvirt learns of a little late
            well.append(libvirt.VIR_DOMAIN_PAUSED)
        if state not in well:
            raise LabError(
                f"QEMU does not run (libvirt state {state}, reason {reason})",
                where=f"host {self.host.name}",
            )

    def up(self) -> None:
        """Nothing: booting makes no difference here."""

    def save(self) -> None:
        """Keep the machine as it is now, in place of an earlier snapshot; it then runs on."""
        domain = self._running()
        domain.suspend()
        try:
            _obey(domain, f"savevm {_SNAPSHOT}", "cannot save the machine")
        finally:
            domain.resume()

    def restore(self, held: AbstractContextManager[None] | None = None) -> None:
        """Bring back the machine that was saved, whatever has become of it since.

        What was on its way on a line is gone.  The console's earlier crashes no longer count.
        ``held`` keeps the machine still meanwhile, instead of libvirt: for who has the stub.
        """
        with held or self._suspended():
            _obey(self._running(), f"loadvm {_SNAPSHOT}", "cannot restore the machine")
            for line in self.lines:
                line.empty()
            self._console.forget()

    @contextlib.contextmanager
    def _suspended(self) -> Iterator[None]:
        domain = self._running()
        try:
            if domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING:
                domain.suspend()
            yield
            domain.resume()
        except libvirt.libvirtError as error:  # a Xen that crashed may have ended QEMU
            message = error.get_error_message()
            raise LabError(f"cannot restore the machine: {message}", where=self.name) from error

    def freeze(self) -> None:
        """Stop every CPU where it is, until ``restore`` or ``power_off``.  Never raises."""
        with contextlib.suppress(LabError, libvirt.libvirtError):
            self._running().suspend()

    def cpus(self) -> list[Cpu]:
        """Return where every physical CPU is now."""
        return cpus.look(self._running())

    def memory(self, cpu: int, address: int, size: int) -> bytes:
        """Return ``size`` bytes at the virtual ``address`` that ``cpu`` sees."""
        return cpus.memory(self._running(), cpu, address, size)

    def dump(self) -> Path:
        """Write the physical memory into a file of the scratch directory; return its path.

        Works whatever the guest is doing.  LabError when QEMU cannot.
        """
        image = self._folder / "memory"
        image.unlink(missing_ok=True)
        size = self.host.memory_mib << 20
        line = f'pmemsave {_MEMORY_AT[self.host.arch]:#x} {size:#x} "{image}"'
        _obey(self._running(), line, "cannot read the machine's memory")
        return image

    def spare_interrupt(self, raised: bool) -> int:
        """Set the line of the spare serial port's interrupt (x86-64 with a stub); return its
        number.  It is level-triggered: a raised one interrupts whenever it is let to."""
        found = _SPARE_PORT.search(cpus.human(self._running(), "info pci"))
        if found is None:
            raise LabError("has no spare serial port", where=self.name)
        enable = int(found["io"], 16) + 1  # IER: 2 asks to be told when the transmitter is empty
        for value in (0, 2) if raised else (0,):
            _obey(self._running(), f"o /b {enable:#x} {value}", "cannot reach the serial port")
        return int(found["irq"])

    def pid(self) -> int:
        """Return QEMU's process id (0 when it cannot be told)."""
        assert self._connection is not None
        folder = (
            Path("/run/libvirt/qemu")
            if os.geteuid() == 0
            else Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}"))
            / "libvirt/qemu/run"
        )
        try:
            return int((folder / f"{self.name}.pid").read_text())
        except (OSError, ValueError):
            return 0

    def _line_paths(self) -> list[Path]:
        return [self._folder / f"agent.{number}" for number in range(2 + self.host.domus)]

    def _running(self) -> libvirt.virDomain:
        if self._domain is None:
            raise LabError("the machine is powered off", where=self.name)
        return self._domain

    def _xml(self) -> str:
        disk = self._folder / "root.qcow2"
        qemu_img = command.which("qemu-img", "qemu-utils")
        if self.boot.root is not None:
            backing = ["-b", str(self.boot.root), "-F", "raw"]
            command.run([qemu_img, "create", "-q", "-f", "qcow2", *backing, disk], timeout=30)
        else:
            command.run([qemu_img, "create", "-q", "-f", "qcow2", disk, "1M"], timeout=30)
        arch = self.host.arch
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(IMAGES / "libvirt"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
        )
        return environment.get_template(f"machine-{arch}.xml.j2").render(
            name=self.name,
            accel=self.accel.accel,
            memory_mib=self.host.memory_mib,
            cpus=self.host.cpus,
            emulator=emulator.emulator(arch, self.accel.accel),
            serial=self._folder / "serial",
            disk=disk,
            aio=disk_io(qemu_img, disk),
            lines=self._line_paths(),
            seclabels=_seclabels(self._connection),
            extra=self._extra(),
        )

    def _stub_arguments(self) -> list[str]:
        """The stub, and (x86-64) a serial port that nobody uses: a source of interrupts."""
        words = ["-gdb", f"unix:{self.stub},server=on,wait=off"]
        if self.host.arch is Arch.X86_64:
            words += ["-chardev", "null,id=spare"]
            words += ["-device", f"pci-serial,chardev=spare,id={SPARE},addr={_SPARE_AT}"]
        return words

    def _tcg_cpu(self) -> list[str]:
        """The CPU of an x86-64 machine, where libvirt does not choose it."""
        if self.accel.accel != "tcg":
            return []
        assert self._connection is not None
        program = emulator.emulator(self.host.arch, "tcg")
        try:
            said = self._connection.getDomainCapabilities(program, "x86_64", "pc", "qemu")
        except libvirt.libvirtError as error:
            message = error.get_error_message()
            raise LabError(f"libvirt cannot say what {program} has: {message}") from error
        return ["-cpu", cpu_model.tcg_cpu(said), *cpu_model.ARGUMENTS]

    def _extra(self) -> list[str]:
        """QEMU arguments that libvirt's XML has no words for."""
        stub = self._stub_arguments() if self.stub else []
        forward = f"user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:{self._port}-10.0.2.15:22"
        boot = self.boot
        if self.host.arch is Arch.X86_64:
            module = f"{boot.kernel} {boot.dom0_args}".replace(",", ",,")
            modules = f"{module},{str(boot.initramfs).replace(',', ',,')}"
            return [
                *stub,
                *self._tcg_cpu(),
                *("-netdev", forward, "-device", "virtio-net-pci,netdev=net0,addr=0x1d,romfile="),
                *("-kernel", str(boot.xen), "-append", boot.xen_args, "-initrd", modules),
            ]
        tree = self._folder / "machine.dtb"
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
            *stub,
            *("-machine", "virtualization=on"),
            *("-netdev", forward, "-device", "virtio-net-device,netdev=net0"),
            *("-kernel", str(boot.xen), "-dtb", str(tree)),
            *("-device", loader.format(device_tree.KERNEL_AT, boot.kernel)),
            *("-device", loader.format(device_tree.RAMDISK_AT, boot.initramfs)),
        ]


def disk_io(qemu_img: str, disk: Path) -> str:
    """Return how QEMU is to read ``disk``: by io_uring where kernel and QEMU know it.

    A machine is restored three times as fast then: a snapshot is read in small pieces.
    """
    try:
        words = [qemu_img, "bench", "-f", "qcow2", "-t", "unsafe", "-i", "io_uring", "-c", "1"]
        command.run([*words, disk], timeout=30)
    except command.CommandFailed:
        return "threads"
    return "io_uring"


def _seclabels(connection: libvirt.virConnect | None) -> list[tuple[str, str]]:
    """Return (model, label) pairs: root's QEMU runs as root and may read root's cache.

    The full capabilities would name the models too, but where /dev/kvm is there and of no use,
    libvirt probes every QEMU anew for them (seen: 15 s).
    """
    assert connection is not None
    if os.geteuid() != 0:
        return []
    labels = {"apparmor": "", "selinux": ""}
    primary = connection.getSecurityModel()[0]
    own = [(primary, labels[primary])] if primary in labels else []
    return [("dac", f"+{os.getuid()}:+{os.getgid()}"), *own]


def _obey(domain: libvirt.virDomain, line: str, problem: str) -> None:
    """Give QEMU's monitor a command that says nothing when it succeeds."""
    said = cpus.human(domain, line).strip()
    if said:
        raise LabError(f"{problem}: {_last_line(said)}", where=domain.name())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _connect_unix(path: Path) -> socket.socket:
    try:
        return connect_socket(path, _CONNECT_SECONDS)
    except OSError as error:
        raise LabError(f"no serial line: {error.strerror}", where=str(path)) from error


def _last_line(message: str) -> str:
    return (message.strip().splitlines() or [""])[-1]
