# SPDX-License-Identifier: GPL-2.0-or-later
"""Two vCPUs race for one channel's lock without pause; in a load that happens only by chance."""

from __future__ import annotations

from harness.agent.client import AgentClient

SECONDS = 1.5


def test_close_under_a_sender(guest: AgentClient) -> None:
    """vCPU 1 sends on a port without pause; vCPU 0 binds to that port and closes its own again."""
    seen = guest.race("close", SECONDS)
    assert seen.checked and seen.sends
    assert seen.invented == 0, (
        f"an event on a port that was just allocated: a sender was inside the channel while it "
        f"was closed ({seen.invented} of {seen.checked} rounds)"
    )


def test_unmask_under_a_close(guest: AgentClient) -> None:
    """vCPU 1 unmasks a pending port while vCPU 0 closes the other end: the event must come."""
    seen = guest.race("unmask", SECONDS)
    assert seen.checked
    assert seen.lost == 0, (
        f"an event was pending when its port was unmasked, and never came (round {seen.rounds}): "
        "the unmask was dropped"
    )
