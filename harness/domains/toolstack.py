# SPDX-License-Identifier: GPL-2.0-or-later
"""dom0's libvirt (xen:///system) and the domUs that it runs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import jinja2
import libvirt

from harness.arch import Arch
from harness.data import IMAGES
from harness.domains.call_timeout import Overdue, within
from harness.domains.dom0 import Dom0, ExecChannel
from harness.domains.tunnel import Tunnel
from harness.machine.connection import start_event_loop
from harness.machine.console import Console
from harness.machine.patience import WALL, Clock, Deadline
from harness.verdict import LabError

_CALL_SECONDS = 60.0  # a call that only asks or notes something
_START_SECONDS = 90.0
_DESTROY_SECONDS = 60.0
_CLOSE_SECONDS = 5.0
_WHERE = "xen:///system"
_KEEPALIVE = (10, 12)  # seconds between probes; number of probes without an answer

_T = TypeVar("_T")


class NotStarted(LabError):
    """libvirt could not start a domU."""


@dataclass(frozen=True)
class DomUBoot:
    """What a domU boots (paths inside dom0, arguments of its kernel), and its size."""

    kernel: str
    initramfs: str
    cmdline: str
    type: str  # pv, pvh, arm
    memory_mib: int
    vcpus: int
    template: str = "domu"  # images/libvirt/TEMPLATE-ARCH.xml.j2


class DomU:
    """One domU, started through libvirt; its console is recorded from the first byte on."""

    def __init__(
        self,
        name: str,
        type_: str,
        domain: libvirt.virDomain,
        console: ExecChannel,
        clock: Clock = WALL,
    ) -> None:
        self.name = name
        self._clock = clock
        self.type = type_
        self._domain = domain
        self._console = console
        self.domid: int = domain.ID()

    def state(self) -> str:
        """Return libvirt's name of the domain's state; "gone" if it does not exist."""
        names = {
            libvirt.VIR_DOMAIN_RUNNING: "running",
            libvirt.VIR_DOMAIN_BLOCKED: "blocked",
            libvirt.VIR_DOMAIN_PAUSED: "paused",
            libvirt.VIR_DOMAIN_SHUTDOWN: "shutdown",
            libvirt.VIR_DOMAIN_SHUTOFF: "shutoff",
            libvirt.VIR_DOMAIN_CRASHED: "crashed",
        }
        try:
            state = _asked(self.name, self._domain.state, self._clock)
            return names.get(state[0], "unknown")
        except libvirt.libvirtError:
            return "gone"

    def destroy(self) -> None:
        """Destroy and undefine the domain; LabError if that fails, Overdue if it takes too long."""
        try:
            _remove(self.name, self._domain, self._clock)
            self._console.close()
        except libvirt.libvirtError as error:
            raise LabError(
                f"cannot remove the domain: {error.get_error_message()}", where=self.name
            ) from error


class Toolstack:
    """A connection to dom0's libvirtd, tunnelled through the SSH session."""

    def __init__(self, dom0: Dom0, connection: libvirt.virConnect, tunnel: Tunnel) -> None:
        self._dom0 = dom0
        self._connection = connection
        self._tunnel = tunnel
        self._lock = threading.Lock()
        self._ended: dict[str, str] = {}
        self._expected: set[str] = set()
        self._callback = _asked(_WHERE, self._register, dom0.clock)

    @classmethod
    def connect(
        cls, dom0: Dom0, folder: Path, *, timeout: float, check: Callable[[], None]
    ) -> Toolstack:
        """Connect as soon as dom0's libvirtd answers, for at most ``timeout`` seconds."""
        start_event_loop()
        deadline = Deadline(dom0.clock, timeout)
        while True:
            check()
            tunnel = Tunnel(dom0, ["virt-ssh-helper", _WHERE], folder / "xen")
            address = f"xen+unix:///system?socket={tunnel.path}"
            try:
                connection = within(
                    _CALL_SECONDS,
                    "connecting to libvirtd",
                    _WHERE,
                    partial(libvirt.open, address),
                    dom0.clock,
                    check,
                )
                connection.setKeepAlive(*_KEEPALIVE)
                return cls(dom0, connection, tunnel)
            except (libvirt.libvirtError, Overdue) as error:
                tunnel.close()
                if deadline.over:
                    said = error if isinstance(error, Overdue) else error.get_error_message()
                    raise LabError(
                        f"dom0's libvirtd does not answer: {said}",
                        where=_WHERE,
                        hint="see the dom0 console log",
                    ) from error
                time.sleep(0.3)
            except BaseException:  # Xen has died, or Ctrl-C
                tunnel.close()
                raise

    def start(
        self, name: str, arch: Arch, boot: DomUBoot, console: Console, first_cpu: int = 0
    ) -> DomU:
        """Define and start a domU; its console is recorded as stream ``name``.

        Each vCPU is pinned to one CPU: vCPU 0 to ``first_cpu``, vCPU 1 to the next one...
        NotStarted if libvirt fails, with the domU removed again; Overdue if a call does not end;
        what ``console.check`` raises if Xen or dom0 dies meanwhile: then no call ends.
        """
        clock = self._dom0.clock
        cpus = self._cpu_count()
        xml = (
            _environment()
            .get_template(f"{boot.template}-{arch}.xml.j2")
            .render(
                name=name,
                boot=boot,
                memory_mib=boot.memory_mib,
                vcpus=boot.vcpus,
                cpus=[(first_cpu + vcpu) % cpus for vcpu in range(boot.vcpus)],
            )
        )
        domain: libvirt.virDomain | None = None
        try:
            domain = _asked(name, lambda: self._connection.defineXML(xml), clock)
            paused = libvirt.VIR_DOMAIN_START_PAUSED
            within(
                _START_SECONDS,
                "starting the domU",
                name,
                lambda: domain.createWithFlags(paused),
                clock,
                console.check,
            )
            recorded = self._record(name, console)
            within(_CALL_SECONDS, "resuming the domU", name, domain.resume, clock, console.check)
        except libvirt.libvirtError as error:
            if domain is not None:
                self.expect_end(name)
                with contextlib.suppress(libvirt.libvirtError):
                    _remove(name, domain, self._dom0.clock)
            raise NotStarted(
                f"the domU does not start: {error.get_error_message()}",
                where=name,
                hint="see /var/log/libvirt/libxl in dom0 (`evtchn-harness boot`)",
            ) from error
        return DomU(name, boot.type, domain, recorded, self._dom0.clock)

    def running(self, name: str, type_: str, console: Console) -> DomU:
        """Return the domU ``name`` of the given type, which runs; its console is recorded as stream
        ``name``, from its first byte on.  LabError if there is no such domain."""
        try:
            found = _asked(name, lambda: self._connection.lookupByName(name), self._dom0.clock)
        except libvirt.libvirtError as error:
            raise LabError(f"no such domU: {error.get_error_message()}", where=name) from error
        return DomU(name, type_, found, self._record(name, console), self._dom0.clock)

    def _record(self, name: str, console: Console) -> ExecChannel:
        recorded = self._dom0.start(_follow(f"/var/log/xen/console/guest-{name}.log"))
        console.follow(name, recorded.chunks())
        return recorded

    def _cpu_count(self) -> int:
        """Return how many physical CPUs Xen has."""
        try:
            return int(_asked(_WHERE, self._connection.getInfo, self._dom0.clock)[2])
        except libvirt.libvirtError as error:
            raise LabError(
                f"dom0's libvirt fails: {error.get_error_message()}", where=_WHERE
            ) from error

    def expect_end(self, name: str) -> None:
        """Announce that domU ``name`` will end on purpose, so that ``check`` does not report it."""
        with self._lock:
            self._expected.add(name)

    def check(self) -> None:
        """Raise LabError if a domU ended unexpectedly or the connection to libvirt is lost."""
        with self._lock:
            ended = {n: why for n, why in self._ended.items() if n not in self._expected}
        for name, why in ended.items():
            raise LabError(f"the domU ended: {why}", where=name, hint="see its console log")
        if not self._connection.isAlive():
            raise LabError("the connection to dom0's libvirt is lost", where=_WHERE)

    def domains(self) -> list[str]:
        """Return the names of all domains except dom0, defined or running."""
        try:
            found = _asked(_WHERE, self._connection.listAllDomains, self._dom0.clock)
            names = [domain.name() for domain in found]
        except libvirt.libvirtError as error:
            raise LabError(
                f"dom0's libvirt fails: {error.get_error_message()}", where=_WHERE
            ) from error
        return sorted(name for name in names if name != "Domain-0")

    def close(self) -> None:
        """Close the connection and the tunnel.  Never raises."""

        def close() -> None:
            with contextlib.suppress(libvirt.libvirtError):
                self._connection.domainEventDeregisterAny(self._callback)
            with contextlib.suppress(libvirt.libvirtError):
                self._connection.close()

        with contextlib.suppress(Overdue):
            within(_CLOSE_SECONDS, "closing the connection", _WHERE, close)
        self._tunnel.close()

    def _register(self) -> int:
        number: int = self._connection.domainEventRegisterAny(
            None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._lifecycle, None
        )
        return number

    def _lifecycle(
        self, _connection: object, domain: libvirt.virDomain, event: int, detail: int, _data: object
    ) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            reasons = {
                libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: "it shut down",
                libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: "somebody destroyed it",
                libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: "it crashed",
                libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: "it failed to start",
            }
            with self._lock:
                self._ended[domain.name()] = reasons.get(detail, f"libvirt reason {detail}")
        elif event == libvirt.VIR_DOMAIN_EVENT_CRASHED:
            with self._lock:
                self._ended[domain.name()] = "it crashed"


def _remove(name: str, domain: libvirt.virDomain, clock: Clock) -> None:
    with contextlib.suppress(libvirt.libvirtError):  # it may have ended by itself
        within(_DESTROY_SECONDS, "destroying the domU", name, domain.destroy, clock)
    _asked(name, domain.undefine, clock)


def _asked(where: str, call: Callable[[], _T], clock: Clock) -> _T:
    """Return the answer of dom0's libvirt to ``call``; Overdue if none comes.

    No call to it is made in the main thread: there it would hold up Ctrl-C until it returns.
    """
    return within(_CALL_SECONDS, "a call to libvirt", where, call, clock)


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(IMAGES / "libvirt"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )


def _follow(log: str) -> str:
    """Return a command that prints ``log`` while it grows, and ends at the end of its own input.

    sshd does not kill a program when its channel is closed, but closes the program's input.
    """
    return f"tail -c +1 -F {log} 2>/dev/null & cat >/dev/null; kill $!"
