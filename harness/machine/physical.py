# SPDX-License-Identifier: GPL-2.0-or-later
"""A physical server as a Machine: power by its BMC, console by its serial line, boot by GRUB.

A run begins and ends in the server's default system.  Xen and dom0 run from memory only, with no
disk mounted, so the power can be switched off at any time without harm.

All that is only done while the run holds the server's lease: the next run may have the server
before this one has noticed that it was suspended for a while.  From then on nothing is done to
the server, and what was open is closed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from harness.config.physical import PhysicalHost
from harness.hypervisor.cpu import Cpu
from harness.machine import grub, keys, power, shell, wires
from harness.machine.console import Console
from harness.machine.kept import Kept
from harness.machine.lease import Held
from harness.machine.line import Line
from harness.machine.patience import WALL
from harness.verdict import HarnessError, LabError

_GOING_SECONDS = 60.0  # how long an orderly reboot may take to begin
_HANDOVER_SECONDS = 5.0  # between two checks whether the default system is back
_NMI_SECONDS = 5.0
_TAKEN_TOO_OFTEN = 3  # times that others may take the console; we take it back
_GARBLED = 0.2  # share of bytes that are not text
_ENOUGH_BYTES = 200
# Of Linux's drivers/base/firmware_loader, of Debian's patch to it, and of drivers themselves.
_NO_FIRMWARE = re.compile(
    r"(?:irect firmware load for|firmware: failed to load|nable to load firmware"
    r"|an't load firmware file) \"?([^\s\"]+)"
)
_BROKEN = re.compile(r"harness: dom0 (network|sshd|stage1) failed.*")


@dataclass(frozen=True)
class ServerBoot:
    """What to boot: local files, which get these field names on the server, and command lines."""

    xen: Path
    kernel: Path
    root: Path  # compressed cpio archive with dom0's root; the initramfs is appended to it
    initramfs: Callable[[str], Path]  # writes the run's own, given dom0's network configuration
    xen_args: str
    dom0_args: str


class PhysicalMachine:
    """One server; see harness.machine.Machine.  ``notice`` prints a message for the user."""

    clock = WALL
    looks = 3  # few, because each takes seconds over a serial line
    entry = ""
    kept: Kept | None = None

    def __init__(
        self,
        host: PhysicalHost,
        boot: ServerBoot,
        *,
        held: Held,
        console: Console,
        notice: Callable[[str], None],
    ) -> None:
        self.host = host
        self.boot = boot
        self.lines: list[Line] = []  # a server has none: agents come over SSH
        self.stranded = ""  # why the server is not back in its default system, after power_off
        self._held = held
        self._console = console
        self._notice = notice
        self._power = power.chain(
            host.power,
            seconds=host.limits.power,
            where=f"host {host.name}: power",
            before=held.confirm,
        )
        self._wire: wires.Lasting | None = None
        self._boot_id = ""
        self.left = False  # True: we rebooted the default system, so it must be booted again
        self._home = False
        self._deadline = 0.0  # for dom0 to come up; 0.0 once it has
        self._asked = 0.0
        self._heard_before = 0

    @property
    def console(self) -> Console:
        """The recorded serial line."""
        return self._console

    @property
    def ssh(self) -> tuple[str, int]:
        """The default system's address and port: dom0 uses the same."""
        return self.host.ssh.address, self.host.ssh.port

    @property
    def boot_seconds(self) -> float:
        """More than limits.xen, so that ``check`` fails first and says why dom0 does not come."""
        return self.host.limits.xen + 30

    def power_on(self) -> None:
        """Start recording, log in to the default system, install Xen there, and reboot into Xen."""
        opener = wires.opener(self.host.console)

        def open_wire() -> wires.Wire:
            self._held.check()
            return opener()

        self._wire = wires.Lasting(
            open_wire,
            notice=lambda gap: self._notice(f"{self.host.name}: {gap}"),
        )
        self._held.when_lost(functools.partial(self._wire.shutdown, socket.SHUT_RDWR))
        self._console.attach(self._wire)
        session = self._default_system()
        self._held.when_lost(session.close)
        with contextlib.closing(session):
            self._install(session)
            self._held.confirm()
            grub.boot_once(session, self.host.boot)
            self._heard_before = self._wire.heard
            self.left = True
            self._reboot(session)
        self._asked = time.monotonic()
        self._deadline = self._asked + self.host.limits.xen

    def power_off(self) -> None:
        """Switch off; then boot the default system, unless lab.yaml has ``boot.leave: off``.

        Nothing of that if the lease is lost: the server is another run's.
        """
        try:
            if self.left and not self._home:
                self._home = True  # even if it failed: a second try would fail as well
                self._held.check()
                self._go_home()
        except HarnessError as error:
            self.stranded = str(error)
            self._notice(f"{self.host.name}: NOT back in its default system: {error}")
        finally:
            self._console.close()

    def check(self) -> None:
        """Raise if the lease is lost, the console shows a crash, or dom0 cannot come up."""
        self._held.check()
        self._console.check()
        if self._wire is not None and self._wire.taken >= _TAKEN_TOO_OFTEN:
            raise LabError(
                f"the console was taken from this run {self._wire.taken} times: somebody else "
                "works on this server",
                where=f"host {self.host.name}",
                hint="see who is logged in to its BMC",
            )
        if not self._deadline:
            return
        for line in self._console.tail("dom0", 200):
            if _BROKEN.match(line.text):
                raise LabError(
                    f"dom0 came up broken: {line.text}",
                    where=self.host.name,
                    hint=self._lacks_firmware(),
                )
        now = time.monotonic()
        if now - self._asked > _HANDOVER_SECONDS:
            self._asked = now
            self._see_it_is_not_home()
        if now > self._deadline:
            raise LabError(
                self._why_not(), where=f"host {self.host.name}", hint=self._lacks_firmware()
            )

    def up(self) -> None:
        """Booting is over: dom0 answers, so its time limit no longer counts."""
        self._deadline = 0.0

    def save(self) -> None:
        """LabError: a server has no snapshots."""
        raise LabError(
            "a server cannot be saved", where=self.host.name, hint="leave --snapshot out"
        )

    def keep(self, disk: Path) -> str:
        """LabError: a server has no snapshots."""
        raise LabError("a server cannot be kept in the cache", where=self.host.name)

    def restore(self, held: AbstractContextManager[None] | None = None) -> None:
        """LabError: a server has no snapshots."""
        self.save()

    def freeze(self) -> None:
        """Do nothing: a server can be switched off, but not stopped."""

    def cpus(self) -> list[Cpu]:
        """Press Xen's debug key on the console and return the state of every CPU that it prints.

        If Xen does not answer, send an NMI, after which the console shows more, and LabError.
        """
        self._held.confirm()
        try:
            return keys.registers(self._console)
        except LabError as silent:
            raise self._last_resort(silent) from None

    def memory(self, cpu: int, address: int, size: int) -> bytes:
        """LabError: nobody looks into a server's memory from outside."""
        raise LabError("a server's memory cannot be read", where=f"CPU{cpu} {address:#x}")

    def halted(self, sign: tuple[int, bytes]) -> NoReturn:
        """LabError: nobody writes into a server's memory from outside."""
        raise LabError("a server's memory cannot be written", where=self.host.name)

    def lost_interrupt(self) -> None:
        """None: a server's CPUs lose none."""

    def dump(self) -> Path:
        """LabError: nobody looks into a server's memory from outside."""
        raise LabError("a server's memory cannot be read", where=self.host.name)

    def pid(self) -> int:
        """0: a server is not a process."""
        return 0

    def _default_system(self) -> shell.Shell:
        """Return a shell in the default system; boot that first if something else runs."""
        self._held.check()
        where, limits = self.host.name, self.host.limits
        self._console.booting()
        if self._power.state() == "off":
            self._notice(f"{where}: the server is off; switching it on")
            self._power.on()
        else:
            try:
                return self._log_in()
            except LabError as error:
                self._notice(f"{where}: {error.what}: cycling its power to get its default system")
                self.left = True
                self._power.cycle()
        return shell.wait_for(self._log_in, limits.boot)

    def _log_in(self) -> shell.Shell:
        self._held.check()
        ssh = self.host.ssh
        return shell.connect(ssh.address, ssh.port, "root", ssh.key_file, ssh.host_key)

    def _install(self, session: shell.Shell) -> None:
        host, boot = self.host, self.boot
        system = grub.inspect(session, host.boot, host.arch, host.boot.modules)
        self._boot_id = system.boot_id
        files = {
            "xen": boot.xen,
            "kernel": boot.kernel,
            "root.cpio.gz": boot.root,
            "run.cpio": boot.initramfs(system.network),
        }
        try:
            self._held.confirm()
            grub.place(
                session,
                host.boot,
                system,
                {name: (file, _sha256(file)) for name, file in files.items()},
            )
            self._held.confirm()
            join = "cat root.cpio.gz run.cpio >initrd && chmod 600 initrd && sync"
            session.run(f"cd {host.boot.folder} && {join}", timeout=300)
            lines = grub.entry(host.arch, system, xen_args=boot.xen_args, dom0_args=boot.dom0_args)
            grub.write_entry(session, host.boot, lines)
        except LabError:
            with contextlib.suppress(LabError):
                self._held.confirm()
                grub.clean(session, host.boot)
            raise

    def _reboot(self, session: shell.Shell) -> None:
        """Reboot orderly, so that all files are on the disk for GRUB; else cycle the power."""
        self._held.confirm()
        self._console.booting()
        with contextlib.suppress(LabError):
            session.run("(sleep 1; reboot) >/dev/null 2>&1 </dev/null &")
        deadline = time.monotonic() + _GOING_SECONDS
        while time.monotonic() < deadline:
            try:
                session.run("true", timeout=5)
            except LabError:
                return
            time.sleep(0.5)
        self._notice(f"{self.host.name}: the server does not reboot when asked; cycling its power")
        self._power.cycle()

    def _go_home(self) -> None:
        self._console.booting()
        if self.host.boot.leave == "off":
            self._power.off()
            return
        self._power.cycle()
        session = shell.wait_for(self._log_in, self.host.limits.boot)
        with contextlib.closing(session):
            if grub.boot_id(session) == self._boot_id:
                raise LabError("the power switch reported success, but the server did not go down")

    def _see_it_is_not_home(self) -> None:
        """Raise if the server booted its default system again instead of Xen."""
        try:
            session = self._log_in()
        except HarnessError:
            return  # nobody answers, or dom0 with the run's own key: as it should be
        with contextlib.closing(session):
            try:
                now = grub.boot_id(session, timeout=5)
            except LabError:
                return
        if now != self._boot_id:
            raise LabError(
                "the server came back in its default system: GRUB did not boot the entry, or Xen "
                "ended early",
                where=f"host {self.host.name}",
                hint="see the console log; `evtchn-harness lab check` checks GRUB's configuration",
            )

    def _why_not(self) -> str:
        assert self._wire is not None
        limit = f"dom0 did not come up within {self.host.limits.xen:.0f} s"
        heard = self._wire.heard - self._heard_before
        if self._wire.problem:
            return f"{limit}, and the console is gone: {self._wire.problem}"
        if not heard:
            return f"{limit}, and the console is dead: not a byte since the reboot"
        if heard > _ENOUGH_BYTES and self._wire.odd > _GARBLED * self._wire.heard:
            share = 100 * self._wire.odd // self._wire.heard
            return (
                f"{limit}, and the console is garbled ({share} % is not text): check its speed "
                "(boot.xen_args in lab.yaml)"
            )
        if any("harness: dom0 sshd up" in line.text for line in self._console.tail("dom0", 200)):
            address, port = self.ssh
            return (
                f"{limit}: its console says it is up, but nobody answers at {address}:{port}; "
                "check its network (boot.modules in lab.yaml)"
            )
        last = self._console.tail("dom0", 1) or self._console.tail("xen", 1)
        return f"{limit}; the console's last words: {last[0].text if last else 'none'}"

    def _lacks_firmware(self) -> str:
        """Return a hint if dom0's kernel said that it has no firmware for a device, else ""."""
        lines = self._console.tail("dom0", 2000)
        found = [name for line in lines for name in _NO_FIRMWARE.findall(line.text)]
        names = ", ".join(dict.fromkeys(found))
        what = "dom0's image has no firmware; if it is the network card's, use another card"
        return f"its kernel did not find the firmware {names}: {what}" if names else ""

    def _last_resort(self, silent: LabError) -> LabError:
        """Send an NMI, and return the error that says how Xen reacted."""
        self._console.ignore("xen")  # Xen will crash, but because of our NMI
        self._console.booting()
        with self._console.listen("xen") as lines:
            try:
                self._power.nmi()
            except LabError as error:
                return LabError(f"{silent.what}; {error.what}", where=self.host.name)
            time.sleep(_NMI_SECONDS)
            said = [lines.get_nowait() for _ in range(lines.qsize())]
        place = next((line for line in said if "RIP:" in line or "PC:" in line), "nothing")
        return LabError(f"{silent.what}; to an NMI it says {place.strip()}", where=self.host.name)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
