# SPDX-License-Identifier: GPL-2.0-or-later
"""``Machine``: the interface that a machine under QEMU and a physical server have in common."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from harness.hypervisor.cpu import Cpu
from harness.machine.apic import Lost
from harness.machine.console import Console
from harness.machine.halted import Halted
from harness.machine.kept import Kept
from harness.machine.line import Line
from harness.machine.patience import Clock


class Machine(Protocol):
    """A machine that boots the Xen under test."""

    @property
    def console(self) -> Console:
        """The recorded serial line."""
        ...

    @property
    def ssh(self) -> tuple[str, int]:
        """Host and port at which dom0's sshd will answer."""
        ...

    @property
    def lines(self) -> list[Line]:
        """The machine's own lines to the agents; empty if the agents are reached through SSH."""
        ...

    @property
    def clock(self) -> Clock:
        """The clock on which to wait for this machine."""
        ...

    @property
    def looks(self) -> int:
        """How many times to look at a CPU before it counts as spinning."""
        ...

    @property
    def boot_seconds(self) -> float:
        """How long dom0 may take to boot until it answers, in seconds."""
        ...

    @property
    def entry(self) -> str:
        """The name under which it can be kept in the cache; "" if it is not to be kept."""
        ...

    @property
    def kept(self) -> Kept | None:
        """The machine in the cache that it goes on from; None: it boots."""
        ...

    def power_on(self) -> None:
        """Start recording the console, then start the machine; LabError when it does not start."""
        ...

    def power_off(self) -> None:
        """Stop the machine and the recording.  Never raises; safe to call twice."""
        ...

    def check(self) -> None:
        """Raise when the machine is gone (LabError) or its console showed a crash."""
        ...

    def up(self) -> None:
        """Tell the machine that dom0 answers, so that booting is over."""
        ...

    def save(self) -> None:
        """Save a snapshot of the machine; LabError if this kind of machine has none."""
        ...

    def keep(self, disk: Path) -> str:
        """Write a copy of its disk, with its state, to ``disk``; return the digest of the copy.

        LabError if this kind of machine cannot do that, OSError if the file cannot be written.
        """
        ...

    def restore(self, held: AbstractContextManager[None] | None = None) -> None:
        """Restore the snapshot that ``save`` made; LabError if that fails.

        The CPUs must stand still meanwhile: inside ``held`` if that is given, else the machine
        suspends them itself.
        """
        ...

    def freeze(self) -> None:
        """Stop every CPU, if the machine can do that.  Never raises."""
        ...

    def cpus(self) -> list[Cpu]:
        """Return the state of every physical CPU now; LabError if it cannot be read."""
        ...

    def memory(self, cpu: int, address: int, size: int, /) -> bytes:
        """Return ``size`` bytes at virtual ``address`` of ``cpu``; LabError if that fails."""
        ...

    def halted(self, sign: tuple[int, bytes]) -> AbstractContextManager[Halted]:
        """Halt every CPU in the block, in which Xen's memory can be read and written.

        ``sign``: an address in Xen, and what is there.  LabError if the machine cannot do that.
        """
        ...

    def lost_interrupt(self) -> Lost | None:
        """Return an interrupt that the emulator has lost, for whose CPU others wait; LabError if
        the CPUs cannot be read.  None: none is known of, as always of a server."""
        ...

    def dump(self) -> Path:
        """Write the physical memory into a file, return its path; LabError if it cannot be read."""
        ...

    def pid(self) -> int:
        """Return the process id of the machine under QEMU; 0 for a server."""
        ...
