# SPDX-License-Identifier: GPL-2.0-or-later
"""One agent's part in a load: the commands that it is sent, and what is known of its threads."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from harness.agent.client import AgentClient, Collected
from harness.agent.clock import ClockReading
from harness.agent.wire import (
    ANSWER_TIMEOUT,
    AgentGarbled,
    AgentRefused,
    Answer,
    Arguments,
    OperationInFlight,
)
from harness.evidence import InFlight
from harness.history.format.record import RECORD, Op
from harness.verdict import HarnessError, LabError

STATUS_TIMEOUT = 5.0  # seconds: with the time to find out why, it is reported within 10
SALVAGE_TIMEOUT = 3.0
STALLED = 5.0  # seconds after which a thread that has made no operation counts as stuck
QUIET_MS = 200  # when no event has come for so long, all have been delivered


@dataclass
class LoadAgent:
    """One of the agents that a load runs on."""

    client: AgentClient
    number: int  # in the load; with the seed, it chooses the workloads of the agent's threads
    before: ClockReading | None = None  # its clock before the load
    after: ClockReading | None = None  # its clock after the load
    collected: dict[int, Collected] = field(default_factory=dict)  # by thread
    open_ports: list[int] = field(default_factory=list)  # still open after ``release``
    full: bool = False  # every thread has ended because its records are full
    _threads: int = 0
    _operations: tuple[int, ...] = ()  # by thread, so far
    _moved: list[float] = field(default_factory=list)  # when each thread had last made one more

    def read_clock(self) -> None:
        """Compare the domain's clock with dom0's: the first time ``before``, then ``after``."""
        reading = self.client.clock()
        if self.before is None:
            self.before = reading
        else:
            self.after = reading

    @property
    def operations(self) -> int:
        """How many operations its threads have made so far."""
        return sum(self._operations)

    def begin(self, arguments: Arguments, threads_per_vcpu: int) -> Mapping[int, list[int]]:
        """Have the agent make its channels and threads, which then wait for ``go``.

        Returns, by the domid of each other agent, the ports that it may bind to.
        """
        self._threads = threads_per_vcpu * self.client.info.vcpus
        answer = self._load_begin({"agent": self.number, "threads": self._threads, **arguments})
        return {
            self._number(key.removeprefix("ports_")): answer.integers(key)
            for key in answer.fields
            if key.startswith("ports_")
        }

    def set_peer_ports(self, ports: Mapping[int, list[int]]) -> None:
        """Tell the agent which ports of each other domid it may bind to."""
        for domid, bindable in ports.items():
            self.client.connection.ask("load_peer", {"domid": domid, "ports": bindable})

    def go(self) -> None:
        """Let the threads start."""
        self.client.connection.ask("load_go")

    def watch_progress(self) -> None:
        """Ask how many operations each thread has made, and notice one that makes no more.

        Raises OperationInFlight when its operation does not return from Xen, LabError when it
        has made none for STALLED seconds although none is in flight.
        """
        answer = self.client.connection.ask("load_status", timeout=STATUS_TIMEOUT)
        operations = tuple(answer.integers("operations"))
        if self._operations and len(operations) != len(self._operations):
            raise self._garbled(f"{len(operations)} threads, not {len(self._operations)}")
        now = self.client.connection.clock.now()
        last = self._operations or (-1,) * len(operations)
        moved = self._moved or [now] * len(operations)
        self._moved = [
            now if before != after else then
            for before, after, then in zip(last, operations, moved, strict=True)
        ]
        self._operations = operations
        self.full = answer.integer("alive") == 0
        if answer.integer("full") == 0 and now - min(self._moved, default=now) > STALLED:
            self._raise_stalled(answer)

    def stop(self) -> None:
        """End the threads; OperationInFlight when one does not return from Xen."""
        stuck = self.client.connection.ask("load_stop").integers("stuck")
        if stuck:
            raise OperationInFlight(
                InFlight(
                    domain=self.client.name,
                    verb="load_stop",
                    arguments={"threads": str(stuck)},
                ),
                where=self.client.name,
            )

    def drain(self) -> None:
        """Read events until no more come."""
        self.client.connection.ask("load_drain", {"quiet_ms": QUIET_MS})

    def release(self) -> None:
        """Close every port, and note which ones Xen still reports as open."""
        self.open_ports = self.client.release()

    def collect(self, timeout: float = ANSWER_TIMEOUT) -> None:
        """Fetch the records of every thread, if they have not been fetched yet."""
        for thread in range(self._thread_count()):
            if thread not in self.collected:
                self.collected[thread] = self.client.collect(thread, timeout)

    def salvage(self) -> None:
        """Fetch what can be fetched.  Threads of a lost agent are noted without any record."""
        try:
            self.collect(SALVAGE_TIMEOUT)
        except HarnessError:
            vcpus = self.client.info.vcpus
            for thread in range(self._thread_count()):  # another collect() may add some meanwhile
                nothing = Collected(thread, thread % vcpus, np.zeros(0, RECORD), 0)
                self.collected.setdefault(thread, nothing)

    def _load_begin(self, arguments: Arguments) -> Answer:
        try:
            return self.client.connection.ask("load_begin", arguments)
        except AgentRefused as error:
            if error.errno != errno.EPERM:
                raise
            raise LabError(
                "Xen forbids channels between domUs (XSM's SILO policy, the default on Arm)",
                where=self.client.name,
                hint="boot Xen with xsm=dummy",
            ) from error

    def _thread_count(self) -> int:
        return self.client.info.vcpus + self._threads

    def _raise_stalled(self, answer: Answer) -> None:
        for word in filter(None, answer.fields.get("in_flight", "").split(",")):
            thread, op, port, ms = self._flight(word)
            if ms >= STALLED * 1000:
                raise OperationInFlight(
                    InFlight(
                        domain=self.client.name,
                        verb=op.name.lower(),
                        arguments={"port": port},
                        thread=thread,
                        milliseconds=ms,
                    ),
                    where=self.client.name,
                    hint="the hypervisor hangs, or holds a lock for ever",
                )
        slowest = min(range(len(self._moved)), key=self._moved.__getitem__)
        raise LabError(
            f"thread {self.client.info.vcpus + slowest} has made no operation for "
            f"{STALLED:.0f} s, and none is in flight",
            where=self.client.name,
            hint="its vCPU gets no time: is the machine overloaded?",
        )

    def _flight(self, word: str) -> tuple[int, Op, int, int]:
        """Return thread, operation, port and milliseconds of "2:6:22:5000"."""
        try:
            thread, op, port, ms = (int(part) for part in word.split(":"))
            return thread, Op(op), port, ms
        except ValueError:
            raise self._garbled(f"no operation in flight: {word[:40]!r}") from None

    def _number(self, word: str) -> int:
        try:
            return int(word)
        except ValueError:
            raise self._garbled(f"no domid: {word[:40]!r}") from None

    def _garbled(self, what: str) -> AgentGarbled:
        return AgentGarbled(f"the agent's answer cannot be: {what}", where=self.client.name)
