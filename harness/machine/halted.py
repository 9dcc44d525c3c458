# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine under QEMU that stands still for a moment, so that Xen's memory can be written.

QEMU's monitor can read a machine's memory, and cannot write it; its gdbstub can.  The stub is
opened for that moment only: a machine that has one all the time is slower (docs/interleave.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import libvirt

from harness.machine import monitor
from harness.machine.rsp import Stub, StubLost
from harness.verdict import LabError

_IN_XEN_SECONDS = 10.0
_ON_SECONDS = 0.02  # between two looks, if no CPU is in Xen
_RUNS_SECONDS = 5.0  # until libvirt knows that the machine runs again
_WELL = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED)


class Halted:
    """The halted machine, seen by a CPU that is in Xen."""

    def __init__(self, stub: Stub, cpu: int) -> None:
        self._stub, self._cpu = stub, cpu

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes at Xen's virtual ``address``; LabError if it is not mapped."""
        return self._stub.read(self._cpu, address, size)

    def write(self, address: int, data: bytes) -> None:
        """Write ``data`` to Xen's virtual ``address``; LabError if it is not mapped."""
        self._stub.write(self._cpu, address, data)


@contextmanager
def halted(
    domain: libvirt.virDomain, socket: Path, count: int, sign: tuple[int, bytes]
) -> Iterator[Halted]:
    """Halt ``domain``, which has ``count`` CPUs, in the block.

    ``sign``: an address in Xen and what is there.  A CPU that is in a guest may have other memory
    at Xen's addresses, so one is taken that sees the sign; if there is none, the machine runs on
    for a moment.  LabError if there is still none after some seconds.  The stub listens at
    ``socket``.
    """
    said = monitor.ask(domain, f"gdbserver unix:{socket},server=on,wait=off")
    if not socket.exists():
        raise LabError(f"QEMU opens no gdbstub: {said.strip()}", where=domain.name())
    try:
        stub = Stub(socket)
        try:
            yield Halted(stub, cpu_in_xen(stub, count, sign))
        finally:
            stub.close()
    finally:
        monitor.ask(domain, "gdbserver none")
        socket.unlink(missing_ok=True)
        _await(lambda: domain.state()[0] in _WELL)


def cpu_in_xen(stub: Stub, count: int, sign: tuple[int, bytes]) -> int:
    """Return a CPU of the halted machine that sees the ``sign``; let it run on until there is one.

    LabError if there is none within some seconds.
    """
    address, there = sign
    deadline = time.monotonic() + _IN_XEN_SECONDS
    while True:
        for cpu in range(count):
            try:
                if stub.read(cpu, address, len(there)) == there:
                    return cpu
            except StubLost:
                pass  # nothing is mapped there for this CPU
        if time.monotonic() > deadline:
            raise LabError(f"no CPU is in the Xen that has {there!r} at {address:#x}")
        stub.go()
        time.sleep(_ON_SECONDS)
        stub.halt()


def _await(runs: Callable[[], bool]) -> None:
    """Wait a little: libvirt learns late that the machine goes on."""
    deadline = time.monotonic() + _RUNS_SECONDS
    try:
        while not runs() and time.monotonic() < deadline:
            time.sleep(_ON_SECONDS)
    except libvirt.libvirtError:
        pass  # QEMU is gone, and whoever uses it next is told so
