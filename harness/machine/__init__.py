"""``Machine``: power, console, boot.  The one seam that QEMU and physical servers share."""

from __future__ import annotations

from typing import Protocol

from harness.machine.console import Console


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

    def power_on(self) -> None:
        """Start recording the console, then start the machine; LabError when it does not start."""
        ...

    def power_off(self) -> None:
        """Stop the machine and the recording.  Never raises; safe to call twice."""
        ...

    def check(self) -> None:
        """Raise when the machine is gone (LabError) or its console showed a crash."""
        ...
