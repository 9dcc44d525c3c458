# SPDX-License-Identifier: GPL-2.0-or-later
"""The bare guest (guests/bare) as a test sees it: it may do what Linux would not survive.

    bare.init_control(0)            # from 2L to FIFO
    bare.expand_array()
    port = bare.bind_ipi(1)
    bare.send(port)                 # compares every bit in memory that the model says changes
    assert bare.take(1) == [port]

Nobody but Xen and the test changes its shared memory.  So every bit there is compared with the
model: pending, masked, linked, the selectors, the ready priorities, the upcall.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.agent.wire import AgentGarbled, Answer, Arguments
from harness.conformance.changes import changed_ports, visibly_changed
from harness.conformance.guest import Guest, StateQuery
from harness.conformance.hypercalls import Observed
from harness.conformance.reference_model import Disagreement
from harness.evidence import Difference, WrongEvents, WrongState
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.changed import replace
from harness.model.evtchn.domain import Channel, Domain, GuestKind, SharedBits, Vcpu
from harness.model.evtchn.operations import (
    Consume,
    ExpandArray,
    Fault,
    InitControl,
    Mask,
    Reset,
    Status,
    StatusReply,
)

_LOOKS = 32  # ports of one command (guests/bare/look.c)
_OF_WORD = ("pending", "masked", "linked")
_OF_VCPU = ("upcall", "selectors", "ready")
_SELECTOR = 64  # a bit of evtchn_pending_sel stands for so many ports


@dataclass(frozen=True)
class Take:
    """What ``Bare.take`` does, as a value."""

    vcpu: int


@dataclass
class Bare(Guest):
    """The bare guest.  Its vCPUs take no interrupts; only ``take`` clears what Xen has set."""

    def init_control(
        self, vcpu: int, offset: int = 0, fault: Fault = Fault.NONE, *, frame: bool = True
    ) -> int:
        """EVTCHNOP_init_control; without ``frame``, of a frame that does not exist."""
        return self._do(InitControl(self.domid, vcpu, offset, page_ok=frame, fault=fault))

    def expand_array(self, fault: Fault = Fault.NONE, *, frame: bool = True) -> int:
        """EVTCHNOP_expand_array; without ``frame``, of a frame that does not exist."""
        return self._do(ExpandArray(self.domid, page_ok=frame, fault=fault))

    def to_fifo(self, vcpus: int = 2, pages: int = 1) -> None:
        """Switch to FIFO as a kernel does, then take the events that Xen raises.

        These are the events that it has saved, even those from before a reset.
        """
        for vcpu in range(vcpus):
            self.init_control(vcpu)
        for _ in range(pages):
            self.expand_array()
        for vcpu in range(vcpus):
            self.take(vcpu)

    def mask(self, port: int) -> None:
        """Set the port's MASKED bit in shared memory."""
        self.agent.connection.ask("mask", {"port": port})
        before = self.domains.model.world
        self.domains.model.judge(Mask(self.domid, port), Observed(0))
        self.domains.compare_changes(before)

    def take(self, vcpu: int = 0) -> list[int]:
        """Take all events of ``vcpu``, as an upcall handler does; return their ports.

        Raises Disagreement if they are not those of the model.
        """
        ports = self.agent.connection.ask("handle_upcall", {"vcpu": vcpu}).integers("ports")
        self.taken(vcpu, ports)
        return ports

    def taken(self, vcpu: int, ports: Sequence[int]) -> None:
        """``vcpu`` has taken the events of ``ports``: judge that.  Raises as ``take`` does."""
        model = self.domains.model
        expected = expected_events(self.now, vcpu)
        if sorted(ports) != sorted(expected):
            raise Disagreement(
                WrongEvents(
                    domain=self.name,
                    vcpu=vcpu,
                    seen=tuple(ports),
                    expected=tuple(expected),
                    release=str(model.world.rules),
                ),
                story=model.story(),
                where=self.name,
            )
        for port in ports:
            model.judge(Consume(self.domid, port), Observed(0))
        model.world = model.world.with_domain(after_upcall(self.now, vcpu))

    def begin(self) -> None:
        """Reset, and clear the shared memory: 2L, no port, nothing pending, nothing masked.

        That is the state of a guest that has just started, but for what Xen remembers itself.
        """
        self.domains.do(self, Reset(self.domid, DOMID_SELF), compare=False)
        self.agent.connection.ask("clear_2l")
        self.domains.model.world = self.domains.model.world.with_domain(cleared(self.now))

    def state_queries(self, old: Domain, new: Domain) -> list[StateQuery]:
        """Return what to ask about a change: the ports' status, and their bits in memory."""
        changed = changed_ports(old, new)
        told = set(visibly_changed(old, new))
        queries = []
        for at in range(0, len(changed), _LOOKS):
            ports = changed[at : at + _LOOKS]
            status = [port for port in ports if port in told]
            arguments: Arguments = {"ports": ports, **({"status": status} if status else {})}
            queries.append(StateQuery("look", arguments, self._compare(new, ports, status)))
        return queries

    def _compare(
        self, new: Domain, ports: Sequence[int], status: Sequence[int]
    ) -> Callable[[Answer], object]:
        return lambda answer: self._agree(new, ports, status, answer)

    def _agree(
        self, new: Domain, ports: Sequence[int], status: Sequence[int], answer: Answer
    ) -> None:
        """Compare the ``answer`` to a "look" with the model."""
        judge = self.domains.model.judge
        for port, (error, *told) in zip(status, _rows(answer, ("status",), 5, status), strict=True):
            seen = Observed(-error) if error else Observed(0, StatusReply(*told))
            judge(Status(self.domid, DOMID_SELF, port), seen)
        vcpus = range(len(new.vcpus))
        notices = _rows(answer, _OF_VCPU, 1, vcpus)
        for port, bits in zip(ports, _rows(answer, ("bits",), 3, ports), strict=True):
            for vcpu in vcpus:
                words = zip(_OF_WORD + _OF_VCPU, [*bits, *notices[vcpu]], strict=True)
                self._port_agrees(new, port, vcpu, dict(words))

    def _port_agrees(self, new: Domain, port: int, vcpu: int, seen: Mapping[str, int]) -> None:
        channel, upcall = new.port(port), new.vcpus[vcpu]
        word = channel.word if new.fifo else channel.bits
        has_word = not new.fifo or new.has_word(port)
        believed = {
            "pending": word.pending and has_word,
            "masked": word.masked and has_word,
            "linked": word.linked and has_word,
            "upcall": upcall.upcall,
            "selectors": sum(1 << word for word in upcall.selectors),
            "ready": sum(1 << priority for priority in upcall.ready),
        }
        wrong = [name for name, value in believed.items() if int(value) != seen[name]]
        if wrong:
            model = self.domains.model
            raise Disagreement(
                WrongState(
                    domain=self.name,
                    port=port,
                    vcpu=vcpu,
                    differences=tuple(
                        Difference(name=name, seen=seen[name], expected=int(believed[name]))
                        for name in wrong
                    ),
                    release=str(model.world.rules),
                ),
                story=model.story(),
                where=self.name,
            )


def _rows(answer: Answer, keys: Sequence[str], each: int, of: Sequence[int]) -> list[list[int]]:
    """Return the numbers of ``keys`` in ``answer``: ``each`` of a key for every one of ``of``.

    AgentGarbled when there are more or fewer.
    """
    rows: list[list[int]] = [[] for _ in of]
    for key in keys:
        numbers = answer.integers(key)
        if len(numbers) != each * len(of):
            raise AgentGarbled(f"{len(numbers)} numbers {key!r} of {len(of)} in the agent's answer")
        for at, row in enumerate(rows):
            row += numbers[at * each : (at + 1) * each]
    return rows


def new_bare(domid: int, kind: GuestKind, vcpus: int, xen_bound: Mapping[int, Channel]) -> Domain:
    """Return the state of a bare guest that Xen has just created.

    ``xen_bound`` are the ports of Xen's own channels there.  The two ports that the toolstack makes
    (xenstore, console) are left out.
    """
    domain = Domain(domid, kind=kind, vcpus=(Vcpu(),) * vcpus)
    for port, channel in xen_bound.items():
        domain = domain.with_port(port, channel)
    return domain


def expected_events(domain: Domain, vcpu: int) -> list[int]:
    """Return the ports whose events an upcall handler on ``vcpu`` finds in shared memory."""
    there = domain.vcpus[vcpu]
    if domain.fifo:
        return [
            port
            for port, channel in domain.ports
            if channel.queue is not None
            and channel.queue[0] == vcpu
            and channel.queue[1] in there.ready
        ]
    return [
        port
        for port, channel in domain.ports
        if channel.bits.pending and not channel.bits.masked and port // _SELECTOR in there.selectors
    ]


def after_upcall(domain: Domain, vcpu: int) -> Domain:
    """Return ``domain`` when an upcall handler on ``vcpu`` has taken all its events."""
    knows = domain.vcpus[vcpu]
    ready, selectors = knows.ready, knows.selectors
    if domain.fifo:
        ready = frozenset()
    else:
        selectors = frozenset()
    idle = replace(knows, upcall=False, ready=ready, selectors=selectors)
    return domain.with_vcpu(vcpu, idle)


def cleared(domain: Domain) -> Domain:
    """Return ``domain`` when its shared memory is cleared; what Xen itself remembers stays."""
    vcpus = tuple(replace(v, upcall=False, selectors=frozenset()) for v in domain.vcpus)
    ports = tuple((p, _cleared(c)) for p, c in domain.ports if c.state or c.saved)
    return replace(domain, vcpus=vcpus, ports=ports)


def _cleared(channel: Channel) -> Channel:
    if channel.consumer:
        return replace(channel, bits=SharedBits(), word=SharedBits(), queue=None)
    return Channel(channel.state, priority=channel.priority, saved=channel.saved)
