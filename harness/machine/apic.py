# SPDX-License-Identifier: GPL-2.0-or-later
"""Interrupts that QEMU has lost: a CPU sleeps, though its local APIC has one to deliver.

A real CPU is woken by it.  QEMU's TCG can lose it: with VMRUN and #VMEXIT a CPU's thread writes
``interrupt_request`` without the lock under which other threads set a bit there (helper_vmrun and
do_vmexit of QEMU 10.0).  Whoever waits for this CPU then waits for ever, and no lock of Xen is the
cause.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

_LOOKS = 10
_PAUSE = 0.1  # seconds between looks
_ASLEEP = re.compile(r"\bRFL=([0-9a-f]{8}).*\bHLT=1\b")
_INTERRUPTS_ON = 1 << 9  # IF in RFLAGS
_REQUESTED = re.compile(r"^IRR\s+(.*)$", re.MULTILINE)
_PRIORITY = re.compile(r"\bPPR 0x([0-9a-f]{2})\b")
_VECTOR = re.compile(r"\b(\d+)\b")


@dataclass(frozen=True)
class Lost:
    """An interrupt that a CPU should have taken."""

    cpu: int
    vector: int

    def __str__(self) -> str:
        return (
            f"QEMU has lost an interrupt: CPU{self.cpu} sleeps with interrupts on, and its local "
            f"APIC has vector {self.vector:#x} to deliver"
        )


def deliverable(registers: str, apic: str) -> int | None:
    """Return the vector that should wake a CPU; None if it is awake, or has none to take.

    ``registers`` and ``apic``: what ``info registers`` and ``info lapic`` print of it.
    """
    asleep, requested = _ASLEEP.search(registers), _REQUESTED.search(apic)
    priority = _PRIORITY.search(apic)
    if not (asleep and requested and priority) or not int(asleep[1], 16) & _INTERRUPTS_ON:
        return None
    highest = max(map(int, _VECTOR.findall(requested[1])), default=0)
    # Of a vector the upper four bits are its priority (Intel SDM volume 3, 11.8.3.1).
    return highest if highest >> 4 > int(priority[1], 16) >> 4 else None


def lost(count: int, ask: Callable[[str, int], str], waits: Callable[[int], bool]) -> Lost | None:
    """Return the interrupt that one of ``count`` CPUs has slept through; None if there is none.

    ``ask``: QEMU's monitor, about a CPU.  ``waits``: whether a CPU's thread waits to be woken; one
    that is only kept from running by a busy host does not.
    """
    suspects: dict[int, int] = {}
    for look in range(_LOOKS):
        if look:
            time.sleep(_PAUSE)
        for cpu in range(count) if not look else list(suspects):
            vector = deliverable(ask("info registers", cpu), ask("info lapic", cpu))
            if vector is None or not waits(cpu):
                suspects.pop(cpu, None)
            else:
                suspects[cpu] = vector
        if not suspects:
            return None
    cpu = min(suspects)
    return Lost(cpu, suspects[cpu])
