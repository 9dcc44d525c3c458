"""The host's end of one guest agent."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType

import numpy as np
import numpy.typing as npt

from harness.agent.channel import AgentChannel
from harness.agent.clock import ClockReading
from harness.agent.operations import DeviceOperations, Flight, RawOperations
from harness.agent.pages import PAGE_BYTES, parse, records_of
from harness.agent.wire import (
    ANSWER_TIMEOUT,
    AgentLost,
    AgentRefused,
    Connection,
    OperationInFlight,
)
from harness.arch import Arch
from harness.verdict import HarnessError, HypervisorError, LabError

PROTOCOL = 1
_GREETING_TIMEOUT = 30.0  # seconds; the relay itself waits 20 for the domU's agent
_DUEL_TIMEOUT = 12.0  # seconds of silence after its end; the agent waits 5 for each vCPU


@dataclass(frozen=True)
class AgentInfo:
    """What the agent says of itself and its domain."""

    arch: Arch
    domid: int
    vcpus: int
    tick_hz: int  # ticks per second of the counter in its records
    xen: tuple[int, int]  # version of the running hypervisor


@dataclass(frozen=True)
class Collected:
    """One thread's records as far as they go."""

    thread: int
    vcpu: int
    records: npt.NDArray[np.void]  # dtype RECORD; the last may be in flight
    lost: int  # operations made but not recorded, for want of room


@dataclass(frozen=True)
class Duel:
    """What two vCPUs that fought for one channel's lock did and saw."""

    rounds: int
    sends: int
    checked: int  # rounds after which something was looked for
    invented: int  # events on a port that nobody could know
    lost: int  # events that were let through and never came


@dataclass(frozen=True)
class RecordingCost:
    """Sends per second of one loop, with and without their being recorded."""

    recorded_per_s: int
    bare_per_s: int

    @property
    def ratio(self) -> float:
        """Recorded over bare rate: 1.0 is free."""
        return self.recorded_per_s / self.bare_per_s


class AgentClient:
    """One guest agent: ask it for single operations, loads and their records.

    Leaving the ``with`` block closes every port the agent still owns.
    """

    def __init__(self, channel: AgentChannel, name: str) -> None:
        """Take the agent at the other end of ``channel``; ``name`` is its domain's."""
        self.name = name
        self.connection = Connection(channel, name)

    def hello(self) -> AgentInfo:
        """Greet the agent, which may take as long as its domain boots; return what it says.

        Raises AgentLost when nobody answers, HarnessError when it speaks another protocol.
        """
        return self.info

    @cached_property
    def info(self) -> AgentInfo:
        """What the agent said of itself when it was greeted."""
        answer = self.connection.ask("hello", timeout=_GREETING_TIMEOUT)
        if answer.integer("protocol") != PROTOCOL or answer.integer("page") != PAGE_BYTES:
            raise HarnessError(
                f"agent speaks protocol {answer.integer('protocol')}, we speak {PROTOCOL}",
                where=self.name,
                hint="its image is older than this harness: build the images again",
            )
        major, _, minor = answer.fields.get("xen", "0.0").partition(".")
        return AgentInfo(
            Arch(answer.fields.get("arch", "")),
            answer.integer("domid"),
            answer.integer("vcpus"),
            answer.integer("tick_hz"),
            (int(major), int(minor)),
        )

    @cached_property
    def raw(self) -> RawOperations:
        """Hypercalls that vCPU 0 makes."""
        return self.raw_on(0)

    @cached_property
    def device(self) -> DeviceOperations:
        """Operations on /dev/xen/evtchn that vCPU 0 makes."""
        return self.device_on(0)

    @property
    def domid(self) -> int:
        """The agent's domid; negative when it does not run on Xen."""
        return self.info.domid

    def raw_on(self, vcpu: int) -> RawOperations:
        """Return hypercalls that ``vcpu`` makes."""
        return RawOperations(self.connection, self.info.tick_hz, vcpu)

    def device_on(self, vcpu: int) -> DeviceOperations:
        """Return operations on /dev/xen/evtchn that ``vcpu`` makes."""
        return DeviceOperations(self.connection, self.info.tick_hz, vcpu)

    def begin(self, verb: str, *, via: str = "raw", on: int = 0, **arguments: int) -> Flight:
        """Start an operation on vCPU ``on`` and do not wait for it; one at a time per vCPU."""
        self.connection.ask(verb, {"via": via, "on": on, "wait_ms": 0, **arguments})
        return Flight(self.connection, on)

    def release(self) -> list[int]:
        """Close every port the agent owns; return those that Xen does not report as closed.

        Asks for every port the agent ever owned since it was last released.
        """
        return self.connection.ask("release").integers("open")

    def forget(self) -> None:
        """Let ``release`` ask no more about ports that are closed by now: they may be others'."""
        self.connection.ask("forget")

    def collect(self, thread: int, timeout: float = ANSWER_TIMEOUT) -> Collected:
        """Fetch the records of ``thread``: 0 to vcpus-1 made the single operations."""
        answer = self.connection.ask("collect", {"thread": thread}, timeout=timeout)
        return Collected(
            thread,
            answer.integer("vcpu"),
            records_of(parse(answer.payload)),
            answer.integer("lost"),
        )

    def clock(self) -> ClockReading:
        """Compare the domain's counter with dom0's, and those of its vCPUs with each other.

        Takes about half a second.  dom0's own counter is the reference.
        """
        answer = self.connection.ask("clock")
        return ClockReading(
            answer.integer("local"),
            answer.integer("remote"),
            answer.integer("error"),
            answer.integer("skew"),
            answer.integer("tick_hz"),
        )

    def ticks(self) -> int:
        """Return the domain's CPU counter now, in ticks."""
        return self.connection.ask("ticks").integer("ticks")

    def duel(self, kind: str, seconds: float, seed: int = 1) -> Duel:
        """Let vCPU 1 read and vCPU 0 write one channel's lock; ``kind``: "close" or "unmask".

        docs/agent-protocol.md says what each does.  OperationInFlight when one of them does
        not come back.
        """
        arguments: dict[str, int | str] = {"kind": kind, "ms": int(seconds * 1000), "seed": seed}
        try:
            answer = self.connection.ask("duel", arguments, timeout=seconds + _DUEL_TIMEOUT)
        except AgentRefused as error:
            if error.errno != errno.EAGAIN:
                raise
            raise LabError("an event took longer than 2 s to come up", where=self.name) from error
        names = ("rounds", "sends", "checked", "invented", "lost")
        return Duel(**{name: answer.integer(name) for name in names})

    def interrupts(self) -> list[int]:
        """Return how many events of /dev/xen/evtchn came up on each vCPU so far."""
        return self.connection.ask("interrupts").integers("vcpus")

    def debug_key(self, key: str) -> None:
        """Press a debug key of Xen's (dom0 only).  What Xen prints raises VIRQ_CON_RING."""
        self.connection.ask("debug_key", {"key": key})

    def recording_cost(self, seconds: float = 2.0) -> RecordingCost:
        """Measure what recording costs: the same sends with and without it, in turns.

        Forgets the records of vCPU 0's single operations.
        """
        arguments = {"ms": int(seconds * 1000)}
        answer = self.connection.ask("bench", arguments, timeout=seconds + ANSWER_TIMEOUT)
        return RecordingCost(answer.integer("recorded_per_s"), answer.integer("bare_per_s"))

    def close(self) -> None:
        """Let the agent go; it closes its ports itself.  Never raises."""
        self.connection.close()

    def __enter__(self) -> AgentClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if not isinstance(error, AgentLost | HypervisorError):
                self.release()
        except (AgentLost, OperationInFlight):
            if error is None:
                raise
        finally:
            self.close()
