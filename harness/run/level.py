# SPDX-License-Identifier: GPL-2.0-or-later
"""The CPUs of a machine while they run one of two Xens: Xen itself, or xen-shim inside a guest.

Both have the same addresses.  QEMU's monitor does not stop a CPU, and shows what it runs now: a
CPU that is in the shim has the shim's registers and memory, until Xen takes the next interrupt.
"""

from __future__ import annotations

from harness.arch import Arch
from harness.hypervisor.build import Build
from harness.hypervisor.code import runs
from harness.hypervisor.cpu import Cpu
from harness.machine import Machine
from harness.verdict import LabError

_IDT = "IDT"  # a register; each Xen has its own tables
_TRIES = 20


class Level:
    """Looks at those CPUs that run ``shim``, or at the others."""

    def __init__(self, arch: Arch, machine: Machine, shim: Build, *, inside: bool) -> None:
        self._arch, self._machine, self._shim, self._inside = arch, machine, shim, inside
        self._tables: dict[int, int | None] = {}  # the IDT of each CPU here

    def cpus(self) -> list[Cpu]:
        """Return the state of each CPU that is at this level now."""
        seen = self._machine.cpus()
        memory = self._machine.memory
        there = {cpu.number: runs(self._shim.syms, self._arch, cpu, memory) for cpu in seen}
        later = self._now()
        found = [
            cpu
            for cpu in seen
            if there[cpu.number] is self._inside
            # Else the CPU has left its level before its memory was read.
            and cpu.registers.get(_IDT) == later.get(cpu.number)
        ]
        self._tables |= {cpu.number: cpu.registers.get(_IDT) for cpu in found}
        return found

    def memory(self, cpu: int, address: int, size: int) -> bytes:
        """Return ``size`` bytes at virtual ``address`` as ``cpu`` sees them at this level.

        LabError if they are not mapped, or the CPU is never here.
        """
        for _ in range(_TRIES):
            if cpu in self._tables and self._now().get(cpu) != self._tables[cpu]:
                continue
            found = self._machine.memory(cpu, address, size)
            if cpu not in self._tables or self._now().get(cpu) == self._tables[cpu]:
                return found
        raise LabError("it runs something else all the time", where=f"CPU{cpu}")

    def _now(self) -> dict[int, int | None]:
        return {cpu.number: cpu.registers.get(_IDT) for cpu in self._machine.cpus()}
