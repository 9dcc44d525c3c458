# SPDX-License-Identifier: GPL-2.0-or-later
"""A test case that hangs Xen (flavour poll-leak) and asks its console; test_hang.py runs it."""

from __future__ import annotations

import pytest

from harness.agent.wire import AgentRefused
from harness.evidence import words
from harness.machine import keys
from harness.run import hang
from harness.run.session import Session
from harness.verdict import LabError


def test_the_console_explains(xen: Session) -> None:
    """As on a physical server: no monitor, no memory, only what Xen prints."""
    dom0 = xen.agents["dom0"]
    port = dom0.raw.alloc_unbound(0)
    dom0.raw.close(port)
    with pytest.raises(AgentRefused):
        for _ in range(50):  # one returns before Xen looks at the port if an event is deliverable
            dom0.raw.poll(port)
    dom0.begin("alloc_unbound", on=1, remote=0)

    def nothing(*_: object) -> bytes:
        raise LabError("memory cannot be read")

    spinning = hang.spins(
        xen.host.arch, xen.build, lambda: keys.registers(xen.console), nothing, looks=3
    )
    print("; ".join(map(words.spin, spinning)))
    word = 8193 if "x86" in xen.host.arch else 129
    (spin,) = [spin for spin in spinning if spin.function == "evtchn_write_lock"]
    assert (spin.port, spin.word) == (None, word)
    assert spin.operation == "evtchn_alloc_unbound"
