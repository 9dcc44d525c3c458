# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes an unmodified Xen on arm64 take an order that Armv8 allows and QEMU's TCG never takes.

TCG executes one instruction after the other, and all CPUs see each at once.  But while CPUs are
halted, the debugger can give memory the value that another CPU would find there:

- A read-modify-write done early: the word gets its new value before the CPU's last access, and its
  old one again just before the CPU executes the instruction itself.
- A store done late: the other CPU finds the old value, until it has gone on.
- A load satisfied early: the load alone finds the value from before the other CPU's store.

Where the program itself has the wrong order, CPUs are only halted.  One CPU runs at a time, and no
instruction of Xen is changed or left out.  The control comes first: the CPUs meet in the same way,
each keeps the order of its program, and nothing may show.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from harness.evidence import Departure, Difference, Evidence
from harness.interleave.force_orders import DebuggedMachine, aim
from harness.interleave.reorder_cpus import FIRST, MOST_INSTRUCTIONS, SECOND, Cpus
from harness.interleave.reorder_publish import publish
from harness.interleave.reorderings import Executed, Moved, Reordering, may_be_late
from harness.interleave.scenarios import Scenario
from harness.interleave.target import ARRIVE_SECONDS, Place, Stuck, Target
from harness.interleave.xen_memory import ChannelMemory
from harness.verdict import HypervisorError, LabError


@dataclass(frozen=True)
class Forced:
    """One forced order, and what it showed."""

    seconds: float
    shows: str  # "" if nothing was seen
    steps: tuple[str, ...]  # who did what
    evidence: Evidence | None = None


@dataclass
class Forcer:
    """Forces one reordering on one machine, again and again."""

    debugged: DebuggedMachine
    reordering: Reordering
    scenario: Scenario
    _aimed: tuple[Target, ChannelMemory] | None = None
    _late: tuple[int, int] | None = None  # what _Section.in_order returns
    _kept_order: bool = False  # whether the data was published in order, and nothing showed

    def force(self) -> Forced:
        """Force the order once.  The machine runs before and after.

        It is restored unless it is as before.  Stuck if the CPUs did not come together or one of
        them went another way; LabError if the machine is lost.
        """
        leaves = self.reordering.moved is Moved.CHANGE_EARLY
        if not leaves and not self._kept_order:
            self._keep_order()
        began = time.monotonic()
        cpus = self._cpus()
        evidence: Evidence | None = None
        as_before = False
        try:
            if leaves:
                section = _Section(cpus)
                self._late = self._late or section.in_order()
                departure = section.leave_early(*self._late)
                evidence, shows, as_before = departure, _told(departure), True
            else:
                publish(cpus, self.reordering, in_order=False)
                shows = ""
        except HypervisorError as seen:
            shows, evidence = seen.what, seen.evidence
        except Exception:  # not Ctrl-C, which ends the machine
            self._restore()
            raise
        if not as_before:
            self._restore()
        return Forced(time.monotonic() - began, shows, tuple(cpus.steps), evidence)

    def _keep_order(self) -> None:
        """Let the data be published in order.  LabError if Xen dies all the same."""
        try:
            publish(self._cpus(), self.reordering, in_order=True)
        except HypervisorError as seen:
            self._restore()
            raise LabError(f"Xen dies though nothing is out of order: {seen.what}") from seen
        except Exception:  # not Ctrl-C, which ends the machine
            self._restore()
            raise
        self._restore()
        self._kept_order = True

    def _cpus(self) -> Cpus:
        self._aimed = self._aimed or aim(self.debugged, self.scenario, False)
        return Cpus(self.debugged, *self._aimed, self.scenario)

    def _restore(self) -> None:
        self._aimed = None
        self.debugged.live.restore(self.debugged.stub.halted())


def _told(evidence: Departure | None) -> str:
    if evidence is None:
        return ""
    (one,) = evidence.differences
    return (
        f"lost event: dom0's vCPU 0 goes to sleep in its poll of port {one.seen}, where an event "
        f"was pending until the port was closed"
    )


# -- a reader that leaves before its last access ---------------------------------------------


class _Section:
    """The first CPU reads under the lock, the second one wants to write."""

    def __init__(self, cpus: Cpus) -> None:
        self._cpus, self._target, self._memory = cpus, cpus.target, cpus.memory

    def in_order(self) -> tuple[int, int]:
        """Let the reader go through its section, in the order of its program.

        Return the address of the last access that may come behind its leave, and what leaving adds
        to the lock word.  LabError if there is no such access, or the event is lost all the same.
        """
        with self._at_the_lock() as (place, _):
            executed: list[Executed] = []
            while (found := self._target.place(FIRST)) is None or found.label != "leave":
                executed.append(self._cpus.executed(self._target.registers(FIRST)))
                self._cpus.step(FIRST)
                if len(executed) > MOST_INSTRUCTIONS:
                    raise Stuck(f"CPU0 does not leave the section that it entered at {place.where}")
            before = self._word()
            self._target.make_access(FIRST, found)
            change = self._word() - before
            late = may_be_late(executed, self._lock)
            self._to_guest(FIRST)
            if self._memory.polled_port(0):
                raise LabError("the poll sleeps though nothing is out of order")
            addresses = [each.instruction.address for each in executed]
            if late is None or addresses.count(addresses[late]) > 1:
                raise LabError("no access of the poll's section may come behind its leave")
            return addresses[late], change

    def leave_early(self, late: int, change: int) -> Departure | None:
        """Let the reader leave before its access at ``late``, and the writer run meanwhile.

        Return what differs from every order of whole sections; None if nothing does.
        """
        cpus, target = self._cpus, self._target
        with self._at_the_lock() as (_, writer):
            cpus.stand(FIRST, late)
            instruction = cpus.executed(target.registers(FIRST)).instruction
            self._put(self._word() + change)
            cpus.note(
                FIRST, f"leaves, before {late:#x} {instruction.mnemonic} {instruction.op_str}"
            )
            while writer.point is not None:
                target.make_access(SECOND, writer)
                writer = target.advance(SECOND)
            cpus.note(SECOND, "takes the lock, closes the port, and returns to the guest")
            cpus.step(FIRST)
            cpus.note(FIRST, f"makes its access at {late:#x}")
            leave = target.advance(FIRST)
            if leave.label != "leave":
                raise Stuck(f"CPU0 went another way, to {leave.where}")
            self._put(self._word() - change)
            target.make_access(FIRST, leave)
            self._to_guest(FIRST)
            port = self._memory.polled_port(0)
            cpus.note(FIRST, f"is about to sleep: poll_evtchn = {port}" if port else "returns")
        if not port:
            return None
        return Departure(differences=(Difference(name="poll_evtchn", seen=port, expected=0),))

    @contextmanager
    def _at_the_lock(self) -> Iterator[tuple[Place, Place]]:
        """Start the calls, and bring both CPUs before their first access of the lock."""
        ports, target = self._cpus.ports, self._target
        ports.prepare()
        port = ports.numbers["p"]
        if not self._memory.knows(port):
            target.reader = target.halt_in_xen()
            self._memory.channel(port)
            self._cpus.debugged.stub.go()
        words = self._memory.words(port)
        (self._lock,) = (at for name, at in words.addresses.items() if name in ("L", "cnts"))
        with self._cpus.started():
            target.watch(words)
            closing = {SECOND: self._cpus.scenario.threads[SECOND].outer_function}
            places = target.arrive((FIRST, SECOND), (), closing, None, ARRIVE_SECONDS)
            places = target.enter_lock_functions(places)
            target.reader = FIRST
            yield places[FIRST], places[SECOND]

    def _to_guest(self, cpu: int) -> None:
        while self._target.advance(cpu).point is not None:
            self._cpus.step(cpu)

    def _word(self) -> int:
        return int.from_bytes(self._target.read(self._lock, 4), "little")

    def _put(self, word: int) -> None:
        self._target.write(self._lock, (word & 0xFFFFFFFF).to_bytes(4, "little"))
