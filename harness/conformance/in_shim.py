# SPDX-License-Identifier: GPL-2.0-or-later
"""The bare guest inside xen-shim as a test sees it.

Xen raises an event in the shim, and the shim raises it in the guest when its vCPU takes Xen's
interrupt.  So what is seen in the guest's memory may come a moment after the hypercall returns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.agent.client import AgentClient
from harness.agent.wire import Answer
from harness.conformance.bare import Bare
from harness.conformance.initial_state import list_ports
from harness.conformance.reference_model import Disagreement
from harness.machine.patience import Deadline
from harness.model.evtchn import shim
from harness.model.evtchn.changed import replace
from harness.model.evtchn.domain import Channel, Domain, GuestKind, SharedBits, State, Vcpu
from harness.model.evtchn.operations import Close

_INJECTED_SECONDS = 10.0
_PAUSE = 0.02  # seconds


@dataclass
class InShim(Bare):
    """The bare guest inside the shim: it is not reset, because its ports would be lost then."""

    def begin(self) -> None:
        """Close every port but those of the toolstack, and clear the shared memory."""
        for port, channel in self.now.ports:
            if channel.state > State.RESERVED and port not in self.toolstack:
                self.domains.do(self, Close(self.domid, port), compare=False)
        self.agent.connection.ask("clear_2l")
        self.domains.model.world = self.domains.model.world.with_domain(_cleared(self.now))

    @property
    def toolstack(self) -> frozenset[int]:
        """The ports of xenstore and of the console: the first two, which the toolstack makes."""
        return frozenset({1, 2})

    @property
    def spent(self) -> bool:
        """Whether it has lost a port: then it gets no new one, and another guest is needed."""
        return bool(shim.lost(self.now))

    def _compare(
        self, new: Domain, ports: Sequence[int], status: Sequence[int]
    ) -> Callable[[Answer], object]:
        arguments = {"ports": list(ports), **({"status": list(status)} if status else {})}
        once = super()._compare(new, ports, status)

        def check(answer: Answer) -> None:
            deadline = Deadline(self.agent.connection.clock, _INJECTED_SECONDS)
            while True:
                try:
                    once(answer)
                    return
                except Disagreement:
                    if deadline.over:
                        raise
                time.sleep(_PAUSE)
                answer = self.agent.connection.ask("look", arguments)

        return check


def new_in_shim(agent: AgentClient) -> Domain:
    """Return the state of the guest of ``agent``, inside a shim that has just started it."""
    found = list_ports(agent)
    vcpus = (Vcpu(),) * agent.info.vcpus
    return Domain(
        agent.domid,
        kind=GuestKind.SHIM,
        vcpus=vcpus,
        valid=found.valid,
        ports=tuple(sorted(found.ports.items())),
    )


def _cleared(domain: Domain) -> Domain:
    vcpus = tuple(replace(v, upcall=False, selectors=frozenset()) for v in domain.vcpus)
    open_ = ((port, channel) for port, channel in domain.ports if channel.state)
    ports = tuple((port, _quiet(channel)) for port, channel in open_)
    return replace(domain, vcpus=vcpus, ports=ports)


def _quiet(channel: Channel) -> Channel:
    return replace(channel, bits=SharedBits())
