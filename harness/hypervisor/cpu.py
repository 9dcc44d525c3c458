# SPDX-License-Identifier: GPL-2.0-or-later
"""One physical CPU at one moment, however it was seen."""

from __future__ import annotations

from dataclasses import dataclass

_LEVEL = 2  # PSTATE.M[3:2] of arm64: the exception level, which is Xen's


@dataclass(frozen=True)
class Cpu:
    """A CPU stopped or interrupted at ``pc``."""

    number: int
    pc: int
    registers: dict[str, int]  # by the names that QEMU prints: RDI, R8, X00, SP...
    ran_ns: int | None = None  # CPU time that its emulation has taken so far; None: it is real
    stack_at: int = 0  # where in memory ``stack`` is
    stack: bytes = b""  # the words of its stack that Xen printed, if it did

    @property
    def in_xen(self) -> bool:
        """Whether it was at the hypervisor's level: a guest of arm64 may use Xen's addresses."""
        state = self.registers.get("PSTATE")
        return state is None or state >> 2 & 3 == _LEVEL
