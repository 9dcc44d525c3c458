"""Walks one order of a scenario on a real Xen, and compares it with the model after every turn.

A lane stands at a stop point: before the access that the model's thread is about to make.  A turn
of the model lets that one CPU make its access.  What follows under the lock is a turn of its own
where the model says so (the "section"): until then the CPU stays right behind its access.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from harness.agent.client import AgentClient
from harness.evidence import Departure, Difference, Evidence, Operation, Stand, words
from harness.interleave.channels import NOT_MET, Channels
from harness.interleave.scenarios import DOM0, Scenario
from harness.interleave.stops import Access
from harness.interleave.target import ARRIVE_SECONDS, Missing, Place, Stuck, Target
from harness.interleave.view import Probe, View
from harness.model.explore.interleavings import Interleaving, ScheduledStep, initial_state
from harness.model.explore.program import DONE, AccessKind, System

LOCK_WORDS = ("L", "cnts", "qlock", "lock_head", "lock_tail", "elock")


class Outcome(StrEnum):
    """What became of a schedule."""

    WALKED = "walked"  # every step as the model has it
    INFEASIBLE = "infeasible"  # the machine cannot take this order
    MISMATCH = "mismatch"  # the machine did something else than the model


@dataclass(frozen=True)
class Row:
    """One turn, model and machine side by side."""

    lane: int
    step: str  # the model's
    waited: bool
    xen: str
    model: Mapping[str, int]
    machine: Mapping[str, int]
    where: str  # where the CPU stands afterwards


@dataclass(frozen=True)
class Walked:
    """A schedule, and what became of it."""

    outcome: Outcome
    why: str  # "" when it was walked
    rows: tuple[Row, ...]
    results: tuple[int | None, ...]  # of the lanes' operations; None: did not come back
    seconds: float
    stops: int
    evidence: Evidence | None = None  # of a mismatch

    @property
    def spoilt(self) -> bool:
        """Whether the machine must be replaced: a CPU is lost, or the next one may be."""
        return self.outcome is Outcome.MISMATCH or None in self.results


class _Mismatch(Exception):
    """The machine is not where the model is, as ``seen`` tells."""

    def __init__(self, seen: Departure) -> None:
        super().__init__(words.message(seen))
        self.seen = seen


@dataclass(frozen=True)
class Spare:
    """The machine's spare interrupt: its number (0: there is none), and what sets its line."""

    number: int = 0
    line: Callable[[bool], object] = bool


class Walker:
    """Walks the orders of one scenario on one machine.  ``view`` reads through ``target``."""

    def __init__(
        self,
        scenario: Scenario,
        system: System,
        target: Target,
        view: View,
        agents: Mapping[str, AgentClient],
        vcpus: int,
        spare: Spare,
    ) -> None:
        """``vcpus`` of dom0 are pinned to as many CPUs; the rest are domUs'."""
        self.scenario = scenario
        self._system = system
        self._target = target
        self._view = view
        self._cpus = [
            scenario.vcpu(number) + (vcpus if lane.call.domain != DOM0 else 0)
            for number, lane in enumerate(scenario.lanes)
        ]
        self._channels = Channels(scenario, agents, spare.number)
        self._spare = spare
        self._interrupted = 0  # where the interrupt has come, and goes back to
        unseen = set() if scenario.pending else {"pending"}  # of a port that only a lane will make
        self._names = {variable.name for variable in system.variables} - unseen
        self._places: dict[int, Place | None] = {}  # None: behind its access, in the section
        self._rows: list[Row] = []
        self._probe: Probe | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        """The turns of the latest walk so far."""
        return tuple(self._rows)

    def walk(self, path: Interleaving, patience: float = ARRIVE_SECONDS) -> Walked:
        """Prepare the channel, take ``path``, let everything go and clean up.

        ``patience``: how long the lanes may take to come to the lock.  Who gives up earlier than
        after ARRIVE_SECONDS must try again: nothing is concluded from a lane that does not come.
        The machine runs before and after.  Raises what a lost agent or stub raises.
        """
        began, stops = time.monotonic(), self._target.stops
        self._rows = []
        outcome, why, avoided = Outcome.WALKED, "", set[int]()
        seen: Departure | None = None
        self._channels.prepare()
        if self.scenario.interrupt is not None:
            self._spare.line(False)
        try:
            self._begin(patience)
            for turn in path:
                self._take(turn)
        except Missing as missing:
            outcome, why = Outcome.INFEASIBLE, missing.what
            cpus = missing.cpus
            if not missing.back:
                cpus = cpus - self._target.let_go() if patience >= ARRIVE_SECONDS else set()
            avoided = {lane for lane, cpu in enumerate(self._cpus) if cpu in cpus}
        except Stuck as stuck:
            outcome, why = Outcome.INFEASIBLE, stuck.what
        except _Mismatch as mismatch:
            outcome, seen = Outcome.MISMATCH, mismatch.seen
        results = self._end(outcome)
        if outcome is Outcome.INFEASIBLE and None not in results:
            self._channels.close()
        if NOT_MET in results:
            why, seen = "the operations did not begin together within 3 s", None
            outcome = Outcome.INFEASIBLE
        elif outcome is Outcome.WALKED:
            seen = self._wrong_results(path, results)
        elif avoided and any(results[lane] is not None for lane in avoided):
            why, seen = self._avoided(avoided)
        elif None in results:
            seen = replace(seen or Departure(), lost=self._lost(results))
        if seen is not None:
            outcome, why = Outcome.MISMATCH, "; ".join(filter(None, (why, words.message(seen))))
        return Walked(
            outcome,
            why,
            tuple(self._rows),
            results,
            time.monotonic() - began,
            self._target.stops - stops,
            seen,
        )

    # -- before and after ------------------------------------------------------------------

    def close(self) -> None:
        """Close the ports that are left."""
        self._channels.close()

    def _begin(self, patience: float) -> None:
        """Bring every lane to its first access."""
        scenario, ports = self.scenario, self._channels
        port = ports.numbers[scenario.lock]
        if self._view.knows(port):
            self._target.stub.halt()
        else:
            self._target.reader = self._target.halt_in_xen()
        self._target.watch(self._view.words(port))
        places, values = initial_state(self._system)
        arrived: dict[int, Place] = {}
        for domain in sorted(scenario.domains, reverse=True):  # dom0 passes on what domUs are told
            self._channels.begin(domain)
            lanes = [n for n, lane in enumerate(scenario.lanes) if lane.call.domain == domain]
            cpus = {self._cpus[lane]: scenario.lanes[lane].whole for lane in lanes}
            calls = {cpu: whole for cpu, whole in cpus.items() if whole}
            last = None if scenario.last is None else self._cpus[scenario.last]
            arrived |= self._target.arrive(cpus, arrived, calls, last, patience)
        arrived = self._target.settle(arrived)
        self._places = {lane: arrived[cpu] for lane, cpu in enumerate(self._cpus)}
        count = len(scenario.lanes)
        if scenario.interrupt is not None:
            self._places[count] = None
        self._target.reader = self._cpus[0]  # a lane's, and so in Xen until all is over
        pending = ports.numbers[scenario.pending] if scenario.pending else 0
        tickets = len(self._system.roles) + 1  # as the model counts them
        self._probe = self._view.probe(port, self._names, pending, tickets)
        if scenario.masked:
            self._view.mask(port)
        for number, name in enumerate(places[:count]):
            self._expect(number, name)
        _compare(*self._look(values))

    def _end(self, outcome: Outcome) -> tuple[int | None, ...]:
        """Let everything go; return the lanes' results."""
        self._target.unwatch()
        self._target.stub.go()
        self._channels.begun()
        well = outcome is Outcome.WALKED
        return self._channels.turn_over() if well else self._channels.join()

    def _wrong_results(
        self, path: Interleaving, results: tuple[int | None, ...]
    ) -> Departure | None:
        """Return how the operations' results differ from the model's; None if they do not."""
        if None in results:
            return Departure(lost=self._lost(results))
        final = dict(path[-1].values)
        for lane, result in enumerate(results):
            assert result is not None
            expected = final[f"rc{lane}"]
            if min(result, 0) != expected:
                name = f"the result of {self.scenario.lanes[lane].call.verb}"
                return Departure(
                    differences=(Difference(name=name, seen=result, expected=expected),)
                )
        return None

    def _avoided(self, lanes: set[int]) -> tuple[str, Departure | None]:
        """Return what it means that the operations of ``lanes`` came back without the lock: why
        the order cannot be taken, or a mismatch."""
        seen = Departure(avoided=tuple(self._operation(lane) for lane in sorted(lanes)))
        excuses = {self.scenario.lanes[lane].excuse for lane in lanes}
        if "" in excuses:
            return "", seen
        return f"{words.message(seen)}: {', '.join(excuses)}", None

    def _lost(self, results: tuple[int | None, ...]) -> tuple[Operation, ...]:
        return tuple(self._operation(lane) for lane, each in enumerate(results) if each is None)

    def _operation(self, lane: int) -> Operation:
        call = self.scenario.lanes[lane].call
        return Operation(
            domain=call.domain, vcpu=self._cpus[lane], verb=call.verb, arguments=dict(call.ports)
        )

    # -- turns -----------------------------------------------------------------------------

    def _take(self, turn: ScheduledStep) -> None:
        """Take one turn on the machine, and compare."""
        lane, step = turn.thread, turn.step
        stays = turn.branch is not None and self._is_section(lane, turn.then)
        if step.kind is AccessKind.LOCAL:
            self._interrupt(lane)
        elif step.word in LOCK_WORDS:
            self._access(lane, step.kind is not AccessKind.LOAD, stays)
        if self._places[lane] is None and not stays:
            self._places[lane] = self._advance(lane)
        model, machine = self._look(dict(turn.values))
        place = self._places[lane]
        where = place.where if place else "under the lock"
        waited = turn.branch is None
        self._rows.append(Row(lane, step.name, waited, step.xen, model, machine, where))
        if not self._is_section(lane, turn.then):
            self._expect(lane, turn.then)
        _compare(model, machine)

    def _access(self, lane: int, changes: bool, stays: bool) -> None:
        """Let a lane make the access it stands before, and go on unless it ``stays``."""
        place = self._places[lane]
        assert place is not None and place.point is not None
        if changes and not stays and place.point.access is not Access.LOAD:
            self._places[lane] = self._target.proceed(self._cpu(lane), place, self._back(lane))
            return
        self._target.access(self._cpu(lane), place)
        self._places[lane] = None
        if changes and place.point.access is Access.LOAD:
            # Xen looks first, and makes the model's atomic access only if it can succeed.
            following = self._advance(lane)
            if following.label == place.label:
                self._target.access(self._cpu(lane), following)
            else:
                self._places[lane] = following

    def _cpu(self, lane: int) -> int:
        """Return the CPU of a lane; the interrupt, after the others, comes to the first."""
        return self._cpus[lane] if lane < len(self._cpus) else self._cpus[0]

    def _advance(self, lane: int) -> Place:
        return self._target.advance(self._cpu(lane), self._back(lane))

    def _back(self, lane: int) -> int | None:
        """Return where the interrupt goes back to; None for any other lane."""
        return self._interrupted if lane >= len(self._cpus) else None

    def _interrupt(self, lane: int) -> None:
        """Raise the spare interrupt's line: the CPU takes it before its next instruction."""
        self._interrupted = self._target.pc(self._cpu(lane))
        self._spare.line(True)

    def _is_section(self, lane: int, name: str) -> bool:
        if name == DONE:
            return False
        return self._system.roles[lane].program.step(name).word not in LOCK_WORDS

    def _expect(self, lane: int, name: str) -> None:
        """Raise _Mismatch unless the lane stands where the model has it."""
        place = self._places[lane]
        assert place is not None
        done, back = name == DONE, place.point is None
        if done != back or (not done and name not in place.labels):
            raise _Mismatch(
                Departure(
                    stand=Stand(
                        cpu=self._cpu(lane),
                        interrupt=lane >= len(self._cpus),
                        step=name,
                        function=place.point.function if place.point else "",
                        where=place.where,
                    )
                )
            )

    def _look(self, values: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
        """Return the variables that memory shows: in the model (``values``), and there."""
        assert self._probe is not None
        machine = self._probe.values()
        return {name: values[name] for name in machine}, machine


def _compare(model: Mapping[str, int], machine: Mapping[str, int]) -> None:
    differing = tuple(
        Difference(name=name, seen=machine[name], expected=value)
        for name, value in model.items()
        if machine[name] != value
    )
    if differing:
        raise _Mismatch(Departure(differences=differing))
