# SPDX-License-Identifier: GPL-2.0-or-later
"""The model follows a programme: what must be seen after each step, before the guest has begun.

    follower = Follower(world, domid, vcpu=0)
    expected = [follower.follow(step) for step in steps]

A step whose port is in a slot stands for an operation only in the state of that moment; the
follower has the slots as the guest has them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.conformance.bare import after_upcall, cleared, expected_events
from harness.fuzz.programme import SLOTS, Bit, Flag, Seen, SeenBits, Step, What, marks
from harness.model.evtchn import delivery
from harness.model.evtchn import operations as ops
from harness.model.evtchn.abi import DOMID_SELF, Errno
from harness.model.evtchn.changed import replace
from harness.model.evtchn.domain import Domain, World
from harness.model.evtchn.operations import Fault, Operation, Result
from harness.model.evtchn.predict import predict

_PORTS_2L = 4096  # in the bitmaps of 64-bit guests, whatever the limit is
_MOST_POLLED = 130  # guests/bare/programme.c; Xen takes 128
# Plain numbers: an enum's operators would take longer than the rest of a step.
_PORT_OF_SLOT, _VALUE_OF_SLOT = int(Flag.PORT_OF_SLOT), int(Flag.VALUE_OF_SLOT)
_FAULT_IN, _FAULT_OUT = int(Flag.FAULT_IN), int(Flag.FAULT_OUT)
_PENDING, _MASKED, _LINKED = int(SeenBits.PENDING), int(SeenBits.MASKED), int(SeenBits.LINKED)
_SLEPT, _UPCALL = int(SeenBits.SLEPT), int(SeenBits.UPCALL)
_NOTICES = 0xFFFF  # selectors or priorities of one vCPU that a guest tells


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be seen after a step; of a poll, there may be several answers.

    ``others`` has the ``result`` and whether it slept of those that are allowed as well.
    """

    seen: Seen
    others: frozenset[tuple[int, bool]] = frozenset()

    def allows(self, seen: Seen) -> bool:
        """Say whether ``seen`` is allowed."""
        if seen == self.seen:
            return True
        if not self.others or seen[2:] != self.seen[2:]:
            return False
        slept = SeenBits.SLEPT
        same = (seen.bits | slept) == (self.seen.bits | slept)
        return same and (seen.result, bool(seen.bits & slept)) in self.others


class Follower:
    """The world that the model believes in, while vCPU ``vcpu`` of domain ``domid`` makes steps."""

    def __init__(self, world: World, domid: int, vcpu: int = 0) -> None:
        self.world = world
        self.domid = domid
        self.vcpu = vcpu
        self.slots = [0] * SLOTS
        self.row = ""  # of the specification, that the last step has met

    @property
    def domain(self) -> Domain:
        """The domain as it is now."""
        domain = self.world.domain(self.domid)
        assert domain is not None
        return domain

    def port(self, step: Step) -> int:
        """Return the port that ``step`` is about."""
        return self.slots[step.port % SLOTS] if step.flags & _PORT_OF_SLOT else step.port

    def value(self, step: Step) -> int:
        """Return the value that ``step`` has."""
        return self.slots[step.value % SLOTS] if step.flags & _VALUE_OF_SLOT else step.value

    def operation(self, step: Step) -> Operation | None:
        """Return the operation that ``step`` stands for now; None: it is none of the model's."""
        made = _OPERATIONS.get(step.what)
        return made(self, step) if made else None

    def follow(self, step: Step) -> Expected:
        """Return what must be seen after ``step``; the world is then the one after it."""
        port = self.port(step)
        operation = self.operation(step)
        self.row = ""
        if operation is not None:
            return self._hypercall(step, operation, port)
        return Expected(self._seen(port, _OTHERS[step.what](self, step)))

    def _hypercall(self, step: Step, operation: Operation, port: int) -> Expected:
        outcomes = predict(self.world, operation)
        outcome = outcomes[-1]
        self.row = outcome.row
        result = outcome.result
        self.world = outcome.world
        others: frozenset[tuple[int, bool]] = frozenset()
        if isinstance(operation, ops.Poll):
            # A time-out in the past: nothing tells whether it would have slept.
            past = bool(step.flags & Flag.PAST)
            others = frozenset((o.result.rc, o.result.blocked and not past) for o in outcomes)
            result = Result(rc=result.rc, blocked=result.blocked and not past)
            vcpus = tuple(replace(v, polling=None) if v.polling else v for v in self.domain.vcpus)
            self.world = self.world.with_domain(replace(self.domain, vcpus=vcpus))
        elif result.rc == 0 and result.port is not None and step.slot:
            self.slots[step.slot] = result.port
        if step.what == What.BEGIN:
            self._cleared()
        return Expected(self._seen(port, result), others)

    def _cleared(self) -> None:
        self.world = self.world.with_domain(cleared(self.domain))
        self.slots[:] = [0] * SLOTS

    def _seen(self, port: int, result: Result | tuple[int, int]) -> Seen:
        """Return what is seen with that ``result``: of Xen, or of TAKE and the like."""
        domain = self.domain
        channel = domain.port(port)
        in_array = not domain.fifo or domain.has_word(port)
        word = channel.word if domain.fifo else channel.bits
        bits = 0
        if in_array and word.pending:
            bits |= _PENDING
        if in_array and word.masked:
            bits |= _MASKED
        if in_array and word.linked:
            bits |= _LINKED
        notices = 0
        for number, vcpu in enumerate(domain.vcpus):
            if vcpu.upcall:
                bits |= _UPCALL << number
            told = 0
            for each in vcpu.ready:
                told |= 1 << each
            for each in vcpu.selectors:
                told |= 1 << each
            notices |= (told & _NOTICES) << 16 * number
        if isinstance(result, tuple):
            return Seen(result[0], bits, notices, result[1])
        if result.blocked:
            bits |= _SLEPT
        status = result.status
        if status is None:
            return Seen(result.code, bits, notices)
        told = status.status & 0xFF | (status.vcpu & 0xFF) << 8 | (status.dom & 0xFFFF) << 16
        return Seen(result.code, bits, told, status.detail)

    # -- what is no hypercall: each returns its result and its detail -----------------------

    def _nothing(self, step: Step) -> tuple[int, int]:
        return 0, 0

    def _take(self, step: Step) -> tuple[int, int]:
        vcpu = step.number % len(self.domain.vcpus)
        ports = expected_events(self.domain, vcpu)
        for port in ports:
            self.world = predict(self.world, ops.Consume(self.domid, port))[0].world
        self.world = self.world.with_domain(after_upcall(self.domain, vcpu))
        return len(ports), marks(ports)

    def _close_all(self, step: Step) -> tuple[int, int]:
        for port, channel in self.domain.ports:
            if channel.usable:
                self.world = predict(self.world, ops.Close(self.domid, port))[0].world
        return 0, 0

    def _set_bit(self, step: Step) -> tuple[int, int]:
        domain, port = self.domain, self.port(step)
        if not (domain.has_word(port) if domain.fifo else port < _PORTS_2L):
            return -int(Errno.EINVAL), 0
        channel, value = domain.port(port), step.what == What.SET_BIT
        if not port and value and step.number == Bit.PENDING:  # the guest refuses that itself
            return -int(Errno.EINVAL), 0
        if step.number == Bit.PENDING and not value:
            domain = delivery.clear_pending(domain, port)
        elif step.number == Bit.MASKED and value:
            domain = delivery.mask(domain, port)
        else:
            word = channel.word if domain.fifo else channel.bits
            name = "pending" if step.number == Bit.PENDING else "masked"
            word = replace(word, **{name: value})
            domain = domain.with_port(
                port, replace(channel, word=word) if domain.fifo else replace(channel, bits=word)
            )
        self.world = self.world.with_domain(domain)
        return 0, 0


_OTHERS: dict[int, Callable[[Follower, Step], tuple[int, int]]] = {
    What.TAKE: Follower._take,
    What.LOOK: Follower._nothing,
    What.DELAY: Follower._nothing,
    What.MEET: Follower._nothing,
    What.CLOSE_ALL: Follower._close_all,
    What.SET_BIT: Follower._set_bit,
    What.CLEAR_BIT: Follower._set_bit,
}


def _fault(step: Step) -> Fault:
    if step.flags & _FAULT_IN:
        return Fault.IN
    return Fault.OUT if step.flags & _FAULT_OUT else Fault.NONE


def _polled(f: Follower, s: Step) -> tuple[int, ...]:
    count = min(s.number, _MOST_POLLED)
    return (f.port(s), *(f.value(s),) * (count - 1)) if count else ()


_OPERATIONS: dict[int, Callable[[Follower, Step], Operation]] = {
    What.ALLOC_UNBOUND: lambda f, s: ops.AllocUnbound(
        f.domid, s.port & 0xFFFF, f.value(s) & 0xFFFF, _fault(s)
    ),
    What.BIND_INTERDOMAIN: lambda f, s: ops.BindInterdomain(
        f.domid, f.value(s) & 0xFFFF, f.port(s), _fault(s)
    ),
    What.BIND_VIRQ: lambda f, s: ops.BindVirq(f.domid, s.port, f.value(s), _fault(s)),
    What.BIND_PIRQ: lambda f, s: ops.BindPirq(f.domid, s.port, _fault(s)),
    What.BIND_IPI: lambda f, s: ops.BindIpi(f.domid, f.value(s), _fault(s)),
    What.CLOSE: lambda f, s: ops.Close(f.domid, f.port(s), _fault(s)),
    What.SEND: lambda f, s: ops.Send(f.domid, f.port(s), _fault(s)),
    What.STATUS: lambda f, s: ops.Status(f.domid, f.value(s) & 0xFFFF, f.port(s), _fault(s)),
    What.BIND_VCPU: lambda f, s: ops.BindVcpu(f.domid, f.port(s), f.value(s), _fault(s)),
    What.UNMASK: lambda f, s: ops.Unmask(f.domid, f.port(s), _fault(s)),
    What.RESET: lambda f, s: ops.Reset(f.domid, DOMID_SELF, False, _fault(s)),
    What.RESET_CONT: lambda f, s: ops.Reset(f.domid, DOMID_SELF, True, _fault(s)),
    What.BEGIN: lambda f, s: ops.Reset(f.domid, DOMID_SELF, False, _fault(s)),
    What.INIT_CONTROL: lambda f, s: ops.InitControl(
        f.domid, s.number, s.value, not s.flags & Flag.BAD_FRAME, _fault(s)
    ),
    What.EXPAND_ARRAY: lambda f, s: ops.ExpandArray(
        f.domid, not s.flags & Flag.BAD_FRAME, _fault(s)
    ),
    What.SET_PRIORITY: lambda f, s: ops.SetPriority(f.domid, f.port(s), f.value(s), _fault(s)),
    What.UNKNOWN_COMMAND: lambda f, s: ops.UnknownOp(f.domid, s.value),
    What.POLL: lambda f, s: ops.Poll(f.domid, _polled(f, s), f.vcpu, _fault(s)),
}
