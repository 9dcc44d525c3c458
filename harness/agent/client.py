# SPDX-License-Identifier: GPL-2.0-or-later
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
from harness.agent.operations import DeviceOperations, RawOperations, StartedOperation
from harness.agent.pages import PAGE_BYTES, parse, records_of
from harness.agent.wire import (
    ANSWER_TIMEOUT,
    AgentGarbled,
    AgentLost,
    AgentRefused,
    Connection,
    OperationInFlight,
)
from harness.arch import Arch
from harness.machine.patience import WALL, Clock
from harness.verdict import HarnessError, HypervisorError, LabError

PROTOCOL = 2
_HELLO_TIMEOUT = 70.0  # seconds; the domU's agent may have to come first
_RACE_TIMEOUT = 12.0  # seconds after the race; the agent waits 5 of them for each vCPU


_MOST_VCPUS = 4096  # more than a domain of Xen can have
_FASTEST_HZ = 9_000_000_000  # the limit of a history's clock


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
    """The records of one of the agent's threads, so far."""

    thread: int
    vcpu: int
    records: npt.NDArray[np.void]  # dtype RECORD; the last operation may be in flight
    lost: int  # operations that were made when there was no room left for their records


@dataclass(frozen=True)
class RaceCounts:
    """What two vCPUs did and saw that raced for one channel's lock."""

    rounds: int
    sends: int
    checked: int  # rounds after which the agent looked for an invented or a lost event
    invented: int  # "close": events on a new port, which nobody could know yet
    lost: int  # "unmask": events that were pending when their port was unmasked, and never came


@dataclass(frozen=True)
class RecordingCost:
    """How many sends per second one loop makes that records them, and one that does not."""

    recorded_per_s: int
    bare_per_s: int

    @property
    def ratio(self) -> float:
        """Rate with recording over rate without: 1.0 means that recording costs nothing."""
        return self.recorded_per_s / self.bare_per_s


class AgentClient:
    """One guest agent: ask it for single operations, loads and their records.

    At the end of a ``with`` block the agent closes every port that it still owns.
    """

    def __init__(
        self, channel: AgentChannel, name: str, clock: Clock = WALL, domid: int | None = None
    ) -> None:
        """The agent is at the other end of ``channel``; ``name`` is the name of its domain.

        ``clock``: on which to wait for it.  The agent learns its ``domid`` from Xen
        (EVTCHNOP_status of a port for DOMID_SELF); where Xen's answers are in doubt, give it.
        """
        self.name = name
        self.connection = Connection(channel, name, clock)
        self._domid = domid

    def hello(self) -> AgentInfo:
        """Greet the agent and return what it says; it may have to boot first.

        Raises AgentLost when it does not answer within 70 s, HarnessError when it speaks another
        version of the protocol, AgentGarbled when it says what cannot be.
        """
        return self.info

    @cached_property
    def info(self) -> AgentInfo:
        """What the agent said of itself when it was greeted: see ``hello``."""
        answer = self.connection.ask("hello", timeout=_HELLO_TIMEOUT)
        if answer.integer("protocol") != PROTOCOL or answer.integer("page") != PAGE_BYTES:
            raise HarnessError(
                f"agent speaks protocol {answer.integer('protocol')}, we speak {PROTOCOL}",
                where=self.name,
                hint="its image is older than this harness: build the images again",
            )
        try:
            major, _, minor = answer.fields.get("xen", "0.0").partition(".")
            return AgentInfo(
                Arch(answer.fields.get("arch", "")),
                answer.integer("domid") if self._domid is None else self._domid,
                _between(1, answer.integer("vcpus"), _MOST_VCPUS),
                _between(1, answer.integer("tick_hz"), _FASTEST_HZ),
                (_between(0, int(major), 999), _between(0, int(minor), 999)),
            )
        except ValueError as error:
            what = f"its greeting cannot be: {error}"
            raise AgentGarbled(what, where=self.name) from None

    @cached_property
    def raw(self) -> RawOperations:
        """Operations that vCPU 0 makes by hypercall."""
        return self.raw_on(0)

    @cached_property
    def device(self) -> DeviceOperations:
        """Operations that vCPU 0 makes through /dev/xen/evtchn."""
        return self.device_on(0)

    @property
    def domid(self) -> int:
        """The domid of its domain; negative when that does not run on Xen."""
        return self.info.domid

    def raw_on(self, vcpu: int) -> RawOperations:
        """Return the operations that ``vcpu`` makes by hypercall."""
        return RawOperations(self.connection, self.info.tick_hz, vcpu)

    def device_on(self, vcpu: int) -> DeviceOperations:
        """Return the operations that ``vcpu`` makes through /dev/xen/evtchn."""
        return DeviceOperations(self.connection, self.info.tick_hz, vcpu)

    def begin(
        self, verb: str, *, via: str = "raw", on: int = 0, **arguments: int
    ) -> StartedOperation:
        """Start an operation on vCPU ``on`` and do not wait for its end.

        Each vCPU makes one operation at a time: AgentRefused (EBUSY) while it has another.
        """
        self.connection.ask(verb, {"via": via, "on": on, "wait_ms": 0, **arguments})
        return StartedOperation(self.connection, on)

    def release(self) -> list[int]:
        """Close every port that the agent owns; return those that Xen does not report as closed.

        It asks Xen about every port that it has owned since the last ``release``.
        """
        return self.connection.ask("release").integers("open")

    def forget(self) -> None:
        """Do not ask Xen, at the next ``release``, about ports that have been closed until now.

        Somebody else in the domain may be given their numbers.
        """
        self.connection.ask("forget")

    def collect(self, thread: int, timeout: float = ANSWER_TIMEOUT) -> Collected:
        """Fetch the records of ``thread``.

        Threads 0 to vcpus - 1 are the workers that make single operations; the threads of the load
        follow.
        """
        answer = self.connection.ask("collect", {"thread": thread}, timeout=timeout)
        return Collected(
            thread,
            answer.integer("vcpu"),
            records_of(parse(answer.payload)),
            answer.integer("lost"),
        )

    def clock(self) -> ClockReading:
        """Compare the domain's counter with dom0's, and those of its vCPUs with each other.

        Takes about half a second.
        """
        answer = self.connection.ask("clock")
        return ClockReading(
            answer.integer("local"),
            answer.integer("remote"),
            answer.integer("error"),
            answer.integer("skew"),
            self._hz(answer.integer("tick_hz")),
        )

    def _hz(self, rate: int) -> int:
        try:
            return _between(1, rate, _FASTEST_HZ)
        except ValueError as error:
            raise AgentGarbled(f"its clock cannot be: {error}", where=self.name) from None

    def ticks(self) -> int:
        """Return the domain's CPU counter as it is now, in ticks."""
        return self.connection.ask("ticks").integer("ticks")

    def race(self, kind: str, seconds: float, seed: int = 1, pirq: int = 0) -> RaceCounts:
        """Have two vCPUs race for one channel's lock for so long: vCPU 0 writes, vCPU 1 reads.

        ``kind`` is "close" (vCPU 1 sends while vCPU 0 closes), "unmask" (vCPU 1 unmasks a
        pending port while vCPU 0 closes the other end) or "dump" (in dom0: vCPU 1 presses debug
        key i while vCPU 0 binds ``pirq`` and closes it); guests/agent/race_stress.c shows the
        steps.  Raises OperationInFlight when an operation does not return from Xen, LabError when
        the machine is too slow for a race.
        """
        arguments: dict[str, int | str] = {"kind": kind, "ms": int(seconds * 1000), "seed": seed}
        if kind == "dump":
            arguments["pirq"] = pirq
        try:
            answer = self.connection.ask("race", arguments, timeout=seconds + _RACE_TIMEOUT)
        except AgentRefused as error:
            if error.errno != errno.EAGAIN:
                raise
            raise LabError("an event took longer than 2 s to come up", where=self.name) from error
        names = ("rounds", "sends", "checked", "invented", "lost")
        return RaceCounts(**{name: answer.integer(name) for name in names})

    def interrupts(self) -> list[int]:
        """Return how many events of /dev/xen/evtchn each vCPU has got since Linux started."""
        return self.connection.ask("interrupts").integers("vcpus")

    def debug_key(self, key: str) -> None:
        """Press a debug key of Xen (only in dom0).  What Xen then prints raises VIRQ_CON_RING."""
        self.connection.ask("debug_key", {"key": key})

    def recording_cost(self, seconds: float = 2.0) -> RecordingCost:
        """Measure what recording costs: make the same sends with it and without it, in turns.

        The agent forgets the records of vCPU 0's single operations.
        """
        arguments = {"ms": int(seconds * 1000)}
        answer = self.connection.ask("bench", arguments, timeout=seconds + ANSWER_TIMEOUT)
        return RecordingCost(answer.integer("recorded_per_s"), answer.integer("bare_per_s"))

    def close(self) -> None:
        """Close the connection: the agent then closes its ports itself.  Never raises."""
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


def _between(least: int, number: int, most: int) -> int:
    """Return ``number``; ValueError if it is not in ``least``..``most``."""
    if not least <= number <= most:
        raise ValueError(f"{number} is not in {least}..{most}")
    return number
