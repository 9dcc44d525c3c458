# SPDX-License-Identifier: GPL-2.0-or-later
"""Check that a server is ready for a run: try each of its parts without changing anything."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass

from harness.config.physical import PhysicalHost, PowerDriver
from harness.machine import grub, lease, power, shell, wires
from harness.machine.power.labgrid import places
from harness.verdict import HarnessError, LabError

_FREE = "free"
_LISTEN_SECONDS = 3.0
_FREE_BYTES = 512 << 20  # the files of a run take less than half of it


@dataclass(frozen=True)
class Probe:
    """The result for one part of one server: ``detail`` says what was found, or what is wrong."""

    host: str
    part: str
    ok: bool
    detail: str


def check(host: PhysicalHost) -> list[Probe]:
    """Try every part of ``host``, except a console that another run uses, or may use."""
    told = _probe(host, "lease", lambda: _lease(lease.holder(host.name)))
    free = told.ok and told.detail == _FREE
    with contextlib.ExitStack() as stack:
        if free:
            with contextlib.suppress(LabError):  # the probe of its power says why
                stack.enter_context(places(host.power))
        return [told, *_check(host, free)]


def _check(host: PhysicalHost, free: bool) -> list[Probe]:
    probes = []
    for section in host.power:
        switch = functools.partial(_power, section)
        probes.append(_probe(host, f"power {section.driver}", switch))
    if free:
        probes.append(_probe(host, f"console {host.console.driver}", lambda: _console(host)))
    if not free or _off(host):
        why = "the server is off" if free else "a run uses the server"
        return [*probes, Probe(host.name, "default system", True, f"not tried: {why}")]
    return [*probes, _probe(host, "default system", lambda: _default_system(host))]


def clean(host: PhysicalHost) -> list[str]:
    """Remove our files from ``host``; return their paths.  LabError while a run uses the host."""
    with (
        lease.lease(host.name, lambda _: None, wait=0.0),
        contextlib.closing(log_in(host)) as session,
    ):
        return grub.clean(session, host.boot)


def log_in(host: PhysicalHost) -> shell.Shell:
    """Return a shell in the default system; LabError when it does not answer."""
    ssh = host.ssh
    return shell.connect(ssh.address, ssh.port, "root", ssh.key_file, ssh.host_key)


def _probe(host: PhysicalHost, part: str, look: Callable[[], str]) -> Probe:
    try:
        return Probe(host.name, part, True, look())
    except HarnessError as error:
        return Probe(host.name, part, False, str(error))


def _lease(held: str) -> str:
    return f"held by {held}" if held else _FREE


def _power(section: PowerDriver) -> str:
    return power.driver(section).state()


def _off(host: PhysicalHost) -> bool:
    try:
        return power.chain(host.power, seconds=1, where=host.name).state() == "off"
    except LabError:
        return False


def _console(host: PhysicalHost) -> str:
    """Open the line and listen for a while; an idle system may print nothing."""
    wire = wires.Lasting(wires.opener(host.console))
    reader = threading.Thread(target=wire.drain, daemon=True)
    reader.start()
    reader.join(_LISTEN_SECONDS)
    problem, heard = wire.problem, wire.heard
    wire.shutdown(2)
    reader.join(_LISTEN_SECONDS)
    wire.close()
    if problem:
        raise LabError(problem, where=f"console {host.console.driver}")
    return f"open; {heard} bytes heard"


def _default_system(host: PhysicalHost) -> str:
    with contextlib.closing(log_in(host)) as session:
        system = grub.inspect(session, host.boot, host.arch, host.boot.modules)
        placed = grub.placed(session, host.boot)
    if system.free_bytes < _FREE_BYTES and not placed:
        raise LabError(
            f"{system.free_bytes >> 20} MiB free, {_FREE_BYTES >> 20} MiB wanted",
            where=f"{session.where}:{host.boot.folder}",
        )
    return (
        f"{system.arch}, network {system.address} by {system.driver}, "
        f"{system.free_bytes >> 20} MiB free, {len(placed)} files of the harness"
    )
