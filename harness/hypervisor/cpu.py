"""One physical CPU at one moment, however it was seen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cpu:
    """A CPU stopped or interrupted at ``pc``."""

    number: int
    pc: int
    registers: dict[str, int]  # by the names that QEMU prints: RDI, R8, X00, SP...
    ran_ns: int | None = None  # CPU time that its emulation has taken so far; None: it is real
