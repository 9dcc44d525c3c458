# SPDX-License-Identifier: GPL-2.0-or-later
"""The physical CPUs of a machine under QEMU, read from QEMU's monitor while they run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import libvirt

from harness.hypervisor.cpu import Cpu
from harness.machine import monitor
from harness.verdict import LabError

_BYTE = re.compile(r"\b0x[0-9a-f]{2}\b")
_CPU = re.compile(r"^\s*CPU#(\d+)", re.MULTILINE)
_REGISTER = re.compile(r"\b([A-Z][A-Z0-9]{1,3}|PSTATE)\s*=\s*([0-9a-f]{8,16})\b")
_THREAD = re.compile(r"CPU #(\d+): thread_id=(\d+)")
_PC = ("RIP", "PC")


def parse(text: str) -> list[Cpu]:
    """Return the CPUs in the output of ``info registers -a`` (x86-64 or arm64)."""
    pieces = _CPU.split(text)[1:]
    cpus = []
    for number, body in zip(pieces[::2], pieces[1::2], strict=True):
        registers = {name: int(value, 16) for name, value in _REGISTER.findall(body)}
        pc = next((registers[name] for name in _PC if name in registers), 0)
        cpus.append(Cpu(int(number), pc, registers))
    return cpus


def look(domain: libvirt.virDomain) -> list[Cpu]:
    """Return the state of every CPU of ``domain`` now, without stopping it."""
    seen = parse(monitor.ask(domain, "info registers -a"))
    try:
        times = {number: nanoseconds for number, _, nanoseconds, _ in domain.vcpus()[0]}
    except libvirt.libvirtError as error:
        raise LabError(f"cannot look at the CPUs: {error}", where=domain.name()) from error
    return [replace(cpu, ran_ns=times.get(cpu.number)) for cpu in seen]


def threads(domain: libvirt.virDomain) -> dict[int, int]:
    """Return QEMU's thread of each CPU: the ids that the kernel knows."""
    found = _THREAD.findall(monitor.ask(domain, "info cpus"))
    return {int(cpu): int(thread) for cpu, thread in found}


def sleeps(thread: int, proc: Path = Path("/proc")) -> bool:
    """Say whether a thread waits to be woken: it neither runs nor stands in a CPU's queue."""
    try:
        text = (proc / str(thread) / "stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[:1] == ["S"]  # proc(5): the name may have any letters


def memory(domain: libvirt.virDomain, cpu: int, address: int, size: int) -> bytes:
    """Return ``size`` bytes at virtual ``address`` of ``cpu``; LabError if it is not mapped."""
    found = dumped(monitor.ask(domain, f"x /{size}xb {address:#x}", cpu))
    if len(found) != size:
        raise LabError(f"cannot read memory at {address:#x}", where=f"CPU{cpu}")
    return found


def dumped(text: str) -> bytes:
    """Return the bytes that the monitor's ``x`` printed up to the first that is not mapped."""
    rows = (line.rpartition(":")[2] for line in text.splitlines())
    return bytes(int(word, 16) for row in rows for word in _BYTE.findall(row))
