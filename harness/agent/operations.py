"""Single event channel operations in a guest, as a test case writes them.

Each method makes one operation and returns Xen's value; an error number raises
AgentRefused (its ``errno`` is Xen's), an operation that never comes back raises
OperationInFlight.  Names and arguments are those of Xen's EVTCHNOP_* calls.

    port = dom0.raw.alloc_unbound(remote=domu.domid)
    assert dom0.raw.status(port).state is ChannelState.UNBOUND
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from harness.agent.wire import ANSWER_TIMEOUT, Answer, Arguments, Connection
from harness.model.evtchn.abi import DOMID_SELF, ChannelState
from harness.verdict import LabError

_PATIENCE = 5.0  # seconds in which an operation has to come back

_PENDING_ROUNDS = 30  # polls of each port between looks
_PENDING_AT_ONCE = 5  # of these, in one message
_PENDING_BATCHES = 6
_PENDING_CLEAR = 1.3  # the medians of the known ports must differ by this factor (seen: 1.7 to 30)
_UNSURE = (0.35, 0.55)  # share of slow polls that tells nothing (seen: 0.2 and 0.72 at worst)


@dataclass(frozen=True)
class ChannelStatus:
    """Answer of EVTCHNOP_status."""

    state: ChannelState
    vcpu: int  # notify vCPU
    remote: int  # domid at the other end: unbound and interdomain channels
    detail: int  # remote port, VIRQ or PIRQ


@dataclass(frozen=True)
class Outcome:
    """One finished operation: its value and when it was (ticks of its domain's counter)."""

    result: int
    call: int
    ret: int
    cpu: int


def outcome(answer: Answer) -> Outcome:
    """Return what ``answer`` says of the operation it answers."""
    return Outcome(
        answer.integer("result"),
        answer.integer("call"),
        answer.integer("ret"),
        answer.integer("cpu"),
    )


class _Operations:
    """What both ways have in common: which vCPU makes the operation."""

    via: str

    def __init__(self, connection: Connection, tick_hz: int, on: int = 0) -> None:
        self._connection = connection
        self._tick_hz = tick_hz
        self._on = on
        self.last: Outcome | None = None  # the latest operation that succeeded

    def _do(self, verb: str, arguments: Arguments, blocks_s: float = 0.0) -> Answer:
        """Make an operation that by itself may take ``blocks_s`` seconds."""
        words = self._words(arguments, blocks_s)
        answer = self._connection.ask(verb, words, timeout=ANSWER_TIMEOUT + blocks_s)
        self.last = outcome(answer)
        return answer

    def _words(self, arguments: Arguments, blocks_s: float = 0.0) -> Arguments:
        """Return ``arguments`` with who makes the operation, and how long it may take."""
        wait_ms = int((_PATIENCE + blocks_s) * 1000)
        return {"via": self.via, "on": self._on, "wait_ms": wait_ms, **arguments}

    def _value(self, verb: str, **arguments: int) -> int:
        return self._do(verb, arguments).integer("result")


class RawOperations(_Operations):
    """Hypercalls through /dev/xen/privcmd: the answers are Xen's own."""

    via = "raw"

    def alloc_unbound(self, remote: int = DOMID_SELF, owner: int = DOMID_SELF) -> int:
        """Allocate a port in domain ``owner`` that domain ``remote`` may bind to; return it."""
        return self._value("alloc_unbound", remote=remote, owner=owner)

    def bind_interdomain(self, remote: int, port: int) -> int:
        """Bind to ``port`` of domain ``remote``; return the local port."""
        return self._value("bind_interdomain", remote=remote, port=port)

    def bind_virq(self, virq: int, vcpu: int = 0) -> int:
        """Bind a virtual IRQ; return the local port."""
        return self._value("bind_virq", virq=virq, vcpu=vcpu)

    def bind_ipi(self, vcpu: int) -> int:
        """Bind an inter-processor interrupt to ``vcpu``; return the local port."""
        return self._value("bind_ipi", vcpu=vcpu)

    def close(self, port: int) -> None:
        """Close ``port``.  The agent refuses (EPERM) a port that /dev/xen/evtchn has bound."""
        self._value("close", port=port)

    def send(self, port: int) -> None:
        """Send an event to the other end of ``port``."""
        self._value("send", port=port)

    def status(self, port: int) -> ChannelStatus:
        """Ask for the state of a port of this domain."""
        answer = self._do("status", {"port": port})
        return ChannelStatus(
            ChannelState(answer.integer("state")),
            answer.integer("vcpu"),
            answer.integer("remote"),
            answer.integer("detail"),
        )

    def bind_vcpu(self, port: int, vcpu: int) -> None:
        """Make ``vcpu`` the one that is notified of events on ``port``."""
        self._value("bind_vcpu", port=port, vcpu=vcpu)

    def unmask(self, port: int) -> None:
        """Clear the mask of ``port``, and deliver what is pending."""
        self._value("unmask", port=port)

    def set_priority(self, port: int, priority: int) -> None:
        """Set the FIFO priority (0 highest, 15 lowest) of ``port``'s future events."""
        self._value("set_priority", port=port, priority=priority)

    def poll(self, port: int) -> float:
        """SCHEDOP_poll one port, with a time-out in the past; return how long it took in seconds.

        Xen answers 0 whether the port is pending or not.
        """
        return self.polls([port])[0]

    def polls(self, ports: Sequence[int]) -> list[float]:
        """Poll one port after the other, as ``poll`` does; return how long each took."""
        asked = [self._words({"ports": [port]}) for port in ports]
        done = [outcome(answer) for answer in self._connection.ask_in_a_row("poll", asked)]
        self.last = done[-1]
        return [(each.ret - each.call) / self._tick_hz for each in done]

    def is_pending(self, port: int) -> bool:
        """Say whether an event is pending on ``port``, which must be masked (raw ports are).

        Xen answers a poll of a pending port at once, and goes through its timer and its
        scheduler for another.  How long either takes depends on the machine, so the port
        is compared, in turn, with one that is pending and one that is not.  LabError when
        the machine is too unsteady to tell.
        """
        empty = self.alloc_unbound()
        pending = self.bind_interdomain(DOMID_SELF, empty)
        try:
            self.send(empty)  # binding alone makes it pending too, if that is what works
            times: dict[int, list[float]] = {empty: [], pending: [], port: []}
            for _ in range(_PENDING_BATCHES):
                for _ in range(_PENDING_ROUNDS // _PENDING_AT_ONCE):
                    ports = [*times] * _PENDING_AT_ONCE
                    for each, taken in zip(ports, self.polls(ports), strict=True):
                        times[each].append(taken)
                slow, quick = (statistics.median(times[known]) for known in (empty, pending))
                middle = math.sqrt(slow * quick)
                above = statistics.fmean(taken > middle for taken in times[port])
                if slow > _PENDING_CLEAR * quick and not _UNSURE[0] < above < _UNSURE[1]:
                    return above <= _UNSURE[0]
        finally:
            self.close(pending)
            self.close(empty)
        raise LabError(
            f"cannot tell whether port {port} is pending: polls of a pending port took "
            f"{quick * 1e6:.0f} us, of another {slow * 1e6:.0f} us, and {above:.0%} of its own "
            "were slow",
            where="the guest's clock",
        )


class DeviceOperations(_Operations):
    """/dev/xen/evtchn; ``handle`` is one of 16 open files of it, each with its own ports."""

    via = "device"

    def bind_unbound(self, remote: int, handle: int = 0) -> int:
        """Allocate a port that domain ``remote`` may bind to; return it."""
        return self._value("alloc_unbound", remote=remote, handle=handle)

    def bind_interdomain(self, remote: int, port: int, handle: int = 0) -> int:
        """Bind to ``port`` of domain ``remote``; return the local port."""
        return self._value("bind_interdomain", remote=remote, port=port, handle=handle)

    def bind_virq(self, virq: int, handle: int = 0) -> int:
        """Bind a virtual IRQ (Linux always takes vCPU 0); return the local port."""
        return self._value("bind_virq", virq=virq, handle=handle)

    def unbind(self, port: int, handle: int = 0) -> None:
        """Close ``port``."""
        self._value("close", port=port, handle=handle)

    def notify(self, port: int, handle: int = 0) -> None:
        """Send an event.  Linux does not tell whether Xen accepted it."""
        self._value("send", port=port, handle=handle)

    def read(self, timeout_s: float = 0.0, handle: int = 0) -> list[int]:
        """Return the ports that had events, waiting up to ``timeout_s`` for the first.

        Each stays masked until it is given to enable().
        """
        arguments = {"timeout_ms": int(timeout_s * 1000), "handle": handle}
        return self._do("read", arguments, timeout_s).integers("ports")

    def enable(self, ports: Sequence[int], handle: int = 0) -> None:
        """Let the next event of each of ``ports`` through: write them back to the device."""
        self._do("enable", {"ports": ports, "handle": handle})


class Flight:
    """An operation that was begun and may not have come back yet."""

    def __init__(self, connection: Connection, on: int) -> None:
        self._connection = connection
        self._on = on

    def join(self, timeout_s: float = 5.0) -> Outcome:
        """Wait for its end.  Raises OperationInFlight when it is not back in time."""
        arguments = {"on": self._on, "wait_ms": int(timeout_s * 1000)}
        answer = self._connection.ask("join", arguments, timeout=timeout_s + ANSWER_TIMEOUT)
        return outcome(answer)
