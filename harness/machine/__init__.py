"""``Machine``: power, console, boot.  The one seam that QEMU and physical servers share."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from harness.hypervisor.cpu import Cpu
from harness.machine.console import Console
from harness.machine.line import Line


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
        """The machine's own lines to dom0's agents; none where agents come over SSH."""
        ...

    @property
    def looks(self) -> int:
        """How often to look at the CPUs before one is said to spin."""
        ...

    @property
    def boot_seconds(self) -> float:
        """How long dom0 may take until it answers."""
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
        """dom0 was reached: what comes from now on is no longer booting."""
        ...

    def save(self) -> None:
        """Keep the machine as it is now; LabError where there are no snapshots."""
        ...

    def restore(self, held: AbstractContextManager[None] | None = None) -> None:
        """Bring back the machine that was saved; LabError when it cannot.

        ``held`` keeps it still meanwhile, instead of the machine itself.
        """
        ...

    def freeze(self) -> None:
        """Stop every CPU where that is possible.  Never raises."""
        ...

    def cpus(self) -> list[Cpu]:
        """Return where every physical CPU is now; LabError when nobody can tell."""
        ...

    def memory(self, cpu: int, address: int, size: int, /) -> bytes:
        """Return memory as ``cpu`` sees it; LabError where it cannot be read."""
        ...

    def dump(self) -> Path:
        """Write the physical memory into a file; LabError where it cannot be read."""
        ...

    def pid(self) -> int:
        """Return the process that the machine is, 0 for a server."""
        ...
