# SPDX-License-Identifier: GPL-2.0-or-later
"""A spare serial port of a machine on x86-64, with which we can raise an interrupt."""

from __future__ import annotations

import re

import libvirt

from harness.machine import monitor
from harness.verdict import LabError

_NAME, _AT = "spare-serial", "0x1c"
ARGUMENTS = (
    *("-chardev", "null,id=spare"),
    *("-device", f"pci-serial,chardev=spare,id={_NAME},addr={_AT}"),
)
# In the output of the monitor's "info pci": what the BIOS assigned to the device in that slot.
_ASSIGNED = re.compile(
    r"device\s+28, function 0:(?:(?!\n\s*Bus).)*?IRQ (?P<irq>\d+),.*?I/O at (?P<io>0x[0-9a-f]+)",
    re.DOTALL,
)


def set_interrupt(domain: libvirt.virDomain, raised: bool) -> int:
    """Raise or lower the port's interrupt; return its number.

    It is level-triggered: while raised, it is delivered whenever it is not masked.  LabError if
    the machine has no such port, or QEMU fails.
    """
    found = _ASSIGNED.search(monitor.ask(domain, "info pci"))
    if found is None:
        raise LabError("the machine has no spare serial port", where=domain.name())
    enable = int(found["io"], 16) + 1  # IER: bit 1 enables the interrupt "transmitter empty"
    for value in (0, 2) if raised else (0,):
        monitor.obey(domain, f"o /b {enable:#x} {value}", "cannot reach the serial port")
    return int(found["irq"])
