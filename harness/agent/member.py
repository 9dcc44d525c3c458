"""One agent's part in a load."""

from __future__ import annotations

import errno
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from harness.agent.client import AgentClient, Collected
from harness.agent.clock import ClockReading
from harness.agent.wire import (
    ANSWER_TIMEOUT,
    AgentRefused,
    Answer,
    Arguments,
    OperationInFlight,
)
from harness.evidence import InFlight
from harness.history.record import RECORD, Op
from harness.verdict import HarnessError, LabError

STATUS_TIMEOUT = 5.0  # seconds; with the look at what is behind it, told of within 10
SALVAGE_TIMEOUT = 3.0
STALLED = 5.0  # seconds without an operation: the thread is stuck
QUIET_MS = 200  # no event for so long: all have been delivered


@dataclass
class Member:
    """An agent, and what is known of its load."""

    agent: AgentClient
    number: int  # chooses its threads' programmes, together with the seed
    before: ClockReading | None = None
    after: ClockReading | None = None
    collected: dict[int, Collected] = field(default_factory=dict)  # by thread
    open_ports: list[int] = field(default_factory=list)
    full: bool = False  # no thread has room for more records
    _threads: int = 0
    _operations: tuple[int, ...] = ()  # by thread, so far
    _moved: list[float] = field(default_factory=list)  # when each thread last made one

    @property
    def operations(self) -> int:
        """Operations of the load so far."""
        return sum(self._operations)

    def begin(self, arguments: Arguments, threads_per_vcpu: int) -> Mapping[int, list[int]]:
        """Make the load's channels; return the ports that each other domid may bind to."""
        self._threads = threads_per_vcpu * self.agent.info.vcpus
        answer = self._load_begin({"actor": self.number, "threads": self._threads, **arguments})
        return {
            int(key.removeprefix("anchors_")): answer.integers(key)
            for key in answer.fields
            if key.startswith("anchors_")
        }

    def introduce(self, ports: Mapping[int, list[int]]) -> None:
        """Tell which ports of each other domid we may bind to."""
        for domid, anchors in ports.items():
            self.agent.connection.ask("load_peer", {"domid": domid, "ports": anchors})

    def go(self) -> None:
        """Let the threads start."""
        self.agent.connection.ask("load_go")

    def look(self) -> None:
        """See how far the threads are.

        Raises OperationInFlight when one is stuck in Xen, LabError when one stands still.
        """
        answer = self.agent.connection.ask("load_status", timeout=STATUS_TIMEOUT)
        operations = tuple(answer.integers("operations"))
        now = time.monotonic()
        last = self._operations or (-1,) * len(operations)
        moved = self._moved or [now] * len(operations)
        self._moved = [
            now if before != after else then
            for before, after, then in zip(last, operations, moved, strict=True)
        ]
        self._operations = operations
        self.full = answer.integer("alive") == 0
        if answer.integer("full") == 0 and now - min(self._moved, default=now) > STALLED:
            self._complain(answer)

    def stop(self) -> None:
        """End the threads; OperationInFlight when one does not come back."""
        stuck = self.agent.connection.ask("load_stop").integers("stuck")
        if stuck:
            raise OperationInFlight(
                InFlight(
                    domain=self.agent.name,
                    verb="load_stop",
                    arguments={"threads": str(stuck)},
                ),
                where=self.agent.name,
            )

    def drain(self) -> None:
        """Wait until no more events come, reading those that do."""
        self.agent.connection.ask("load_drain", {"quiet_ms": QUIET_MS})

    def release(self) -> None:
        """Close every port, and note those that Xen says are open."""
        self.open_ports = self.agent.release()

    def collect(self, timeout: float = ANSWER_TIMEOUT) -> None:
        """Fetch the records of all threads that were not fetched yet."""
        for thread in range(self._thread_count()):
            if thread not in self.collected:
                self.collected[thread] = self.agent.collect(thread, timeout)

    def salvage(self) -> None:
        """Fetch what can be fetched; an agent that is lost leaves its threads empty."""
        try:
            self.collect(SALVAGE_TIMEOUT)
        except HarnessError:
            vcpus = self.agent.info.vcpus
            for thread in range(self._thread_count()):  # a collect() may still be under way
                nothing = Collected(thread, thread % vcpus, np.zeros(0, RECORD), 0)
                self.collected.setdefault(thread, nothing)

    def _load_begin(self, arguments: Arguments) -> Answer:
        try:
            return self.agent.connection.ask("load_begin", arguments)
        except AgentRefused as error:
            if error.errno != errno.EPERM:
                raise
            raise LabError(
                "Xen forbids channels between domUs (XSM's SILO policy, the default on Arm)",
                where=self.agent.name,
                hint="boot Xen with xsm=dummy",
            ) from error

    def _thread_count(self) -> int:
        return self.agent.info.vcpus + self._threads

    def _complain(self, answer: Answer) -> None:
        for word in filter(None, answer.fields.get("flying", "").split(",")):
            thread, op, port, ms = (int(part) for part in word.split(":"))
            if ms >= STALLED * 1000:
                raise OperationInFlight(
                    InFlight(
                        domain=self.agent.name,
                        verb=Op(op).name.lower(),
                        arguments={"port": port},
                        thread=thread,
                        milliseconds=ms,
                    ),
                    where=self.agent.name,
                    hint="the hypervisor hangs, or holds a lock for ever",
                )
        slowest = min(range(len(self._moved)), key=self._moved.__getitem__)
        raise LabError(
            f"thread {self.agent.info.vcpus + slowest} has made no operation for "
            f"{STALLED:.0f} s, and none is in flight",
            where=self.agent.name,
            hint="its vCPU gets no time: is the machine overloaded?",
        )
