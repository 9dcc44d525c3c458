# SPDX-License-Identifier: GPL-2.0-or-later
"""The way to an agent: any two-way stream of bytes."""

from __future__ import annotations

from typing import Protocol


class AgentChannel(Protocol):
    """A stream of bytes to one agent, such as an SSH channel in which it runs."""

    def write(self, data: bytes) -> None:
        """Send all of ``data``.  Raises OSError or LabError when the agent is gone."""

    def read(self, limit: int, timeout: float) -> bytes:
        """Wait for bytes and return at most ``limit`` of them; b"" at the end of the stream.

        Raises TimeoutError when none have come within ``timeout`` seconds.
        """

    def close(self) -> None:
        """Close the stream: the agent then closes its ports and ends."""
