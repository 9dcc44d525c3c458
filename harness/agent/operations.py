# SPDX-License-Identifier: GPL-2.0-or-later
"""Single event channel operations in a guest, as a test case writes them.

Each method makes one operation and returns Xen's value.  It raises AgentRefused when Xen answers
with an error number (``errno`` of the exception), OperationInFlight when the operation does not
return.  Names and arguments are those of Xen's EVTCHNOP_* calls.

    port = dom0.raw.alloc_unbound(remote=domu.domid)
    assert dom0.raw.status(port).state is ChannelState.UNBOUND
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.agent.polls import AT_ONCE, IN_THE_PAST, sleeps
from harness.agent.wire import ANSWER_TIMEOUT, Answer, Arguments, Connection
from harness.model.evtchn.abi import DOMID_SELF, ChannelState
from harness.verdict import LabError

_CALL_TIMEOUT = 5.0  # seconds within which an operation has to return


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

    def bind_pirq(self, pirq: int) -> int:
        """Bind a physical interrupt; return the local port."""
        return self._value("bind_pirq", pirq=pirq)

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
        done = completed(self._do("poll", {"ports": [port], "timeout": IN_THE_PAST}))
        return (done.ret - done.call) / self._tick_hz

    def is_pending(self, port: int) -> bool:
        """Say whether an event is pending on ``port``, which must be masked (raw ports are).

        A poll of a pending port returns, one of another port sleeps (harness.agent.polls).  Raises
        LabError on a machine that is too busy to tell.
        """

        def ask(timeout: int) -> Answer:
            return self._do("poll", {"ports": [port], "timeout": timeout, "times": AT_ONCE})

        slept = sleeps(ask)
        if slept is None:
            raise LabError(
                f"cannot tell whether port {port} is pending: the vCPU takes an interrupt during "
                "nearly every poll",
                where=self._connection.name,
            )
        return not slept


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
