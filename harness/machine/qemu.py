# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine under QEMU, started by libvirt as a transient domain.

VIR_DOMAIN_START_AUTODESTROY: libvirt destroys the machine when our connection ends, also if we
are killed by SIGKILL.  A transient domain has no definition that could be left behind.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import libvirt

from harness.arch import Arch
from harness.config.host import QemuHost
from harness.hypervisor.cpu import Cpu
from harness.machine import apic, cpus, monitor, qemu_disk, spare_port
from harness.machine.accel import Choice
from harness.machine.connection import connect, mend
from harness.machine.console import Console
from harness.machine.ending import Ending
from harness.machine.halted import Halted, halted
from harness.machine.kept import Kept, copied
from harness.machine.line import Line, connect_socket
from harness.machine.patience import MachineClock
from harness.machine.qemu_xml import Asked, Boot
from harness.verdict import LabError

_CONNECT_SECONDS = 20.0
_MENDED_SECONDS = 0.5  # a daemon just started needs a moment
_SNAPSHOT = "pristine"
_MEMORY_AT = {Arch.X86_64: 0, Arch.ARM64: 0x4000_0000}  # QEMU's pc (below 3 GiB) and virt


class QemuMachine:
    """One QEMU under libvirt; see harness.machine.Machine.

    ``folder`` is a scratch directory of the run; ``console`` records the serial line.  With
    ``stub`` QEMU's gdbstub listens at a socket in ``folder``.  ``entry`` is the machine's name in
    the cache, and ``kept`` what lies there: the machine goes on from it instead of booting.
    ``plugin``: QEMU's arguments that load a plugin.
    """

    looks = 10  # many, because QEMU's monitor is fast
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
        entry: str = "",
        kept: Kept | None = None,
        plugin: Sequence[str] = (),
    ) -> None:
        self.host = host
        self.boot = boot
        self.accel = accel
        name = f"{host.name}-{folder.name.rpartition('-')[2]}"
        self._asked = Asked(name, host, boot, accel, folder, stub, tuple(plugin))
        self._folder = folder
        self._console = console
        self.stub = self._asked.stub if stub else None
        self.entry = entry
        self.kept = kept
        self._connection: libvirt.virConnect | None = None
        self._domain: libvirt.virDomain | None = None
        self._ending: Ending | None = None
        self._port = 0
        self._process = 0
        self.clock = MachineClock(self.pid)
        # To the virtio ports agent.0, agent.1... of dom0: one per domain, and a spare one.
        self.lines: list[Line] = []

    @property
    def console(self) -> Console:
        """The recorded serial line."""
        return self._console

    @property
    def ssh(self) -> tuple[str, int]:
        """The address and port that QEMU forwards to dom0's sshd."""
        return "127.0.0.1", self._port

    @property
    def name(self) -> str:
        """The name of the libvirt domain; every run has another one."""
        return self._asked.name

    def power_on(self) -> None:
        """Start QEMU paused, attach the recorder, restore what was kept, let it run."""
        self._connection = connect(self.host.libvirt_uri)
        if self.kept is not None:
            self.kept.copy(self._asked.disk)
        else:
            qemu_disk.make(self._asked.disk, self.boot.root)
        for attempt in range(5):
            self._port = self.host.ssh_port or _free_port()
            try:
                self._domain = self._connection.createXML(
                    self._asked.xml(self._connection, self._port),
                    libvirt.VIR_DOMAIN_START_AUTODESTROY | libvirt.VIR_DOMAIN_START_PAUSED,
                )
                break
            except libvirt.libvirtError as error:
                message = error.get_error_message()
                taken = "host forwarding rule" in message
                if taken and self.host.ssh_port is None and attempt < 4:
                    continue  # another program took the port after we had found it free
                if attempt < 4 and mend(message):
                    time.sleep(_MENDED_SECONDS)
                    continue
                if taken:
                    raise LabError(
                        f"port {self._port} of 127.0.0.1 is taken",
                        where=f"host {self.host.name}: ssh_port",
                        hint="free this port, or leave ssh_port out to get any free port",
                    ) from error
                raise LabError(
                    f"QEMU did not start: {_last_line(message)}", where=self.name
                ) from error
        self._console.clock = self.clock
        self._console.attach(_connect_unix(self._asked.serial), up=self.kept is not None)
        self.lines = [
            Line(_connect_unix(path), path.name, self.clock) for path in self._asked.lines
        ]
        assert self._domain is not None
        self._ending = Ending(self._connection, self._domain)
        if self.kept is not None:
            monitor.obey(self._domain, f"loadvm {_SNAPSHOT}", "cannot restore the machine")
        self._domain.resume()

    def connected(self) -> bool:
        """Say whether libvirt is still there: QEMU ends with our connection to it."""
        try:
            return self._connection is not None and bool(self._connection.isAlive())
        except libvirt.libvirtError:
            return False

    def power_off(self) -> None:
        """Destroy the domain and end the recording."""
        if self._domain is not None:
            with contextlib.suppress(libvirt.libvirtError):
                self._domain.destroy()
            self._domain = None
        if self._ending is not None:
            self._ending.close()
            self._ending = None
        if self._connection is not None:
            with contextlib.suppress(libvirt.libvirtError):
                self._connection.close()
            self._connection = None
        for line in self.lines:
            line.hang_up()
        self._console.close()

    def check(self) -> None:
        """Raise if a console showed a crash, or else if QEMU has ended.

        libvirt ends QEMU when the machine resets itself (on_reboot in its XML).  Unless the console
        says who wanted that, it is a crash of Xen.
        """
        self._console.check()
        try:
            state, reason = self._running().state()
        except libvirt.libvirtError as error:
            raise self._gone(error.get_error_message()) from error
        if state in (libvirt.VIR_DOMAIN_SHUTDOWN, libvirt.VIR_DOMAIN_SHUTOFF):  # not yet forgotten
            raise self._gone(f"libvirt state {state}, reason {reason}")
        well = [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED]
        if self.stub:  # libvirt learns a little late that the stub stopped the machine
            well.append(libvirt.VIR_DOMAIN_PAUSED)
        if state not in well:
            raise LabError(
                f"QEMU does not run (libvirt state {state}, reason {reason})",
                where=f"host {self.host.name}",
            )

    def _gone(self, why: str) -> LabError:
        """Return that QEMU has ended and ``why``; raise if that is a crash of Xen."""
        if self._ending is not None and self._ending.from_inside():
            why = self._console.ended() or why
            self._console.check()
        return LabError(f"QEMU is gone: {why}", where=f"host {self.host.name}")

    def up(self) -> None:
        """Do nothing: a machine under QEMU has no time limit for booting."""

    def save(self) -> None:
        """Save a snapshot, which replaces an earlier one; the machine then goes on."""
        domain = self._running()
        domain.suspend()
        try:
            monitor.obey(domain, f"savevm {_SNAPSHOT}", "cannot save the machine")
        finally:
            domain.resume()

    def keep(self, disk: Path) -> str:
        """Save a snapshot, and copy the disk with it to ``disk``; the machine then goes on.

        Returns the digest of the copy; OSError if it cannot be written.
        """
        domain = self._running()
        domain.suspend()
        try:
            monitor.obey(domain, f"savevm {_SNAPSHOT}", "cannot save the machine")
            # It writes what QEMU has in memory.
            monitor.obey(domain, "stop", "cannot save the machine")
            return copied(self._asked.disk, disk)
        finally:
            domain.resume()

    def restore(self, held: AbstractContextManager[None] | None = None) -> None:
        """Restore the snapshot that ``save`` made, even if the machine has crashed since.

        Data in transit on a line is lost.  Earlier crashes on the console no longer count.
        While QEMU restores, libvirt suspends the machine; a caller that controls the stub gives
        ``held`` instead, in which the stub holds it.
        """
        with held or self._suspended():
            monitor.obey(self._running(), f"loadvm {_SNAPSHOT}", "cannot restore the machine")
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
        except libvirt.libvirtError as error:  # QEMU may have ended when Xen crashed
            message = error.get_error_message()
            raise LabError(f"cannot restore the machine: {message}", where=self.name) from error

    def freeze(self) -> None:
        """Stop every CPU until ``restore`` or ``power_off``.  Never raises."""
        with contextlib.suppress(LabError, libvirt.libvirtError):
            self._running().suspend()

    def cpus(self) -> list[Cpu]:
        """Return the state of every physical CPU now."""
        return cpus.look(self._running())

    def memory(self, cpu: int, address: int, size: int) -> bytes:
        """Return ``size`` bytes at virtual ``address`` of ``cpu``; LabError if it is not mapped."""
        return cpus.memory(self._running(), cpu, address, size)

    def halted(self, sign: tuple[int, bytes]) -> AbstractContextManager[Halted]:
        """Halt every CPU in the block; see harness.machine.Machine.

        LabError if QEMU's gdbstub is in use already, or does not answer.
        """
        if self.stub:
            raise LabError("QEMU's gdbstub is in use", where=self.name)
        return halted(self._running(), self._folder / "halted", self.host.cpus, sign)

    def lost_interrupt(self) -> apic.Lost | None:
        """Return an interrupt that QEMU has lost; of arm64, none is known of."""
        if self.host.arch is not Arch.X86_64:
            return None
        domain = self._running()
        threads = cpus.threads(domain)

        def waits(cpu: int) -> bool:
            return cpu in threads and cpus.sleeps(threads[cpu])

        return apic.lost(self.host.cpus, lambda line, cpu: monitor.ask(domain, line, cpu), waits)

    def dump(self) -> Path:
        """Write the physical memory into a file of the scratch directory; return its path.

        Works also if Xen hangs or has crashed.  LabError if QEMU fails.
        """
        image = self._folder / "memory"
        image.unlink(missing_ok=True)
        size = self.host.memory_mib << 20
        line = f'pmemsave {_MEMORY_AT[self.host.arch]:#x} {size:#x} "{image}"'
        monitor.obey(self._running(), line, "cannot read the machine's memory")
        return image

    def spare_interrupt(self, raised: bool) -> int:
        """Raise or lower the interrupt of the spare serial port (x86-64 with a stub); return its
        number; see spare_port."""
        return spare_port.set_interrupt(self._running(), raised)

    def pid(self) -> int:
        """Return QEMU's process id; 0 if it is not known."""
        self._process = self._process or self._find_process()
        return self._process

    def _find_process(self) -> int:
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

    def _running(self) -> libvirt.virDomain:
        if self._domain is None:
            raise LabError("the machine is powered off", where=self.name)
        return self._domain


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
