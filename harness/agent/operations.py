# SPDX-License-Identifier: GPL-2.0-or-later
"""Single event channel operations in a guest, as a test case writes them.

Each method makes one operation and returns Xen's value.  It raises AgentRefused when Xen answers
with an error number (``errno`` of the exception), OperationInFlight when the operation does not
return.  Names and arguments are those of Xen's EVTCHNOP_* calls.

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

_CALL_TIMEOUT = 5.0  # seconds within which an operation has to return

# is_pending(): batches of polls, until one decides.
_PENDING_BATCHES = 6
_PENDING_ROUNDS = 30  # polls of each port in a batch
_PENDING_AT_ONCE = 5  # polls of each port in one message
# The medians of the port that is pending and of the one that is not must differ by this factor
# (measured: 1.7 to 30).
_PENDING_CLEAR = 1.3
# If the share of slow polls lies between these, nothing is decided (measured: at most 0.2 for a
# pending port, at least 0.72 for another).
_UNSURE = (0.35, 0.55)


@dataclass(frozen=True)
class ChannelStatus:
    """Answer of EVTCHNOP_status."""

    state: ChannelState
    vcpu: int  # notify vCPU
    remote: int  # UNBOUND, INTERDOMAIN: domid of the other end
    detail: int  # INTERDOMAIN: remote port; VIRQ, PIRQ: its number


@dataclass(frozen=True)
class CompletedOperation:
    """One operation that has returned."""

    result: int
    call: int  # ticks of its domain's counter
    ret: int
    cpu: int


def completed(answer: Answer) -> CompletedOperation:
    """Return what ``answer`` says of the operation that it answers."""
    return CompletedOperation(
        answer.integer("result"),
        answer.integer("call"),
        answer.integer("ret"),
        answer.integer("cpu"),
    )


class _Operations:
    """What hypercalls and the device have in common: which vCPU makes the operation."""

    via: str

    def __init__(self, connection: Connection, tick_hz: int, on: int = 0) -> None:
        self._connection = connection
        self._tick_hz = tick_hz
        self._on = on

    def _do(self, verb: str, arguments: Arguments, blocks_s: float = 0.0) -> Answer:
        """Make an operation, which may sleep in Xen or Linux for ``blocks_s`` seconds."""
        words = self._words(arguments, blocks_s)
        return self._connection.ask(verb, words, timeout=ANSWER_TIMEOUT + blocks_s)

    def _words(self, arguments: Arguments, blocks_s: float = 0.0) -> Arguments:
        """Return ``arguments``, and which vCPU makes the operation and how long it may take."""
        wait_ms = int((_CALL_TIMEOUT + blocks_s) * 1000)
        return {"via": self.via, "on": self._on, "wait_ms": wait_ms, **arguments}

    def _value(self, verb: str, **arguments: int) -> int:
        return self._do(verb, arguments).integer("result")


class RawOperations(_Operations):
    """Operations by hypercall, through /dev/xen/privcmd: the answers are Xen's own."""

    via = "raw"

    def alloc_unbound(self, remote: int = DOMID_SELF, owner: int = DOMID_SELF) -> int:
        """Allocate a port in domain ``owner`` that domain ``remote`` may bind to; return it."""
        return self._value("alloc_unbound", remote=remote, owner=owner)

    def bind_interdomain(self, remote: int, port: int) -> int:
        """Bind to ``port`` of domain ``remote``; return the local port."""
        return self._value("bind_interdomain", remote=remote, port=port)

    def bind_virq(self, virq: int, vcpu: int = 0) -> int:
        """Bind a virtual IRQ of ``vcpu``; return the local port."""
        return self._value("bind_virq", virq=virq, vcpu=vcpu)

    def bind_ipi(self, vcpu: int) -> int:
        """Make a port for inter-processor interrupts to ``vcpu``; return it."""
        return self._value("bind_ipi", vcpu=vcpu)

    def close(self, port: int) -> None:
        """Close ``port``.  The agent refuses (EPERM) a port of /dev/xen/evtchn."""
        self._value("close", port=port)

    def send(self, port: int) -> None:
        """Send an event to the other end of ``port``."""
        self._value("send", port=port)

    def status(self, port: int) -> ChannelStatus:
        """Return what EVTCHNOP_status tells about a port of this domain."""
        answer = self._do("status", {"port": port})
        return ChannelStatus(
            ChannelState(answer.integer("state")),
            answer.integer("vcpu"),
            answer.integer("remote"),
            answer.integer("detail"),
        )

    def bind_vcpu(self, port: int, vcpu: int) -> None:
        """Make ``vcpu`` the notify vCPU of ``port``: the one that gets its events."""
        self._value("bind_vcpu", port=port, vcpu=vcpu)

    def unmask(self, port: int) -> None:
        """Clear the mask of ``port``; Xen then delivers an event that is pending."""
        self._value("unmask", port=port)

    def set_priority(self, port: int, priority: int) -> None:
        """Set the FIFO priority (0 highest, 15 lowest) of future events on ``port``."""
        self._value("set_priority", port=port, priority=priority)

    def poll(self, port: int) -> float:
        """SCHEDOP_poll one port, with a time-out in the past; return how many seconds it took.

        Xen's value is 0 whether the port is pending or not.
        """
        return self.polls([port])[0]

    def polls(self, ports: Sequence[int]) -> list[float]:
        """Poll one port after the other, as ``poll`` does; return how many seconds each took."""
        asked = [self._words({"ports": [port]}) for port in ports]
        done = [completed(answer) for answer in self._connection.ask_in_a_row("poll", asked)]
        return [(each.ret - each.call) / self._tick_hz for each in done]

    def is_pending(self, port: int) -> bool:
        """Say whether an event is pending on ``port``, which must be masked (raw ports are).

        A poll of a pending port returns at once.  For a poll of another port Xen sets a timer and
        calls its scheduler, which takes longer.  How long, depends on the machine; so the port is
        polled in turn with one that is known to be pending and one that is known not to be, and
        the times are compared.  Raises LabError when they are too unsteady to decide.
        """
        empty = self.alloc_unbound()
        pending = self.bind_interdomain(DOMID_SELF, empty)
        try:
            self.send(empty)  # binding has made it pending already, if this Xen works
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
    """Operations through /dev/xen/evtchn.

    ``handle`` (0 to 15) is one open file of the device; each has ports of its own.
    """

    via = "device"

    def bind_unbound(self, remote: int, handle: int = 0) -> int:
        """Allocate a port that domain ``remote`` may bind to; return it."""
        return self._value("alloc_unbound", remote=remote, handle=handle)

    def bind_interdomain(self, remote: int, port: int, handle: int = 0) -> int:
        """Bind to ``port`` of domain ``remote``; return the local port."""
        return self._value("bind_interdomain", remote=remote, port=port, handle=handle)

    def bind_virq(self, virq: int, handle: int = 0) -> int:
        """Bind a virtual IRQ; return the local port.  Linux always binds it to vCPU 0."""
        return self._value("bind_virq", virq=virq, handle=handle)

    def unbind(self, port: int, handle: int = 0) -> None:
        """Close ``port``."""
        self._value("close", port=port, handle=handle)

    def notify(self, port: int, handle: int = 0) -> None:
        """Send an event.  Linux succeeds whatever Xen answers."""
        self._value("send", port=port, handle=handle)

    def read(self, timeout_s: float = 0.0, handle: int = 0) -> list[int]:
        """Wait up to ``timeout_s`` for an event; return the ports of all that have come.

        Each port stays masked until ``enable``.
        """
        arguments = {"timeout_ms": int(timeout_s * 1000), "handle": handle}
        return self._do("read", arguments, timeout_s).integers("ports")

    def enable(self, ports: Sequence[int], handle: int = 0) -> None:
        """Write ``ports`` back to the device: Linux unmasks them, and their next events come."""
        self._do("enable", {"ports": ports, "handle": handle})


class StartedOperation:
    """An operation that has been started, and may not have returned yet."""

    def __init__(self, connection: Connection, on: int) -> None:
        self._connection = connection
        self._on = on

    def join(self, timeout_s: float = 5.0) -> CompletedOperation:
        """Wait for its end.  Raises OperationInFlight when it does not return in time."""
        arguments = {"on": self._on, "wait_ms": int(timeout_s * 1000)}
        answer = self._connection.ask("join", arguments, timeout=timeout_s + ANSWER_TIMEOUT)
        return completed(answer)
