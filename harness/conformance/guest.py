# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain as a conformance test sees it: every method is one hypercall, judged by the model.

    port = guest.alloc_unbound(guest.domid)
    guest.close(port)
    guest.send(port)        # Disagreement, if Xen does not answer EINVAL

A method returns what the hypercall returns: 0, the new port, or -errno.  After each hypercall, the
ports whose state it has changed, by the model, are compared with the real Xen's: with
EVTCHNOP_status and SCHEDOP_poll.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from harness.agent.client import AgentClient
from harness.agent.polls import FOREVER, IN_THE_PAST
from harness.agent.wire import Answer, Arguments
from harness.conformance.changes import changed_ports, settled, visible, visibly_changed
from harness.conformance.hypercalls import Observed, call, observed
from harness.conformance.initial_state import list_ports
from harness.conformance.polls import observe_poll
from harness.conformance.reference_model import ReferenceModel
from harness.model.evtchn import qemu
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.alloc_bind import allocatable
from harness.model.evtchn.changed_rules import Rule
from harness.model.evtchn.domain import BUCKET, VIRQ_ARGO, Domain, State, World
from harness.model.evtchn.operations import (
    AllocUnbound,
    BindInterdomain,
    BindIpi,
    BindPirq,
    BindVcpu,
    BindVirq,
    Close,
    ExpandArray,
    Fault,
    InitControl,
    Operation,
    Poll,
    RaiseVirq,
    Reset,
    Send,
    SetPriority,
    Status,
    StatusReply,
    UnknownOp,
    Unmask,
    XenAlloc,
    XenFree,
    XenNotify,
)
from harness.model.evtchn.outcome import AllowedOutcome
from harness.verdict import HarnessError

_IN_A_ROW = 20  # commands in one message


@dataclass(frozen=True)
class StateQuery:
    """A command that reads a part of the real state, and what compares it with the model."""

    verb: str
    arguments: Arguments
    check: Callable[[Answer], object]


@dataclass
class Guest:
    """One domain and its agent."""

    domains: Domains
    agent: AgentClient
    type: str  # dom0, pv, pvh, hvm, arm
    linux: bool = True

    @property
    def name(self) -> str:
        """dom0, domu1, ... or bare."""
        return self.agent.name

    @property
    def domid(self) -> int:
        """The domain's domid."""
        return self.agent.domid

    @property
    def now(self) -> Domain:
        """The state of the domain that the model believes in."""
        return self.domains.model.domain(self.domid)

    @property
    def free_virq(self) -> int:
        """A VIRQ of the whole domain that nobody raises, and that this domain may bind.

        15 has no name and is global; where only its handler may bind that, VIRQ_ARGO.
        """
        world = self.domains.model.world
        refused = world.rules.holds(Rule.VIRQ_WANTS_HANDLER) and world.virq_handler != self.domid
        return VIRQ_ARGO if refused else 15

    def alloc_unbound(
        self, remote: int = DOMID_SELF, dom: int = DOMID_SELF, fault: Fault = Fault.NONE
    ) -> int:
        """EVTCHNOP_alloc_unbound."""
        return self._do(AllocUnbound(self.domid, dom, remote, fault))

    def bind_interdomain(self, remote_dom: int, remote_port: int, fault: Fault = Fault.NONE) -> int:
        """EVTCHNOP_bind_interdomain."""
        return self._do(BindInterdomain(self.domid, remote_dom, remote_port, fault))

    def bind_virq(self, virq: int, vcpu: int = 0, fault: Fault = Fault.NONE) -> int:
        """EVTCHNOP_bind_virq."""
        return self._do(BindVirq(self.domid, virq, vcpu, fault))

    def bind_ipi(self, vcpu: int, fault: Fault = Fault.NONE) -> int:
        """EVTCHNOP_bind_ipi."""
        return self._do(BindIpi(self.domid, vcpu, fault))

    def bind_pirq(self, pirq: int, fault: Fault = Fault.NONE) -> int:
        """EVTCHNOP_bind_pirq."""
        return self._do(BindPirq(self.domid, pirq, fault))

    def close(self, port: int, fault: Fault = Fault.NONE) -> int:
        """EVTCHNOP_close."""
        return self._do(Close(self.domid, port, fault))

    def send(self, port: int, fault: Fault = Fault.NONE) -> int:
        """EVTCHNOP_send."""
        return self._do(Send(self.domid, port, fault))

    def status(
        self, port: int, dom: int = DOMID_SELF, fault: Fault = Fault.NONE
    ) -> StatusReply | int:
        """EVTCHNOP_status: what Xen tells about the port, or -errno."""
        taken = self.domains.do(self, Status(self.domid, dom, port, fault))
        return taken.result.status or taken.result.rc

    def bind_vcpu(self, port: int, vcpu: int, fault: Fault = Fault.NONE) -> int:
        """EVTCHNOP_bind_vcpu."""
        return self._do(BindVcpu(self.domid, port, vcpu, fault))

    def unmask(self, port: int, fault: Fault = Fault.NONE) -> int:
        """EVTCHNOP_unmask."""
        return self._do(Unmask(self.domid, port, fault))

    def set_priority(self, port: int, priority: int, fault: Fault = Fault.NONE) -> int:
        """EVTCHNOP_set_priority."""
        return self._do(SetPriority(self.domid, port, priority, fault))

    def reset(self, dom: int, resume: bool = False, fault: Fault = Fault.NONE) -> int:
        """EVTCHNOP_reset; with ``resume``, EVTCHNOP_reset_cont."""
        return self._do(Reset(self.domid, dom, resume, fault))

    def init_control(self, vcpu: int, offset: int = 0, fault: Fault = Fault.NONE) -> int:
        """EVTCHNOP_init_control with a frame that does not exist."""
        return self._do(InitControl(self.domid, vcpu, offset, page_ok=False, fault=fault))

    def expand_array(self, fault: Fault = Fault.NONE) -> int:
        """EVTCHNOP_expand_array with a frame that does not exist."""
        return self._do(ExpandArray(self.domid, page_ok=False, fault=fault))

    def unknown(self, command: int) -> int:
        """HYPERVISOR_event_channel_op with a command that Xen does not know."""
        return self._do(UnknownOp(self.domid, command))

    def poll(self, *ports: int, vcpu: int = 0, fault: Fault = Fault.NONE) -> bool:
        """SCHEDOP_poll without time-out; say whether it returned 0 at once."""
        taken = self.domains.do(self, Poll(self.domid, ports, vcpu, fault))
        return taken.result.rc == 0 and not taken.result.blocked

    def poll_past(self, *ports: int) -> int:
        """SCHEDOP_poll with a time-out in the past: 0, pending or not, or -errno."""
        return self.domains.do(self, Poll(self.domid, ports), timeout=IN_THE_PAST).result.rc

    def fill(self, most: int) -> tuple[int, int]:
        """Allocate unbound ports until Xen refuses, at most ``most``.

        Returns how many were allocated, and Xen's error number (0: it has not refused).  Afterwards
        the state of every port is compared with Xen's.
        """
        return self.domains.fill(self, most)

    def state_queries(self, old: Domain, new: Domain) -> list[StateQuery]:
        """Return what to ask Xen when ``old`` became ``new``: the status of each changed port."""
        return [
            StateQuery(*call(status), self._judge(status))
            for port in visibly_changed(old, new)
            for status in (Status(self.domid, DOMID_SELF, port),)
        ]

    def _judge(self, operation: Operation) -> Callable[[Answer], object]:
        model = self.domains.model
        return lambda answer: model.judge(operation, observed(operation, answer))

    def _do(self, operation: Operation) -> int:
        return self.domains.do(self, operation).result.code


@dataclass
class Domains:
    """All domains of a host during one test, and the model that follows them."""

    model: ReferenceModel
    guests: dict[str, Guest] = field(default_factory=dict)
    before: World | None = None  # the state before the test
    _calm: tuple[Domain, ...] = ()  # the domains of the last world that was settled

    def add(self, guest: Guest) -> None:
        """Add a domain whose state is in the model's world already."""
        self.guests[guest.name] = guest
        self.model.names[guest.domid] = guest.name
        self._calm = ()  # whether it runs Linux was not known before

    def do(
        self, guest: Guest, operation: Operation, timeout: int = FOREVER, *, compare: bool = True
    ) -> AllowedOutcome:
        """Have ``guest`` make ``operation``; judge its answer, and compare what it has changed."""
        before = self.model.world
        asked: list[StateQuery] = []
        answers: list[Answer] = []
        try:
            if isinstance(operation, Poll):
                allowed = {outcome.result.blocked for outcome in self.model.expected(operation)}
                seen = observe_poll(guest.agent, operation, timeout, allowed)
            else:
                asked = self._queries_after(guest, operation) if compare else []
                commands = [call(operation), *((each.verb, each.arguments) for each in asked)]
                first, *answers = guest.agent.connection.attempt_all(commands)
                seen = observed(operation, first)
        except HarnessError as error:
            error.after(self.model.story(), f"{self.model.describe(operation)} -> ?")
            raise
        taken = self.judge(operation, seen)
        with self.model.effect_of(operation):
            for each, answer in zip(asked, answers, strict=True):
                each.check(answer)
            if compare:
                self.compare_changes(before, asked=guest if asked else None)
        return taken

    def _queries_after(self, guest: Guest, operation: Operation) -> list[StateQuery]:
        """Return what to ask Xen in the same message as ``operation``.

        That saves a message, but is possible only where the model allows a single state afterwards.
        """
        after = self.only_world_after(self.model.expected(operation))
        then = None if after is None else after.domain(guest.domid)
        asked = guest.state_queries(guest.now, then) if then is not None else []
        return asked if len(asked) < _IN_A_ROW else []

    def only_world_after(self, outcomes: Sequence[AllowedOutcome]) -> World | None:
        """Return the world after an operation with these ``outcomes``; None if it may be one of
        several."""
        first, *others = (self._settled(outcome.world) for outcome in outcomes)
        return first if all(each == first for each in others) else None

    def _settled(self, world: World) -> World:
        """Return ``world`` settled; what is as it was the last time is not looked at again."""
        world = settled(world, self._linux, self._calm)
        self._calm = world.domains
        return world

    def judge(self, operation: Operation, seen: Observed) -> AllowedOutcome:
        """Judge what was ``seen`` of ``operation``, and nothing else; Linux takes its events."""
        taken = self.model.judge(operation, seen)
        self.model.world = self._settled(self.model.world)
        return taken

    @property
    def _linux(self) -> frozenset[int]:
        return frozenset(guest.domid for guest in self.linux())

    def fill(self, guest: Guest, most: int) -> tuple[int, int]:
        """See ``Guest.fill``."""
        answer = guest.agent.connection.ask("fill", {"max": most, "wait_ms": 60000}, timeout=70.0)
        count, (_, _, errno) = answer.integer("result"), answer.integers("ports")
        self.model.world = self.model.world.with_domain(_filled(guest.now, count))
        if errno:
            self.model.judge(AllocUnbound(guest.domid, DOMID_SELF, DOMID_SELF), Observed(-errno))
        self.agree(guest)
        return count, errno

    def agree(self, guest: Guest) -> None:
        """Compare every port of ``guest`` with the model; AssertionError for one that differs."""
        now = guest.now
        expected = qemu.told_ports(self.model.world.rules, now)
        found = list_ports(guest.agent, first=expected.start)
        assert found.valid == expected.stop, (
            f"{guest.name} has {found.valid} ports, the model says {expected.stop}"
        )
        hides = self.model.world.rules.holds(Rule.STATUS_HIDES_XEN_BOUND)
        believed = {port: visible(channel, hides) for port, channel in now.ports if channel.state}
        seen = {port: visible(channel, hides) for port, channel in found.ports.items()}
        wrong = sorted(dict(believed.items() ^ seen.items()))
        assert not wrong, (
            f"{guest.name}'s port {wrong[0]} is {seen.get(wrong[0])}, "
            f"the model says {believed.get(wrong[0])}"
        )

    def raised(self, guest: Guest, virq: int, vcpu: int = 0) -> None:
        """Xen has just raised ``virq`` for ``guest``: compare what that has changed."""
        before = self.model.world
        self.judge(RaiseVirq(guest.domid, virq, vcpu), Observed(0))
        self.compare_changes(before)

    def watch(self, guest: Guest, watched: Guest) -> int:
        """Have Xen watch ``watched`` for ``guest``, which is dom0 (vm_event).

        Xen then has a channel of its own in ``watched``, to which only dom0 may bind.  Returns the
        channel's port there, or -errno.
        """
        before = self.model.world
        words = {"owner": watched.domid, "enable": 1}
        answer = guest.agent.connection.attempt("monitor", words)
        code = answer.integer("result") if answer.ok else -answer.integer("errno")
        self.model.judge(XenAlloc(watched.domid, guest.domid), Observed(code))
        self.compare_changes(before)
        return code

    def unwatch(self, guest: Guest, watched: Guest, port: int) -> None:
        """Have Xen watch ``watched`` no longer; it then frees its own channel."""
        before = self.model.world
        guest.agent.connection.ask("monitor", {"owner": watched.domid, "enable": 0})
        self.model.judge(XenFree(watched.domid, port), Observed(0))
        self.compare_changes(before)

    def notified(self, watched: Guest, port: int) -> None:
        """Xen has just sent an event on its own channel in ``watched``."""
        self.model.judge(XenNotify(watched.domid, port), Observed(0))

    def refresh(self) -> None:
        """Ask Xen again about all ports of every domain that runs Linux.

        To be called when they have changed without an operation of the test: a domain was started
        or destroyed.
        """
        for guest in self.linux():
            found = list_ports(guest.agent)
            ports = tuple(sorted(found.ports.items()))
            now = replace(guest.now, valid=found.valid, ports=ports)
            self.model.world = self.model.world.with_domain(now)
        self.before = self.model.world

    def linux(self) -> list[Guest]:
        """Return the domains that run Linux."""
        return [guest for guest in self.guests.values() if guest.linux]

    def close_opened(self) -> None:
        """Close every port that the test has left open in a Linux domain; judge each close."""
        for guest in self.linux():
            was = self.before.domain(guest.domid) if self.before is not None else guest.now
            now = {port for port, channel in guest.now.ports if channel.state}
            known = {port for port, channel in was.ports if channel.state} if was else now
            self._in_a_row(guest, [Close(guest.domid, port) for port in sorted(now - known)])

    def _in_a_row(self, guest: Guest, operations: Sequence[Operation]) -> None:
        """Have ``guest`` make ``operations``, many in one message; judge each."""
        for at in range(0, len(operations), _IN_A_ROW):
            some = operations[at : at + _IN_A_ROW]
            answers = guest.agent.connection.attempt_all([call(each) for each in some])
            for operation, answer in zip(some, answers, strict=True):
                self.model.judge(operation, observed(operation, answer))

    def compare_changes(self, before: World, asked: Guest | None = None) -> None:
        """Compare with the real Xen what has changed since ``before``, by the model.

        Of the guest ``asked``, the state queries have been made already; what is pending has not
        been compared yet.
        """
        for guest in list(self.guests.values()):
            old, new = before.domain(guest.domid), self.model.world.domain(guest.domid)
            if old is None or new is None or old.ports == new.ports:
                continue
            todo = guest.state_queries(old, new) if guest is not asked else []
            for at in range(0, len(todo), _IN_A_ROW):
                some = todo[at : at + _IN_A_ROW]
                commands = [(each.verb, each.arguments) for each in some]
                answers = guest.agent.connection.attempt_all(commands)
                for each, answer in zip(some, answers, strict=True):
                    each.check(answer)
            for port in changed_ports(old, new) if guest.linux else ():
                if old.pending(port) != new.pending(port) and new.port(port).usable:
                    guest.poll(port)


def _filled(domain: Domain, count: int) -> Domain:
    """Return ``domain`` when ``count`` unbound ports have been allocated, the lowest first."""
    ports = dict(domain.ports)
    free = (port for port in itertools.count() if allocatable(domain, port))
    for port in itertools.islice(free, count):
        ports[port] = replace(domain.port(port), state=State.UNBOUND, remote_dom=domain.domid)
    valid = max(domain.valid, (max(ports) // BUCKET + 1) * BUCKET)
    return replace(domain, ports=tuple(sorted(ports.items())), valid=valid)
