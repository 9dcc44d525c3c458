"""The bare guest (guests/bare) as a test sees it: it may do what Linux would not survive.

    bare.init_control(0)            # from 2L to FIFO
    bare.expand_array()
    port = bare.bind_ipi(1)
    bare.send(port)                 # the model says which words change: they are looked at
    assert bare.take(1) == [port]

It shares its memory with nobody but Xen, so the bits that the model predicts are compared one
by one: pending, masked, linked, the selectors, the priorities that are ready, the upcall.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from harness.agent.wire import Answer
from harness.conformance.guest import Guest, Inspection, changed_ports
from harness.conformance.hypercalls import Observed
from harness.conformance.oracle import Disagreement
from harness.evidence import Difference, WrongEvents, WrongState
from harness.model.domain import Channel, Domain, Kind, Vcpu, Word
from harness.model.operations import (
    DOMID_SELF,
    Consume,
    ExpandArray,
    Fault,
    InitControl,
    Mask,
    Reset,
)

_SELECTOR = 64  # ports one bit of evtchn_pending_sel stands for


@dataclass
class Bare(Guest):
    """The bare guest; its vCPUs take no interrupts, and only ``take`` clears what Xen has set."""

    def init_control(
        self, vcpu: int, offset: int = 0, fault: Fault = Fault.NONE, *, frame: bool = True
    ) -> int:
        """EVTCHNOP_init_control with a page of ours, or with none."""
        return self._do(InitControl(self.domid, vcpu, offset, page_ok=frame, fault=fault))

    def expand_array(self, fault: Fault = Fault.NONE, *, frame: bool = True) -> int:
        """EVTCHNOP_expand_array with a page of ours, or with none."""
        return self._do(ExpandArray(self.domid, page_ok=frame, fault=fault))

    def to_fifo(self, vcpus: int = 2, pages: int = 1) -> None:
        """Switch to FIFO as a kernel does, and take the events that Xen had kept for it: even
        those of an earlier life, which nothing ever clears."""
        for vcpu in range(vcpus):
            self.init_control(vcpu)
        for _ in range(pages):
            self.expand_array()
        for vcpu in range(vcpus):
            self.take(vcpu)

    def mask(self, port: int) -> None:
        """Set the port's MASKED bit in shared memory."""
        self.agent.connection.ask("mask", {"port": port})
        before = self.domains.oracle.world
        self.domains.oracle.judge(Mask(self.domid, port), Observed(0))
        self.domains.look(before)

    def take(self, vcpu: int = 0) -> list[int]:
        """Take every event that has come up on ``vcpu``, as an upcall handler does; return the
        ports.  They must be those that the model says are there."""
        oracle = self.domains.oracle
        ports = self.agent.connection.ask("take", {"vcpu": vcpu}).integers("ports")
        expected = expected_events(self.now, vcpu)
        if sorted(ports) != sorted(expected):
            raise Disagreement(
                WrongEvents(
                    domain=self.name,
                    vcpu=vcpu,
                    seen=tuple(ports),
                    expected=tuple(expected),
                    release=str(oracle.world.release),
                ),
                story=oracle.story(),
                where=self.name,
            )
        for port in ports:
            oracle.judge(Consume(self.domid, port), Observed(0))
        oracle.world = oracle.world.with_domain(taken(self.now, vcpu))
        return ports

    def begin(self) -> None:
        """Back to the state of a guest that has just started, as far as Xen lets it: 2L, no
        port, nothing pending, nothing masked."""
        self.domains.do(self, Reset(self.domid, DOMID_SELF), look=False)
        self.agent.connection.ask("wipe")
        self.domains.oracle.world = self.domains.oracle.world.with_domain(wiped(self.now))

    def inspections(self, old: Domain, new: Domain) -> list[Inspection]:
        """Return what to ask about a change: ports' states, and their words in memory."""
        looks = (
            Inspection("look", {"port": port, "vcpu": vcpu}, self._compare(new, port, vcpu))
            for port in changed_ports(old, new)
            for vcpu in range(len(new.vcpus))
        )
        return [*super().inspections(old, new), *looks]

    def _compare(self, new: Domain, port: int, vcpu: int) -> Callable[[Answer], object]:
        return lambda answer: self._agree(new, port, vcpu, answer)

    def _agree(self, new: Domain, port: int, vcpu: int, answer: Answer) -> None:
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
        seen = {name: answer.integer(name) for name in believed}
        wrong = [name for name, value in believed.items() if int(value) != seen[name]]
        if wrong:
            oracle = self.domains.oracle
            raise Disagreement(
                WrongState(
                    domain=self.name,
                    port=port,
                    vcpu=vcpu,
                    differences=tuple(
                        Difference(name=name, seen=seen[name], expected=int(believed[name]))
                        for name in wrong
                    ),
                    release=str(oracle.world.release),
                ),
                story=oracle.story(),
                where=self.name,
            )


def new_bare(domid: int, kind: Kind, vcpus: int, xen_bound: Mapping[int, Channel]) -> Domain:
    """Return the bare guest as Xen made it, but for the toolstack's two ports."""
    domain = Domain(domid, kind=kind, vcpus=(Vcpu(),) * vcpus)
    for port, channel in xen_bound.items():
        domain = domain.with_port(port, channel)
    return domain


def expected_events(domain: Domain, vcpu: int) -> list[int]:
    """Return the ports whose events ``vcpu`` finds in shared memory."""
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


def taken(domain: Domain, vcpu: int) -> Domain:
    """Return ``domain`` when ``vcpu`` knows of no event any more, in the ABI that it uses."""
    knows = domain.vcpus[vcpu]
    ready, selectors = knows.ready, knows.selectors
    if domain.fifo:
        ready = frozenset()
    else:
        selectors = frozenset()
    idle = replace(knows, upcall=False, ready=ready, selectors=selectors)
    return domain.with_vcpu(vcpu, idle)


def wiped(domain: Domain) -> Domain:
    """Return ``domain`` when its shared memory is all zero: what Xen remembers itself stays."""
    vcpus = tuple(replace(v, upcall=False, selectors=frozenset()) for v in domain.vcpus)
    ports = tuple((p, _wiped(c)) for p, c in domain.ports if c.state or c.saved)
    return replace(domain, vcpus=vcpus, ports=ports)


def _wiped(channel: Channel) -> Channel:
    if channel.consumer:
        return replace(channel, bits=Word(), word=Word(), queue=None)
    return Channel(channel.state, saved=channel.saved)
