# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs one order of a scenario on a real Xen, and compares memory with the model after each step.

A thread stands at a stop point: before the access that is the next step of the model's thread.  To
take the step, only this thread's CPU runs, until it has made the access.  What Xen then does under
the lock may be a step of its own in the model (the "section"); the CPU stays right after its access
until that step's time comes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from harness.agent.client import AgentClient
from harness.evidence import Departure, Difference, Evidence, Operation, Stand, words
from harness.interleave.ports import NOT_TOGETHER, ScenarioPorts
from harness.interleave.scenarios import Scenario
from harness.interleave.stop_points import Access
from harness.interleave.target import ARRIVE_SECONDS, NotArrived, Place, Stuck, Target
from harness.interleave.threads import DOM0
from harness.interleave.xen_memory import ChannelMemory, VariableReader
from harness.model.explore.interleavings import Interleaving, ScheduledStep, initial_state
from harness.model.explore.program import DONE, AccessKind, System

_READ_UNLOCKS = ("evtchn_read_unlock", "_read_unlock")
LOCK_WORDS = ("L", "cnts", "qlock", "lock_head", "lock_tail", "elock")


class OrderOutcome(StrEnum):
    """The outcome of an order that was forced."""

    WALKED = "walked"  # Xen took every step as the model has it
    INFEASIBLE = "infeasible"  # Xen cannot take its steps in this order
    MISMATCH = "mismatch"  # Xen did something else than the model


@dataclass(frozen=True)
class StepResult:
    """One step that was taken, with the variables after it in the model and in the machine."""

    thread: int
    step: str  # its name in the model
    has_to_wait: bool  # the thread only read, and stays at the step
    xen: str  # where in Xen's source
    model: Mapping[str, int]
    machine: Mapping[str, int]
    where: str  # where the CPU stands afterwards


@dataclass(frozen=True)
class OrderResult:
    """What happened when an order was forced."""

    outcome: OrderOutcome
    why: str  # "" if it was walked
    steps: tuple[StepResult, ...]
    results: tuple[int | None, ...]  # of the threads' operations; None: it did not return
    seconds: float
    stops: int  # how often the debugger stopped a CPU
    evidence: Evidence | None = None  # of a mismatch

    @property
    def needs_restore(self) -> bool:
        """Whether the machine must be restored: a CPU hangs, or may hang in the next order."""
        return self.outcome is OrderOutcome.MISMATCH or None in self.results


class _Mismatch(Exception):
    """The machine is in another state than the model."""

    def __init__(self, departure: Departure) -> None:
        super().__init__(words.message(departure))
        self.departure = departure


@dataclass(frozen=True)
class SpareInterrupt:
    """The machine's spare interrupt."""

    number: int = 0  # 0: there is none
    set_line: Callable[[bool], object] = bool


class OrderRunner:
    """Runs the orders of one scenario on one machine."""

    def __init__(
        self,
        scenario: Scenario,
        system: System,
        target: Target,
        memory: ChannelMemory,
        agents: Mapping[str, AgentClient],
        vcpus: int,
        spare: SpareInterrupt,
    ) -> None:
        """``memory`` reads through ``target``.

        ``vcpus``: dom0's vCPUs run on the first so many CPUs, one on each; domUs run on the others.
        """
        self.scenario = scenario
        self._system = system
        self._target = target
        self._memory = memory
        self._cpus = [
            scenario.vcpu(number) + (vcpus if thread.call.domain != DOM0 else 0)
            for number, thread in enumerate(scenario.threads)
        ]
        self._ports = ScenarioPorts(scenario, agents, spare.number)
        self._spare = spare
        self._interrupted = 0  # the address that the interrupt returns to
        # Without ``scenario.pending`` the bit belongs to a port that a thread has yet to make.
        unseen = set() if scenario.pending else {"pending"}
        self._names = {variable.name for variable in system.variables} - unseen
        self._places: dict[int, Place | None] = {}  # None: after its access, in the section
        self._steps: list[StepResult] = []
        self._reader: VariableReader | None = None

    @property
    def steps(self) -> tuple[StepResult, ...]:
        """The steps of the latest order that were taken so far."""
        return tuple(self._steps)

    def run(self, order: Interleaving, timeout: float = ARRIVE_SECONDS) -> OrderResult:
        """Make the ports, take the steps of ``order``, let all CPUs run, and close the ports.

        ``timeout``: seconds in which the threads must come to the lock.  If it is shorter than
        ARRIVE_SECONDS and a thread does not come, that is no mismatch yet: the caller tries again.
        The machine runs before and after.  Raise what a lost agent or stub raises.
        """
        began, stops = time.monotonic(), self._target.stops
        self._steps = []
        outcome, why, avoided = OrderOutcome.WALKED, "", set[int]()
        departure: Departure | None = None
        self._ports.prepare()
        if not self.scenario.is_raised:
            self._spare.set_line(False)
        try:
            self._start(timeout)
            for scheduled in order:
                self._take(scheduled)
        except NotArrived as missing:
            outcome, why = OrderOutcome.INFEASIBLE, missing.what
            cpus = missing.cpus
            if not missing.returned:
                cpus = cpus - self._target.run_freely() if timeout >= ARRIVE_SECONDS else set()
            avoided = {thread for thread, cpu in enumerate(self._cpus) if cpu in cpus}
        except Stuck as stuck:
            outcome, why = OrderOutcome.INFEASIBLE, stuck.what
        except _Mismatch as mismatch:
            outcome, departure = OrderOutcome.MISMATCH, mismatch.departure
        results = self._finish(outcome)
        if outcome is OrderOutcome.INFEASIBLE and None not in results:
            self._ports.close()
        if NOT_TOGETHER in results:
            why, departure = "the operations did not start together within 3 s", None
            outcome = OrderOutcome.INFEASIBLE
        elif outcome is OrderOutcome.WALKED:
            departure = self._wrong_results(order, results)
        elif avoided and any(results[thread] is not None for thread in avoided):
            why, departure = self._avoided(avoided)
        elif None in results:
            departure = replace(departure or Departure(), lost=self._lost(results))
        if departure is not None:
            outcome = OrderOutcome.MISMATCH
            why = "; ".join(filter(None, (why, words.message(departure))))
        return OrderResult(
            outcome,
            why,
            tuple(self._steps),
            results,
            time.monotonic() - began,
            self._target.stops - stops,
            departure,
        )

    # -- before and after the steps --------------------------------------------------------

    def close(self) -> None:
        """Close the ports that are still open."""
        self._ports.close()

    def _start(self, timeout: float) -> None:
        """Start the operations, and bring every thread to its first access."""
        scenario, ports = self.scenario, self._ports
        port = ports.numbers[scenario.lock]
        if self._memory.knows(port):
            self._target.stub.halt()
        else:
            self._target.reader = self._target.halt_in_xen()
        self._target.watch(self._memory.words(port))
        places, values = initial_state(self._system)
        arrived: dict[int, Place] = {}
        for domain in sorted(scenario.domains, reverse=True):  # dom0 forwards the commands to domUs
            self._ports.start(domain)
            threads = [
                n for n, thread in enumerate(scenario.threads) if thread.call.domain == domain
            ]
            cpus = {self._cpus[n]: scenario.threads[n].outer_function for n in threads}
            calls = {cpu: function for cpu, function in cpus.items() if function}
            last = None if scenario.arrives_last is None else self._cpus[scenario.arrives_last]
            arrived |= self._target.arrive(cpus, arrived, calls, last, timeout)
        arrived = self._target.enter_lock_functions(arrived)
        self._places = {thread: arrived[cpu] for thread, cpu in enumerate(self._cpus)}
        count = len(scenario.threads)
        if scenario.interrupt is not None:
            self._places[count] = None
        self._target.reader = self._cpus[0]  # a thread's CPU is in Xen until the last step
        pending = ports.numbers[scenario.pending] if scenario.pending else 0
        tickets = len(self._system.roles) + 1  # as the model counts them
        self._reader = self._memory.variable_reader(port, self._names, pending, tickets)
        if scenario.masked:
            self._memory.mask(port)
        for number, name in enumerate(places[:count]):
            self._expect(number, name)
        _compare(*self._read(values))

    def _finish(self, outcome: OrderOutcome) -> tuple[int | None, ...]:
        """Let all CPUs run; return the threads' results."""
        self._target.unwatch()
        self._target.stub.go()
        self._ports.collect_started()
        if outcome is OrderOutcome.WALKED:
            return self._ports.join_and_renew()
        return self._ports.join()

    def _wrong_results(
        self, order: Interleaving, results: tuple[int | None, ...]
    ) -> Departure | None:
        """Return the first result that differs from the model's; None if none does."""
        if None in results:
            return Departure(lost=self._lost(results))
        final = dict(order[-1].values)
        for thread, result in enumerate(results):
            assert result is not None
            expected = final[f"rc{thread}"]
            if min(result, 0) != expected:
                name = f"the result of {self.scenario.threads[thread].call.verb}"
                return Departure(
                    differences=(Difference(name=name, seen=result, expected=expected),)
                )
        return None

    def _avoided(self, threads: set[int]) -> tuple[str, Departure | None]:
        """Judge that the operations of ``threads`` returned and never took the lock.

        Return why the order cannot be taken, if Xen may do so; else a mismatch.
        """
        departure = Departure(avoided=tuple(self._operation(thread) for thread in sorted(threads)))
        reasons = {self.scenario.threads[thread].early_return for thread in threads}
        if "" in reasons:
            return "", departure
        return f"{words.message(departure)}: {', '.join(reasons)}", None

    def _lost(self, results: tuple[int | None, ...]) -> tuple[Operation, ...]:
        return tuple(self._operation(thread) for thread, each in enumerate(results) if each is None)

    def _operation(self, thread: int) -> Operation:
        call = self.scenario.threads[thread].call
        return Operation(
            domain=call.domain, vcpu=self._cpus[thread], verb=call.verb, arguments=dict(call.ports)
        )

    # -- steps -----------------------------------------------------------------------------

    def _take(self, scheduled: ScheduledStep) -> None:
        """Take one step on the machine, and compare."""
        thread, step = scheduled.thread, scheduled.step
        stays = scheduled.branch is not None and self._is_section(thread, scheduled.then)
        if step.kind is AccessKind.LOCAL:
            self._interrupt(thread)
        elif step.word in LOCK_WORDS:
            self._access(thread, step.kind is not AccessKind.LOAD, stays)
        if self._places[thread] is None and not stays:
            self._places[thread] = self._advance(thread)
        model, machine = self._read(dict(scheduled.values))
        place = self._places[thread]
        where = place.where if place else "under the lock"
        waits = scheduled.branch is None
        self._steps.append(StepResult(thread, step.name, waits, step.xen, model, machine, where))
        if not self._is_section(thread, scheduled.then):
            self._expect(thread, scheduled.then)
        _compare(model, machine)

    def _access(self, thread: int, changes: bool, stays: bool) -> None:
        """Let a thread make the access that it stands before.

        Unless it ``stays`` there, it then runs to its next stop point.
        """
        place = self._places[thread]
        assert place is not None and place.point is not None
        if changes and not stays and place.point.access is not Access.LOAD:
            self._places[thread] = self._target.proceed(
                self._cpu(thread), place, self._return_address(thread)
            )
            return
        self._target.make_access(self._cpu(thread), place)
        self._places[thread] = None
        if changes and place.point.access is Access.LOAD:
            # Xen reads first, and makes the model's atomic access only if that can succeed.
            following = self._advance(thread)
            if following.label == place.label:
                self._target.make_access(self._cpu(thread), following)
            else:
                self._places[thread] = following

    def _cpu(self, thread: int) -> int:
        """Return the CPU of a thread; the interrupt is the last thread, on the CPU of the first."""
        return self._cpus[thread] if thread < len(self._cpus) else self._cpus[0]

    def _advance(self, thread: int) -> Place:
        return self._target.advance(self._cpu(thread), self._return_address(thread))

    def _return_address(self, thread: int) -> int | None:
        """Return the address that the interrupt returns to; None for any other thread."""
        return self._interrupted if thread >= len(self._cpus) else None

    def _interrupt(self, thread: int) -> None:
        """Raise the spare interrupt's line: the CPU takes it before its next instruction."""
        self._interrupted = self._target.pc(self._cpu(thread))
        self._spare.set_line(True)

    def _is_section(self, thread: int, name: str) -> bool:
        if name == DONE:
            return False
        return self._system.roles[thread].program.step(name).word not in LOCK_WORDS

    def _expect(self, thread: int, name: str) -> None:
        """Raise _Mismatch unless the thread stands before the step ``name``."""
        place = self._places[thread]
        assert place is not None
        done, returns = name == DONE, place.point is None
        if done != returns or (not done and name not in place.labels):
            stand = Stand(
                cpu=self._cpu(thread),
                interrupt=thread >= len(self._cpus),
                step=name,
                function=place.point.function if place.point else "",
                where=place.where,
                underflow=self._underflow(thread, name),
            )
            raise _Mismatch(Departure(stand=stand))

    def _underflow(self, thread: int, name: str) -> int | None:
        """If ``thread``, which the model has at ``name``, stands before the release of a read side
        that it did not get, let it go on and return the lock word; else None.

        None as well if the CPU does not get through it: that would hide the mismatch.
        """
        place = self._places[thread]
        if place is None or place.point is None or place.point.function not in _READ_UNLOCKS:
            return None
        program = self._system.roles[thread].program
        if name != DONE and "reading" in program.step(name).tags:
            return None
        try:
            self._target.make_access(self._cpu(thread), place)
        except Stuck:
            return None
        assert self._reader is not None
        machine = self._reader.values()
        return next((machine[word] for word in LOCK_WORDS if word in machine), None)

    def _read(self, values: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
        """Return the variables that are in memory: with the model's ``values``, and as read."""
        assert self._reader is not None
        machine = self._reader.values()
        return {name: values[name] for name in machine}, machine


def _compare(model: Mapping[str, int], machine: Mapping[str, int]) -> None:
    differing = tuple(
        Difference(name=name, seen=machine[name], expected=value)
        for name, value in model.items()
        if machine[name] != value
    )
    if differing:
        raise _Mismatch(Departure(differences=differing))
