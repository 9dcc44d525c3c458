"""Two vCPUs at one channel's lock: what a load meets by chance, these are made of."""

from __future__ import annotations

from harness.agent.client import AgentClient

SECONDS = 1.5


def test_close_under_a_sender(guest: AgentClient) -> None:
    """One vCPU sends without pause, the other binds to the same port and closes its end again."""
    seen = guest.duel("close", SECONDS)
    assert seen.checked and seen.sends
    assert seen.invented == 0, (
        f"an event on a port that was just allocated: a sender was inside the channel while it "
        f"was closed ({seen.invented} of {seen.checked} rounds)"
    )


def test_unmask_under_a_close(guest: AgentClient) -> None:
    """One vCPU unmasks a pending port while the other closes its far end: the event arrives."""
    seen = guest.duel("unmask", SECONDS)
    assert seen.checked
    assert seen.lost == 0, (
        f"an event was pending when its port was unmasked, and never came (round {seen.rounds}): "
        "the unmask was dropped"
    )
