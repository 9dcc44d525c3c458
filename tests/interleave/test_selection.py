# SPDX-License-Identifier: GPL-2.0-or-later
"""Which orders of a scenario are forced."""

from __future__ import annotations

import pytest

from harness.arch import Arch
from harness.interleave.scenarios import SCENARIOS
from harness.interleave.selection import OrderSelection

# By design: how the key gets the lock, and how it is refused.
GETS_IT = {"counter": ("add", "leave"), "rwlock": ("add", "leave"), "spinlock": ("look", "leave")}


@pytest.mark.parametrize("design", GETS_IT)
def test_a_writer_that_waits_for_the_key_returns_last(design: str) -> None:
    """Debug key i holds the interrupt's lock, which evtchn_bind_pirq takes at its end."""
    orders = OrderSelection().orders(SCENARIOS["dump-bind"], design, Arch.X86_64)
    assert all((order[-1].thread, order[-1].step.name) == (0, "leave") for order in orders)
    steps = [{step.step.name for step in order if step.thread == 1} for order in orders]
    assert any(set(GETS_IT[design]) <= taken for taken in steps), "it gets the lock"
    assert any("look" not in taken for taken in steps), "it is refused"


def test_a_key_that_tries_never_waits_for_a_spinlock() -> None:
    orders = OrderSelection().orders(SCENARIOS["dump-bind"], "spinlock", Arch.X86_64)
    tries = [step for order in orders for step in order if step.step.name == "try"]
    assert len(tries) == len(orders) and all(step.branch is not None for step in tries)
