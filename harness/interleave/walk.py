"""Walks one order of a scenario on a real Xen, and compares it with the model after every turn.

A lane stands at a stop point: before the access that the model's thread is about to make.  A turn
of the model lets that one CPU make its access.  What follows under the lock is a turn of its own
where the model says so (the "section"): until then the CPU stays right behind its access.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from harness.agent.client import AgentClient
from harness.agent.wire import AgentRefused, Answer, Arguments, Connection
from harness.interleave.scenarios import EINVAL, SELF, Call, Scenario
from harness.interleave.stops import Access
from harness.interleave.target import Missing, Place, Stuck, Target
from harness.interleave.view import Probe, View
from harness.model.paths import Path, Turn, begin
from harness.model.program import DONE, Kind, System
from harness.verdict import HarnessError

LOCK_WORDS = ("L", "cnts", "qlock", "lock_head", "lock_tail", "elock")
_JOIN_MS = 3000


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

    @property
    def spoilt(self) -> bool:
        """Whether the machine must be replaced: a CPU is lost, or the next one may be."""
        return self.outcome is Outcome.MISMATCH or None in self.results


class _Mismatch(Exception):
    """The machine is not where the model is."""


class _Channels:
    """The ports of a scenario, made anew for every walk.

    Xen gives the lowest free port, so their numbers are the same each time: that saves waiting for
    one answer before the next command, which is most of the time of a short walk.
    """

    def __init__(self, scenario: Scenario, connection: Connection, irq: int) -> None:
        self._scenario = scenario
        self._irq = irq
        self._connection = connection
        self._made = tuple(call.makes for call in scenario.given if call.makes)
        self._ready = False
        self.numbers: dict[str, int] = {}

    def arguments(self, call: Call) -> dict[str, int]:
        """Return the arguments of ``call`` as the agent takes them."""
        named = {key: self.numbers[name] for key, name in call.ports if name}
        remote = {"remote": SELF} if call.verb == "bind_interdomain" else {}
        irq = {call.irq: self._irq} if call.irq else {}
        return remote | irq | named

    def prepare(self) -> None:
        """Make the channels, unless ``turn_over`` has."""
        if self._ready:
            return
        for call in self._scenario.given:
            result = self._connection.ask(call.verb, self.arguments(call))
            if call.makes:
                self.numbers[call.makes] = result.integer("result")
        self._ready = True

    def join(self) -> tuple[int | None, ...]:
        """Return the results of the lanes' operations, which may not come back."""
        joins = self._joins()
        self._connection.post(joins)
        results = tuple(_result(answer) for answer in self._connection.collect(len(joins)))
        self._note(results)
        self._ready = False
        return results

    def turn_over(self) -> tuple[int | None, ...]:
        """The same where all is well; close what is open and make it anew, in one go."""
        lanes, given = self._scenario.lanes, self._scenario.given
        commands = self._joins()
        commands += [("close", {"port": port}) for port in self.numbers.values()]
        commands += [(call.verb, self.arguments(call)) for call in given]
        self._connection.post(commands)
        answers = self._connection.collect(len(commands))
        results = tuple(_result(answer) for answer in answers[: len(lanes)])
        made = answers[len(commands) - len(given) :]
        self._ready = self._note(results) and all(
            answer.ok and (not call.makes or answer.integer("result") == self.numbers[call.makes])
            for call, answer in zip(given, made, strict=True)
        )
        if None not in results and not self._ready:
            self.close()
        return results

    def _joins(self) -> list[tuple[str, Arguments]]:
        lanes = range(len(self._scenario.lanes))
        return [("join", {"on": cpu, "wait_ms": _JOIN_MS}) for cpu in lanes]

    def _note(self, results: tuple[int | None, ...]) -> bool:
        """Note the ports that lanes made; say whether they were known before."""
        known = None not in results
        for lane, result in zip(self._scenario.lanes, results, strict=True):
            name = lane.call.makes
            if name and name not in self._made and result and result > 0:
                known = known and self.numbers.get(name) == result
                self.numbers[name] = result
        return known

    def close(self) -> None:
        """Close every port."""
        self._ready = False
        for port in self.numbers.values():
            try:
                self._connection.ask("close", {"port": port})
            except AgentRefused as error:
                if error.errno != errno.EINVAL:  # closed by a lane
                    raise


class Walker:
    """Walks the orders of one scenario on one machine.  ``view`` reads through ``target``."""

    def __init__(
        self,
        scenario: Scenario,
        system: System,
        target: Target,
        view: View,
        agent: AgentClient,
        irq: int = 0,
    ) -> None:
        self.scenario = scenario
        self._system = system
        self._target = target
        self._view = view
        self._connection = agent.connection
        self._channels = _Channels(scenario, agent.connection, irq)
        unseen = set() if scenario.pending else {"pending"}  # of a port that only a lane will make
        self._names = {variable.name for variable in system.variables} - unseen
        self._places: dict[int, Place | None] = {}  # None: behind its access, in the section
        self._rows: list[Row] = []
        self._probe: Probe | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        """The turns of the latest walk so far."""
        return tuple(self._rows)

    def walk(self, path: Path) -> Walked:
        """Prepare the channel, take ``path``, let everything go and clean up.

        The machine runs before and after.  Raises what a lost agent or stub raises.
        """
        began, stops = time.monotonic(), self._target.stops
        self._rows = []
        outcome, why, avoided = Outcome.WALKED, "", set[int]()
        self._channels.prepare()
        try:
            self._begin()
            for turn in path:
                self._take(turn)
        except Missing as missing:
            outcome, why = Outcome.INFEASIBLE, missing.what
            avoided = missing.cpus - self._target.let_go()
        except Stuck as stuck:
            outcome, why = Outcome.INFEASIBLE, stuck.what
        except _Mismatch as mismatch:
            outcome, why = Outcome.MISMATCH, str(mismatch)
        results = self._end(outcome)
        if outcome is Outcome.INFEASIBLE and None not in results:
            self._channels.close()
        if outcome is Outcome.WALKED:
            why = self._wrong_results(path, results)
            outcome = Outcome.MISMATCH if why else outcome
        elif any(results[cpu] is not None for cpu in avoided):
            outcome, why = self._avoided(avoided)
        elif None in results:
            outcome, why = Outcome.MISMATCH, f"{why}; {self._lost(results)}"
        return Walked(
            outcome,
            why,
            tuple(self._rows),
            results,
            time.monotonic() - began,
            self._target.stops - stops,
        )

    # -- before and after ------------------------------------------------------------------

    def close(self) -> None:
        """Close the ports that are left."""
        self._channels.close()

    def _begin(self) -> None:
        """Bring every lane to its first access."""
        scenario, ports = self.scenario, self._channels
        port = ports.numbers[scenario.lock]
        if self._view.knows(port):
            self._target.stub.halt()
        else:
            self._target.reader = self._target.halt_in_xen()
        self._target.watch(self._view.words(port))
        count = len(scenario.lanes)
        commands: list[tuple[str, Arguments]] = []
        for cpu, lane in enumerate(scenario.lanes):
            words = {"on": cpu, "meet": count, "wait_ms": 0} | ports.arguments(lane.call)
            commands.append((lane.call.verb, words))
        self._connection.post(commands)
        places, values = begin(self._system)
        self._places = dict(self._target.arrive(range(count)))
        self._target.reader = 0  # a lane's, and so in Xen until all is over
        pending = ports.numbers[scenario.pending] if scenario.pending else 0
        tickets = len(scenario.lanes) + 1
        self._probe = self._view.probe(port, self._names, pending, tickets)
        if scenario.masked:
            self._view.mask(port)
        for cpu, name in enumerate(places):
            self._expect(cpu, name)
        _compare(*self._look(values))

    def _end(self, outcome: Outcome) -> tuple[int | None, ...]:
        """Let everything go; return the lanes' results."""
        self._target.unwatch()
        self._target.stub.go()
        self._connection.collect(len(self.scenario.lanes))
        well = outcome is Outcome.WALKED
        return self._channels.turn_over() if well else self._channels.join()

    def _wrong_results(self, path: Path, results: tuple[int | None, ...]) -> str:
        """Return how the operations' results differ from the model's; "" if they do not."""
        if None in results:
            return self._lost(results)
        final = dict(path[-1].values)
        for lane, result in enumerate(results):
            assert result is not None
            if min(result, 0) != final[f"rc{lane}"]:
                return f"{self._lane_name(lane)} returns {result}, not {final[f'rc{lane}']}"
        return ""

    def _avoided(self, cpus: set[int]) -> tuple[Outcome, str]:
        """Say what it means that the operations of ``cpus`` came back without the lock."""
        names = " and ".join(self._lane_name(cpu) for cpu in sorted(cpus))
        what = f"{names} comes back and has never touched the lock"
        excuses = {self.scenario.lanes[cpu].excuse for cpu in cpus}
        if "" in excuses:
            return Outcome.MISMATCH, what
        return Outcome.INFEASIBLE, f"{what}: {', '.join(excuses)}"

    def _lost(self, results: tuple[int | None, ...]) -> str:
        lost = [self._lane_name(cpu) for cpu, result in enumerate(results) if result is None]
        return f"{' and '.join(lost)} never comes back"

    def _lane_name(self, cpu: int) -> str:
        return f"{self.scenario.lanes[cpu].call.verb} on CPU{cpu}"

    # -- turns -----------------------------------------------------------------------------

    def _take(self, turn: Turn) -> None:
        """Take one turn on the machine, and compare."""
        lane, step = turn.thread, turn.step
        if step.word in LOCK_WORDS:
            self._access(lane, step.kind is not Kind.LOAD)
        stays = turn.branch is not None and self._is_section(lane, turn.then)
        if self._places[lane] is None and not stays:
            self._places[lane] = self._target.advance(lane)
        model, machine = self._look(dict(turn.values))
        place = self._places[lane]
        where = place.where if place else "under the lock"
        waited = turn.branch is None
        self._rows.append(Row(lane, step.name, waited, step.xen, model, machine, where))
        if not self._is_section(lane, turn.then):
            self._expect(lane, turn.then)
        _compare(model, machine)

    def _access(self, lane: int, changes: bool) -> None:
        """Let a lane make the access it stands before."""
        place = self._places[lane]
        assert place is not None
        self._target.access(lane, place)
        self._places[lane] = None
        if changes and place.point is not None and place.point.access is Access.LOAD:
            # Xen looks first, and makes the model's atomic access only if it can succeed.
            following = self._target.advance(lane)
            if following.label == place.label:
                self._target.access(lane, following)
            else:
                self._places[lane] = following

    def _is_section(self, lane: int, name: str) -> bool:
        if name == DONE:
            return False
        return self._system.roles[lane].program.step(name).word not in LOCK_WORDS

    def _expect(self, lane: int, name: str) -> None:
        """Raise _Mismatch unless the lane stands where the model has it."""
        place = self._places[lane]
        assert place is not None
        if name == DONE:
            if place.point is not None:
                raise _Mismatch(f"CPU{lane} is done in the model, but stands at {place.where}")
        elif place.point is None:
            raise _Mismatch(f"CPU{lane} goes back to the guest, the model has it at {name!r}")
        elif name not in place.labels:
            raise _Mismatch(f"CPU{lane} stands at {place.where}, the model has it at {name!r}")

    def _look(self, values: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
        """Return the variables that memory shows: in the model (``values``), and there."""
        assert self._probe is not None
        machine = self._probe.values()
        return {name: values[name] for name in machine}, machine


def _compare(model: Mapping[str, int], machine: Mapping[str, int]) -> None:
    differing = [
        f"{name} is {machine[name]}, not {value}"
        for name, value in model.items()
        if machine[name] != value
    ]
    if differing:
        raise _Mismatch(", ".join(differing))


def _result(answer: Answer) -> int | None:
    """Return what an operation returned; None when it has not come back."""
    if answer.ok:
        return answer.integer("result")
    if answer.integer("errno") == errno.ETIME and answer.fields.get("what") == "in-flight":
        return None
    if answer.integer("errno") == errno.EINVAL:
        return EINVAL
    raise HarnessError(f"a lane's operation failed: {dict(answer.fields)}", where="agent")
