# SPDX-License-Identifier: GPL-2.0-or-later
"""The CPUs of a machine while they run one of two Xens: Xen itself, or xen-shim inside a guest.

Both have the same addresses.  QEMU's monitor does not stop a CPU, and shows what it runs now: a
CPU that is in the shim has the shim's registers and memory, until Xen takes the next interrupt.
"""

from __future__ import annotations

from dataclasses import replace

from harness.arch import Arch
from harness.hypervisor.build import Build
from harness.hypervisor.code import code, runs
from harness.hypervisor.cpu import Cpu
from harness.hypervisor.symbols import symbols
from harness.machine import Machine
from harness.verdict import LabError

_IDT = "IDT"  # a register; each Xen has its own tables
_FIRST_TABLES = ("idt_table", "bsp_idt")  # up to 4.21; since then
_LOOKED_AT = 16  # bytes of code


class Level:
    """Looks at those CPUs that run ``shim`` (``inside``), or the ``xen`` underneath."""

    def __init__(
        self, arch: Arch, machine: Machine, xen: Build, shim: Build, *, inside: bool
    ) -> None:
        self._arch, self._machine, self._xen, self._shim = arch, machine, xen, shim
        self._inside, self._build = inside, shim if inside else xen
        self._sign: tuple[int, bytes] | None = None  # an address, and what is there at this level

    def cpus(self) -> list[Cpu]:
        """Return the state of each CPU now.

        A CPU at the other level is in no function of this one.  Of the shim it is left out: Xen
        takes its interrupts below, and that says nothing about what the shim does.
        """
        seen = self._machine.cpus()
        here = {cpu.number: self._is_here(cpu) for cpu in seen}
        later = {cpu.number: cpu.registers.get(_IDT) for cpu in self._machine.cpus()}
        found = [
            cpu
            for cpu in seen
            if here[cpu.number] is True
            # Else the CPU may have left its level before its memory was read.
            or (here[cpu.number] is None and cpu.registers.get(_IDT) == later.get(cpu.number))
        ]
        for cpu in found:
            there_is = code(self._build.syms, self._arch).bytes(cpu.pc, cpu.pc + _LOOKED_AT)
            self._sign = (cpu.pc, there_is) if there_is else self._sign
        if self._inside:
            return found
        return found + [replace(cpu, pc=0) for cpu in seen if cpu not in found]

    def memory(self, _cpu: int, address: int, size: int) -> bytes:
        """Return ``size`` bytes at virtual ``address`` of this level; LabError if not mapped.

        The machine stands still, with a CPU that is here: it sees the code that was seen last.
        """
        if self._sign is None:
            raise LabError("no CPU was seen that runs it", where=self._build.flavour)
        with self._machine.halted(self._sign) as halted:
            return halted.read(address, size)

    def _is_here(self, cpu: Cpu) -> bool | None:
        """Say whether ``cpu`` is at this level; None: it seems so, by what is in memory by now."""
        shim, xen = _first_table(self._shim), _first_table(self._xen)
        table = cpu.registers.get(_IDT)
        if table is not None and shim != xen and table in (shim, xen):
            return (table == shim) is self._inside
        if runs(self._build.syms, self._arch, cpu, self._machine.memory):
            return None
        # What is in the code of neither is a guest's, and no lock of Xen's either.
        both = (self._xen, self._shim)
        known = any(code(one.syms, self._arch).bytes(cpu.pc, cpu.pc + 1) for one in both)
        return None if not self._inside and not known else False


def _first_table(build: Build) -> int | None:
    """Return where CPU0's IDT is in ``build``; None if it has another name there."""
    table = symbols(build.syms)
    return next((table[name].address for name in _FIRST_TABLES if name in table), None)
