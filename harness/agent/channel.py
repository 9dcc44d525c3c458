"""What the agent is talked to through: any two-way stream of bytes."""

from __future__ import annotations

from typing import Protocol


class AgentChannel(Protocol):
    """A byte stream to one agent, such as an SSH exec channel that runs it."""

    def write(self, data: bytes) -> None:
        """Send all of ``data``; OSError or LabError when the other side is gone."""

    def read(self, limit: int, timeout: float) -> bytes:
        """Return 1 to ``limit`` bytes; b"" at the end of the stream.

        Raises TimeoutError when nothing came within ``timeout`` seconds.
        """

    def close(self) -> None:
        """Give the channel up; the agent then closes its ports and ends."""
