# SPDX-License-Identifier: GPL-2.0-or-later
"""Debug key i (dump_irqs): of each interrupt with an event channel, is that pending or masked?

Xen tries the channel's lock for it.  Only x86-64 has the key.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from harness.agent.client import AgentClient
from harness.agent.wire import AgentRefused
from harness.arch import Arch
from harness.config.host import QemuHost
from harness.conformance.initial_state import list_ports
from harness.hypervisor.debug_keys import DUMP_INTERRUPTS, Interrupts, interrupts
from harness.machine.keys import printed
from harness.model.evtchn.domain import State
from harness.run.session import Session
from harness.verdict import LabError
from harness.wanted import dom0_is_enough

# The key returns when Xen has printed all; an emulated serial line keeps nothing back then.
QUIET_SECONDS = {True: 0.4, False: 1.5}
SECONDS = 0.4  # one answer has some 60 lines, and takes a hundredth of a second under QEMU


@pytest.fixture
@dom0_is_enough()
def spare(xen: Session, dom0: AgentClient) -> Iterator[int]:
    """The number of a physical interrupt that dom0 may bind, and that nobody uses."""
    if xen.host.arch is not Arch.X86_64:
        pytest.skip("debug key i is x86-64's: Arm binds no interrupt to an event channel")
    for pirq in sorted(dump(xen, dom0).unbound):
        try:
            dom0.raw.close(dom0.raw.bind_pirq(pirq))
        except AgentRefused:
            continue
        mask_next_port(dom0)
        yield pirq
        assert dom0.release() == [], "ports that Xen does not report as closed"
        return
    pytest.skip("dom0 uses every interrupt of this host itself")


def mask_next_port(dom0: AgentClient) -> None:
    """Mask the port that dom0 gets next, as Linux does when it gives one back.

    Xen takes a mask as it finds it, and a load may have left the free port unmasked.
    """
    dom0.device.unbind(dom0.device.bind_unbound(dom0.domid))


def heard(xen: Session) -> AbstractContextManager[list[str]]:
    """What Xen prints in the block."""
    return printed(xen.console, QUIET_SECONDS[isinstance(xen.host, QemuHost)])


def dump(xen: Session, dom0: AgentClient) -> Interrupts:
    """Press the key; return what Xen prints."""
    with heard(xen) as lines:
        dom0.debug_key(DUMP_INTERRUPTS)
    (seen,) = answers(lines, 1)
    return seen


def answers(lines: list[str], count: int) -> list[Interrupts]:
    """Return the ``count`` answers in ``lines``.  The key returns when Xen has printed all."""
    found = interrupts(lines)
    if len(found) != count:
        raise LabError(f"of {count} answers, {len(found)} came whole", where="console")
    return found


def test_the_dump_shows_each_channel_as_it_is(xen: Session, dom0: AgentClient, spare: int) -> None:
    """Nobody else holds a lock: none may be refused.  The close waits for a reader left inside."""
    port = dom0.raw.bind_pirq(spare)
    seen = dump(xen, dom0)
    ports = list_ports(dom0).ports.values()
    bound = {channel.number for channel in ports if channel.state is State.PIRQ}
    assert {each.pirq for each in seen.bound if each.domid == 0} == bound

    shown = seen.of(spare)
    assert shown is not None and (shown.pending, shown.masked) == (False, True)
    dom0.raw.unmask(port)
    shown = dump(xen, dom0).of(spare)
    assert shown is not None and (shown.pending, shown.masked) == (False, False)

    dom0.raw.close(port)
    assert dump(xen, dom0).of(spare) is None, "a closed channel is shown"
    mask_next_port(dom0)
    assert dom0.raw.bind_pirq(spare) == port


def test_the_dump_under_a_writer(xen: Session, dom0: AgentClient, spare: int) -> None:
    """vCPU 1 presses the key without pause; vCPU 0 binds the interrupt and closes the channel."""
    with heard(xen) as lines:
        seen = dom0.race("dump", SECONDS, pirq=spare)
    assert seen.rounds and seen.checked
    told = answers(lines, seen.checked)
    shown = [one for one in (each.of(spare) for each in told) if one is not None]
    assert all(one.pending is not True for one in shown), "an event that no interrupt has raised"
    assert all((one.pending is None) == (one.masked is None) for one in shown)
    assert all(one.masked is not False for one in shown), "a mask that nobody has cleared is gone"
    if xen.build.design != "spinlock":  # there, a CPU that delivers an interrupt keeps others out
        others = [each for answer in told for each in answer.bound if each.pirq != spare]
        assert all(one.pending is not None for one in others), "no writer, and yet no lock"
    assert dump(xen, dom0).of(spare) is None, "a closed channel is shown"
