# SPDX-License-Identifier: GPL-2.0-or-later
"""The channels that a domain has before a test: Xen is asked port by port (EVTCHNOP_status)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.agent.client import AgentClient
from harness.model.evtchn.abi import DOMID_SELF, ChannelState, Errno
from harness.model.evtchn.domain import (
    INT_MAX,
    PORT_0,
    Channel,
    Domain,
    GuestKind,
    SharedBits,
    State,
    Vcpu,
)
from harness.verdict import LabError

DOMU_MAX_PORT = 1023  # libxl's default of max_event_channels
_DOM0_PIRQS = frozenset(range(16))  # Linux in dom0 has Xen map these at boot
_WORDS = 5  # of an answer, for each port: port, EVTCHNSTAT_*, vCPU, remote, detail
_HIDDEN = 255  # instead of an EVTCHNSTAT_*: Xen does not tell, because it is its own channel
_MASKED = Channel(bits=SharedBits(masked=True), word=SharedBits(masked=True))
_STATES = {
    ChannelState.UNBOUND: State.UNBOUND,
    ChannelState.INTERDOMAIN: State.INTERDOMAIN,
    ChannelState.PIRQ: State.PIRQ,
    ChannelState.VIRQ: State.VIRQ,
    ChannelState.IPI: State.IPI,
}


@dataclass(frozen=True)
class PortList:
    """The ports of a domain."""

    valid: int  # how many there are (Xen's valid_evtchns)
    ports: dict[int, Channel]  # those that are not closed


def list_ports(agent: AgentClient, owner: int = DOMID_SELF, first: int = 0) -> PortList:
    """Have ``agent`` ask Xen about every port of domain ``owner``, from ``first`` on."""
    ports = {0: PORT_0}
    while True:
        answer = agent.connection.ask("list_ports", {"first": first, "owner": owner})
        words = answer.integers("ports")
        ports |= dict(_channels(words))
        first = answer.integer("result")
        if not answer.integer("more"):
            return PortList(first, ports)


def xen_bound(agent: AgentClient, dom0: AgentClient) -> dict[int, Channel]:
    """Return Xen's own channels in the domain of ``agent``, a bare guest that has just reset.

    The reset has closed all other ports, so every port that is left is Xen's own.  An HVM guest
    has such channels: its device model in dom0 is bound to them.
    """
    ends = {
        channel.remote_port: port
        for port, channel in list_ports(dom0).ports.items()
        if channel.state is State.INTERDOMAIN and channel.remote_dom == agent.domid
    }
    return {
        port: Channel(State.INTERDOMAIN, dom0.domid, ends[port], vcpu=channel.vcpu, consumer=True)
        if port in ends
        else replace(channel, consumer=True)
        for port, channel in list_ports(agent).ports.items()
        if channel.state > State.RESERVED
    }


def _channels(words: list[int]) -> Iterator[tuple[int, Channel]]:
    for at in range(0, len(words), _WORDS):
        port, status, vcpu, remote, detail = words[at : at + _WORDS]
        if status == _HIDDEN:
            yield port, Channel(State.UNBOUND, consumer=True)  # its vCPU is hidden, too
        elif status == ChannelState.INTERDOMAIN:
            yield port, Channel(State.INTERDOMAIN, remote, detail, vcpu=vcpu)
        else:
            yield port, Channel(_STATES[ChannelState(status)], remote, number=detail, vcpu=vcpu)


def uses_fifo(agent: AgentClient) -> bool:
    """Say whether the domain uses FIFO, and not 2L.

    2L has no priorities: EVTCHNOP_set_priority says ENOSYS there.  With FIFO it says EACCES for
    port 0, which is never usable; before the fix of XSA-343 (4.14.1) it took any valid port.
    """
    answer = agent.connection.attempt("set_priority", {"port": 0, "priority": 0})
    errno = answer.integer("errno", 0)
    if errno not in (0, Errno.ENOSYS, Errno.EACCES):
        raise LabError(
            f"cannot tell the ABI: set_priority of port 0 says {errno}", where=agent.name
        )
    return errno != Errno.ENOSYS


def linux_domain(agent: AgentClient, kind: GuestKind) -> Domain:
    """Return the model's view of a domain that runs Linux, before a test.

    Linux masks every port that it has not bound itself, and at any time one of its own events
    may be deliverable.
    """
    fifo = uses_fifo(agent)
    found = list_ports(agent)
    dom0 = agent.domid == 0
    return Domain(
        agent.domid,
        kind=kind,
        vcpus=(Vcpu(upcall=True, control_block=fifo),) * agent.info.vcpus,
        privileged=dom0,
        max_port=INT_MAX if dom0 else DOMU_MAX_PORT,
        pirqs=_DOM0_PIRQS if dom0 else frozenset(),
        fifo=fifo,
        array_pages=1 if fifo else 0,
        valid=found.valid,
        ports=tuple(sorted(found.ports.items())),
        untouched=_MASKED,
    )
