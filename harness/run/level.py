# SPDX-License-Identifier: GPL-2.0-or-later
"""The CPUs of a machine while they run one of two Xens: Xen itself, or xen-shim inside a guest.

Both have the same addresses.  QEMU's monitor does not stop a CPU, and shows what it runs now: a
CPU that is in the shim has the shim's registers and memory, until Xen takes the next interrupt.
"""

from __future__ import annotations

from harness.arch import Arch
from harness.hypervisor.build import Build
from harness.hypervisor.code import code, runs
from harness.hypervisor.cpu import Cpu
from harness.hypervisor.symbols import symbols
from harness.machine import Machine
from harness.verdict import LabError

_IDT = "IDT"  # a register; each Xen has its own tables
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
        """Return the state of each CPU that is at this level now."""
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
        return found

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
        table = cpu.registers.get(_IDT)
        if table == _first_table(self._shim):
            return self._inside
        if table == _first_table(self._xen):
            return not self._inside
        in_shim = runs(self._shim.syms, self._arch, cpu, self._machine.memory)
        return None if in_shim is self._inside else False


def _first_table(build: Build) -> int:
    """Return where CPU0's IDT is in ``build``; 0 if it has another name there."""
    table = symbols(build.syms)
    return table["idt_table"].address if "idt_table" in table else 0
