"""What a domain's channels are before a test: asked of Xen port by port (EVTCHNOP_status)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.agent.client import AgentClient
from harness.model.evtchn.abi import DOMID_SELF, ChannelState, Errno
from harness.model.evtchn.domain import (
    INT_MAX,
    Channel,
    Domain,
    GuestKind,
    SharedBits,
    State,
    Vcpu,
)
from harness.verdict import LabError

DOMU_MAX_PORT = 1023  # libxl's default of max_event_channels
_DOM0_PIRQS = frozenset(range(16))  # which Linux has Xen map at boot
_WORDS = 5  # of each port in an answer: port, EVTCHNSTAT_*, vCPU, remote, detail
_HIDDEN = 255  # Xen does not tell the state: its own consumer
_MASKED = Channel(bits=SharedBits(masked=True), word=SharedBits(masked=True))
_STATES: dict[int, State] = {
    ChannelState.UNBOUND: State.UNBOUND,
    ChannelState.INTERDOMAIN: State.INTERDOMAIN,
    ChannelState.PIRQ: State.PIRQ,
    ChannelState.VIRQ: State.VIRQ,
    ChannelState.IPI: State.IPI,
}


@dataclass(frozen=True)
class Survey:
    """The ports of a domain that are not closed, and how many ports it has."""

    valid: int
    ports: dict[int, Channel]


def survey(agent: AgentClient, owner: int = DOMID_SELF) -> Survey:
    """Ask Xen, through ``agent``, for every port of domain ``owner``."""
    first, ports = 0, {0: Channel(State.RESERVED)}
    while True:
        answer = agent.connection.ask("survey", {"first": first, "owner": owner})
        words = answer.integers("ports")
        ports |= dict(_channels(words))
        first = answer.integer("result")
        if not answer.integer("more"):
            return Survey(first, ports)


def xen_bound(agent: AgentClient, dom0: AgentClient) -> dict[int, Channel]:
    """Return the ports that Xen has for itself in the domain of ``agent``, which has none of its
    own and has just reset all others: an HVM guest's, to which its device model is bound."""
    ends = {
        channel.remote_port: port
        for port, channel in survey(dom0).ports.items()
        if channel.state is State.INTERDOMAIN and channel.remote_dom == agent.domid
    }
    return {
        port: Channel(State.INTERDOMAIN, dom0.domid, ends[port], vcpu=channel.vcpu, consumer=True)
        if port in ends
        else replace(channel, consumer=True)
        for port, channel in survey(agent).ports.items()
        if channel.state > State.RESERVED
    }


def _channels(words: list[int]) -> Iterator[tuple[int, Channel]]:
    for at in range(0, len(words), _WORDS):
        port, status, vcpu, remote, detail = words[at : at + _WORDS]
        if status == _HIDDEN:
            yield port, Channel(State.UNBOUND, consumer=True)  # nor where it comes up
        elif status == ChannelState.INTERDOMAIN:
            yield port, Channel(State.INTERDOMAIN, remote, detail, vcpu=vcpu)
        else:
            yield port, Channel(_STATES[status], remote, number=detail, vcpu=vcpu)


def uses_fifo(agent: AgentClient) -> bool:
    """Say which ABI the domain has chosen: 2L has no priorities.  Port 0 is never usable."""
    answer = agent.connection.attempt("set_priority", {"port": 0, "priority": 0})
    errno = answer.integer("errno", 0)
    if errno not in (Errno.ENOSYS, Errno.EACCES):
        raise LabError(
            f"cannot tell the ABI: set_priority of port 0 says {errno}", where=agent.name
        )
    return errno == Errno.EACCES


def linux_domain(agent: AgentClient, kind: GuestKind) -> Domain:
    """Return a domain that runs Linux as the model sees it, before a test.

    Linux masks every port that it has not bound itself, and an event of its own may be
    deliverable at any time.
    """
    fifo = uses_fifo(agent)
    found = survey(agent)
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
