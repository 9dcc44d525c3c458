"""A domain as a conformance test sees it: every method is one hypercall, judged by the model.

    port = guest.alloc_unbound(guest.domid)
    guest.close(port)
    guest.send(port)        # Xen must say EINVAL: the oracle sees to it

A method returns what the hypercall does: 0, the new port, or -errno.  What the model says has
changed is looked at at once, through EVTCHNOP_status and SCHEDOP_poll.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from harness.agent.client import AgentClient
from harness.agent.wire import Answer, Arguments
from harness.conformance.hypercalls import FOREVER, IN_THE_PAST, Observed, call, observed
from harness.conformance.oracle import Oracle
from harness.conformance.survey import survey
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.alloc_bind import allocatable
from harness.model.evtchn.domain import BUCKET, Channel, Domain, State, World
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
from harness.verdict import HarnessError, LabError

_POLLS = 9  # in a row, with nothing said in between: an answer's interrupt would end one
_UNSURE = (0.2e-3, 0.9e-3)  # s, the median (seen: 0.006 to 0.07 ms at once, 1.2 to 68 ms asleep)
# How many times another hypercall a poll takes that has slept (seen: 20 and more), and one that
# has not (seen: 1 to 2).
_ASLEEP, _AT_ONCE = 10, 4
_FEW_PORTS = 8  # more take Xen so long that a sleep is not told apart
# s between looks at a surprise: who has taken the CPU away (20 ms were seen) gives it back.
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.0)
_IN_A_ROW = 20  # commands in one message


class Undecided(LabError):
    """The machine was too busy for us to tell whether a poll slept."""


@dataclass(frozen=True)
class Inspection:
    """A question about the state of things, and what to do with the answer."""

    verb: str
    arguments: Arguments
    digest: Callable[[Answer], object]


@dataclass
class Guest:
    """One domain and its agent; make them with ``Domains``."""

    domains: Domains
    agent: AgentClient
    type: str  # dom0, pv, pvh, hvm, arm
    linux: bool = True

    @property
    def name(self) -> str:
        """dom0, domu1, ..."""
        return self.agent.name

    @property
    def domid(self) -> int:
        """The domain's number."""
        return self.agent.domid

    @property
    def now(self) -> Domain:
        """The domain as the model believes it is now."""
        return self.domains.oracle.domain(self.domid)

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
        """EVTCHNOP_status: what Xen says, or -errno."""
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
        """EVTCHNOP_reset, EVTCHNOP_reset_cont."""
        return self._do(Reset(self.domid, dom, resume, fault))

    def init_control(self, vcpu: int, offset: int = 0, fault: Fault = Fault.NONE) -> int:
        """EVTCHNOP_init_control with a frame that does not exist."""
        return self._do(InitControl(self.domid, vcpu, offset, page_ok=False, fault=fault))

    def expand_array(self, fault: Fault = Fault.NONE) -> int:
        """EVTCHNOP_expand_array with a frame that does not exist."""
        return self._do(ExpandArray(self.domid, page_ok=False, fault=fault))

    def unknown(self, command: int) -> int:
        """event_channel_op with a command that is none."""
        return self._do(UnknownOp(self.domid, command))

    def poll(self, *ports: int, vcpu: int = 0, fault: Fault = Fault.NONE) -> bool:
        """SCHEDOP_poll without time-out; say whether it returned at once, with 0."""
        taken = self.domains.do(self, Poll(self.domid, ports, vcpu, fault))
        return taken.result.rc == 0 and not taken.result.blocked

    def poll_past(self, *ports: int) -> int:
        """SCHEDOP_poll with a time-out in the past: 0 whatever is pending, or -errno."""
        return self.domains.do(self, Poll(self.domid, ports), timeout=IN_THE_PAST).result.rc

    def fill(self, most: int) -> tuple[int, int]:
        """Allocate unbound ports until Xen refuses; return how many there were, and the errno.

        Xen is asked for all of the domain's ports afterwards.
        """
        return self.domains.fill(self, most)

    def inspections(self, old: Domain, new: Domain) -> list[Inspection]:
        """Return what to ask about a change from ``old`` to ``new``: the status of each port."""
        return [
            Inspection(*call(status), self._judge(status))
            for port in changed_ports(old, new)
            if _visible(old.port(port)) != _visible(new.port(port))
            for status in (Status(self.domid, DOMID_SELF, port),)
        ]

    def _judge(self, operation: Operation) -> Callable[[Answer], object]:
        oracle = self.domains.oracle
        return lambda answer: oracle.judge(operation, observed(operation, answer))

    def _do(self, operation: Operation) -> int:
        return self.domains.do(self, operation).result.code


@dataclass
class Domains:
    """All domains of a host during one test, and the oracle that watches them."""

    oracle: Oracle
    guests: dict[str, Guest] = field(default_factory=dict)
    before: World | None = None

    def add(self, guest: Guest) -> None:
        """Take in a domain; its state is in the oracle's world already."""
        self.guests[guest.name] = guest
        self.oracle.names[guest.domid] = guest.name

    def do(
        self, guest: Guest, operation: Operation, timeout: int = FOREVER, *, look: bool = True
    ) -> AllowedOutcome:
        """Make ``operation`` in ``guest``; judge its answer and look at what it changed."""
        before = self.oracle.world
        asked: list[Inspection] = []
        answers: list[Answer] = []
        try:
            if isinstance(operation, Poll):
                seen = _poll(guest, operation, timeout)
            else:
                asked = self._foreseen(guest, operation) if look else []
                commands = [call(operation), *((each.verb, each.arguments) for each in asked)]
                first, *answers = guest.agent.connection.attempt_all(commands)
                seen = observed(operation, first)
        except HarnessError as error:
            error.after(self.oracle.story(), f"{self.oracle.describe(operation)} -> ?")
            raise
        taken = self.oracle.judge(operation, seen)
        self.oracle.world = settled(self.oracle.world, self._linux)
        for each, answer in zip(asked, answers, strict=True):
            each.digest(answer)
        if look:
            self.look(before, asked=guest if asked else None)
        return taken

    def _foreseen(self, guest: Guest, operation: Operation) -> list[Inspection]:
        """Return what to ask right behind ``operation``, if only one thing can come of it: that
        saves the way there and back."""
        outcomes = self.oracle.expected(operation)
        if len(outcomes) != 1:
            return []
        then = settled(outcomes[0].world, self._linux).domain(guest.domid)
        asked = guest.inspections(guest.now, then) if then is not None else []
        return asked if len(asked) < _IN_A_ROW else []

    @property
    def _linux(self) -> frozenset[int]:
        return frozenset(guest.domid for guest in self.linux())

    def fill(self, guest: Guest, most: int) -> tuple[int, int]:
        """See ``Guest.fill``."""
        answer = guest.agent.connection.ask("fill", {"max": most, "wait_ms": 60000}, timeout=70.0)
        count, (_, _, errno) = answer.integer("result"), answer.integers("ports")
        self.oracle.world = self.oracle.world.with_domain(_filled(guest.now, count))
        if errno:
            self.oracle.judge(AllocUnbound(guest.domid, DOMID_SELF, DOMID_SELF), Observed(-errno))
        self.agree(guest)
        return count, errno

    def agree(self, guest: Guest) -> None:
        """Ask Xen for every port of ``guest``'s domain: all must be as the model says."""
        found = survey(guest.agent)
        now = guest.now
        assert found.valid == now.valid, (
            f"{guest.name} has {found.valid} ports, the model says {now.valid}"
        )
        hides = self.oracle.world.release.status_hides_xen_bound
        believed = {port: _visible(channel, hides) for port, channel in now.ports if channel.state}
        seen = {port: _visible(channel, hides) for port, channel in found.ports.items()}
        wrong = sorted(dict(believed.items() ^ seen.items()))
        assert not wrong, (
            f"{guest.name}'s port {wrong[0]} is {seen.get(wrong[0])}, "
            f"the model says {believed.get(wrong[0])}"
        )

    def raised(self, guest: Guest, virq: int, vcpu: int = 0) -> None:
        """Xen has raised ``virq`` for ``guest``: see to it that the event is there."""
        before = self.oracle.world
        self.oracle.judge(RaiseVirq(guest.domid, virq, vcpu), Observed(0))
        self.oracle.world = settled(self.oracle.world, self._linux)
        self.look(before)

    def watch(self, guest: Guest, watched: Guest) -> int:
        """Let Xen watch ``watched`` for ``guest``, which is dom0: Xen has a channel of its own
        then, which only dom0 may bind to.  Return its port in ``watched``, or -errno."""
        before = self.oracle.world
        words = {"owner": watched.domid, "enable": 1}
        answer = guest.agent.connection.attempt("monitor", words)
        code = answer.integer("result") if answer.ok else -answer.integer("errno")
        self.oracle.judge(XenAlloc(watched.domid, guest.domid), Observed(code))
        self.look(before)
        return code

    def unwatch(self, guest: Guest, watched: Guest, port: int) -> None:
        """Xen gives its channel up."""
        before = self.oracle.world
        guest.agent.connection.ask("monitor", {"owner": watched.domid, "enable": 0})
        self.oracle.judge(XenFree(watched.domid, port), Observed(0))
        self.look(before)

    def notified(self, watched: Guest, port: int) -> None:
        """Xen has sent an event on its own channel, to whoever is there."""
        self.oracle.judge(XenNotify(watched.domid, port), Observed(0))

    def refresh(self) -> None:
        """Ask Xen again for the ports of every Linux domain: something has changed them that
        was no operation of a test's, such as a domain that came or went."""
        for guest in self.linux():
            found = survey(guest.agent)
            ports = tuple(sorted(found.ports.items()))
            now = replace(guest.now, valid=found.valid, ports=ports)
            self.oracle.world = self.oracle.world.with_domain(now)
        self.before = self.oracle.world

    def linux(self) -> list[Guest]:
        """Return the guests that run Linux."""
        return [guest for guest in self.guests.values() if guest.linux]

    def close_opened(self) -> None:
        """Close every port of a Linux guest that was not there before the test; judged."""
        for guest in self.linux():
            was = self.before.domain(guest.domid) if self.before is not None else guest.now
            now = {port for port, channel in guest.now.ports if channel.state}
            known = {port for port, channel in was.ports if channel.state} if was else now
            self._in_a_row(guest, [Close(guest.domid, port) for port in sorted(now - known)])

    def _in_a_row(self, guest: Guest, operations: Sequence[Operation]) -> None:
        """Make operations, many in one message; judge each."""
        for at in range(0, len(operations), _IN_A_ROW):
            some = operations[at : at + _IN_A_ROW]
            answers = guest.agent.connection.attempt_all([call(each) for each in some])
            for operation, answer in zip(some, answers, strict=True):
                self.oracle.judge(operation, observed(operation, answer))

    def look(self, before: World, asked: Guest | None = None) -> None:
        """Compare what the model says has changed since ``before`` with the real Xen; ``asked``
        has been, but for what is pending."""
        for guest in list(self.guests.values()):
            old, new = before.domain(guest.domid), self.oracle.world.domain(guest.domid)
            if old is None or new is None or old.ports == new.ports:
                continue
            todo = guest.inspections(old, new) if guest is not asked else []
            for at in range(0, len(todo), _IN_A_ROW):
                some = todo[at : at + _IN_A_ROW]
                commands = [(each.verb, each.arguments) for each in some]
                answers = guest.agent.connection.attempt_all(commands)
                for each, answer in zip(some, answers, strict=True):
                    each.digest(answer)
            for port in changed_ports(old, new) if guest.linux else ():
                if old.pending(port) != new.pending(port) and new.port(port).usable:
                    guest.poll(port)


def changed_ports(old: Domain, new: Domain) -> list[int]:
    """Return the ports that are not the same in both."""
    return sorted(dict(set(old.ports) ^ set(new.ports)))


def _poll(guest: Guest, operation: Poll, timeout: int) -> Observed:
    """Poll many times: a sleep ends with any event of the guest's own, its tick for one.

    What the model does not allow is looked at for longer, before anybody calls it wrong.
    """
    allowed = {outcome.result.blocked for outcome in guest.domains.oracle.expected(operation)}
    agent = guest.agent
    timed = timeout != IN_THE_PAST and len(operation.ports) <= _FEW_PORTS
    verb, arguments = call(operation)
    words = {**arguments, "timeout": timeout, "times": _POLLS if timed else 1}
    ticks: list[int] = []
    for pause in _PAUSES:
        answer = agent.connection.attempt(verb, words)
        if not answer.ok or not timed:
            return observed(operation, answer)
        ticks += answer.integers("took")
        took = statistics.median(ticks) / agent.info.tick_hz
        by_time = False if took <= _UNSURE[0] else True if took >= _UNSURE[1] else None
        if by_time in allowed:
            return Observed(0, blocked=bool(by_time), median_s=took)
        share = took / _hypercall_s(guest, operation.vcpu)  # a slow machine is slow at everything
        slept = True if share > _ASLEEP else False if share < _AT_ONCE else None
        fits = slept in allowed and (slept or True not in allowed)
        if fits or (slept is not None and slept is by_time and not pause):
            return Observed(0, blocked=bool(slept), median_s=took)
        time.sleep(pause)
    raise Undecided(
        f"cannot tell whether a poll of {operation.ports} sleeps: it takes {took * 1e6:.0f} us",
        where=agent.name,
    )


def _hypercall_s(guest: Guest, vcpu: int) -> float:
    """Return how long a hypercall takes that does nothing, in seconds; the median of some.

    On the same vCPU: another may be a quicker one (seen: ten times, in a bare guest).
    """
    verb, arguments = call(Status(guest.domid, DOMID_SELF, 0))
    words = {**arguments, "on": vcpu}
    answers = guest.agent.connection.attempt_all([(verb, words)] * _POLLS)
    ticks = [answer.integer("ret") - answer.integer("call") for answer in answers]
    return max(1, statistics.median(ticks)) / guest.agent.info.tick_hz


def _filled(domain: Domain, count: int) -> Domain:
    """Return ``domain`` after ``count`` unbound ports were allocated, lowest first."""
    ports = dict(domain.ports)
    free = (port for port in itertools.count() if allocatable(domain, port))
    for port in itertools.islice(free, count):
        ports[port] = replace(domain.port(port), state=State.UNBOUND, remote_dom=domain.domid)
    valid = max(domain.valid, (max(ports) // BUCKET + 1) * BUCKET)
    return replace(domain, ports=tuple(sorted(ports.items())), valid=valid)


def _visible(channel: Channel, hides_xen_bound: bool = False) -> tuple[int, ...] | str:
    """What EVTCHNOP_status shows of a channel."""
    c = channel
    if c.consumer and hides_xen_bound:
        return "Xen's own"
    return (c.state, c.remote_dom, c.remote_port, c.number, c.vcpu)


def settled(world: World, linux: frozenset[int]) -> World:
    """Linux takes every event that comes up at once: it unlinks its port, which nobody has
    bound, and leaves it pending.  A poll is over when its answer is there."""
    for domain in world.domains:
        runs_linux = domain.domid in linux
        vcpus = tuple(replace(v, polling=None, upcall=v.upcall or runs_linux) for v in domain.vcpus)
        ports = tuple(_unlinked(domain.ports)) if runs_linux else domain.ports
        world = world.with_domain(replace(domain, vcpus=vcpus, ports=ports))
    return world


def _unlinked(ports: Sequence[tuple[int, Channel]]) -> Iterator[tuple[int, Channel]]:
    for port, channel in ports:
        if channel.word.linked:
            channel = replace(channel, word=replace(channel.word, linked=False), queue=None)
        yield port, channel
