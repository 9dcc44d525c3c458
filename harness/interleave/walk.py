"""Walks one order of a scenario on a real Xen, and compares it with the model after every turn.

A lane stands at a stop point: before the access that the model's thread is about to make.  A turn
of the model lets that one CPU make its access.  What follows under the lock is a turn of its own
where the model says so (the "section"): until then the CPU stays right behind its access.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from harness.agent.client import AgentClient
from harness.agent.wire import AgentRefused, Answer, Arguments
from harness.interleave.scenarios import EINVAL, SELF, Call, Scenario
from harness.interleave.stops import Access
from harness.interleave.target import Place, Stuck, Target
from harness.interleave.view import Probe, View
from harness.model.paths import Path, Turn, begin
from harness.model.program import DONE, Kind, System
from harness.verdict import HarnessError

LOCK_WORDS = ("L", "cnts", "qlock", "lock", "elock")
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
    def wedged(self) -> bool:
        """Whether a CPU is lost for good: the machine must be replaced."""
        return None in self.results


class _Mismatch(Exception):
    """The machine is not where the model is."""


@dataclass
class _Ports:
    numbers: dict[str, int] = field(default_factory=dict)

    def arguments(self, call: Call) -> dict[str, int]:
        """Return the arguments of ``call`` as the agent takes them."""
        named = {key: self.numbers[name] for key, name in call.ports if name}
        return dict(call.numbers) | named


class Walker:
    """Walks the orders of one scenario on one machine.  ``view`` reads through ``target``."""

    def __init__(
        self, scenario: Scenario, system: System, target: Target, view: View, agent: AgentClient
    ) -> None:
        self.scenario = scenario
        self._system = system
        self._target = target
        self._view = view
        self._agent = agent
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
        outcome, why = Outcome.WALKED, ""
        ports = self._prepare()
        try:
            self._begin(ports)
            for turn in path:
                self._take(turn)
        except Stuck as stuck:
            outcome, why = Outcome.INFEASIBLE, stuck.what
        except _Mismatch as mismatch:
            outcome, why = Outcome.MISMATCH, str(mismatch)
        results = self._end(ports)
        if outcome is Outcome.WALKED:
            why = self._wrong_results(path, results)
            outcome = Outcome.MISMATCH if why else outcome
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

    def _prepare(self) -> _Ports:
        ports = _Ports()
        for call in self.scenario.given:
            arguments = {"remote": SELF} if call.verb == "bind_interdomain" else {}
            result = self._agent.connection.ask(call.verb, arguments | ports.arguments(call))
            if call.makes:
                ports.numbers[call.makes] = result.integer("result")
        return ports

    def _begin(self, ports: _Ports) -> None:
        """Bring every lane to its first access."""
        scenario = self.scenario
        port = ports.numbers[scenario.lock]
        self._target.stub.halt()
        self._target.watch(self._view.words(port))
        pending = ports.numbers[scenario.pending] if scenario.pending else 0
        self._probe = self._view.probe(port, self._names, pending)
        if scenario.masked:
            self._view.mask(port)
        count = len(scenario.lanes)
        commands: list[tuple[str, Arguments]] = []
        for cpu, lane in enumerate(scenario.lanes):
            words = {"on": cpu, "meet": count, "wait_ms": 0} | ports.arguments(lane.call)
            commands.append((lane.call.verb, words))
        self._agent.connection.post(commands)
        places, values = begin(self._system)
        self._places = dict(self._target.arrive(range(count)))
        self._target.watch_exit()
        self._check({name: values[name] for name in self._names})
        for cpu, name in enumerate(places):
            self._expect(cpu, name)

    def _end(self, ports: _Ports) -> tuple[int | None, ...]:
        """Let everything go; return the lanes' results and close the ports that are left."""
        self._target.unwatch()
        self._target.stub.go()
        self._agent.connection.collect(len(self.scenario.lanes))
        results = tuple(self._join(cpu) for cpu in range(len(self.scenario.lanes)))
        if None not in results:
            for lane, result in zip(self.scenario.lanes, results, strict=True):
                if lane.call.makes and result is not None and result > 0:
                    ports.numbers[lane.call.makes] = result
            for port in ports.numbers.values():
                self._close(port)
        return results

    def _join(self, cpu: int) -> int | None:
        words = {"on": cpu, "wait_ms": _JOIN_MS}
        self._agent.connection.post([("join", words)])
        return _result(self._agent.connection.collect(1)[0])

    def _close(self, port: int) -> None:
        try:
            self._agent.connection.ask("close", {"port": port})
        except AgentRefused as error:
            if error.errno != errno.EINVAL:  # closed by a lane
                raise

    def _wrong_results(self, path: Path, results: tuple[int | None, ...]) -> str:
        """Return how the operations' results differ from the model's; "" if they do not."""
        if None in results:
            return self._lost(results)
        final = dict(path[-1].values)
        for lane, result in enumerate(results):
            assert result is not None
            if min(result, 0) != final[f"rc{lane}"]:
                name = self.scenario.lanes[lane].call.verb
                return f"{name} on CPU{lane} returns {result}, not {final[f'rc{lane}']}"
        return ""

    def _lost(self, results: tuple[int | None, ...]) -> str:
        lost = [
            f"{lane.call.verb} on CPU{cpu}"
            for cpu, (lane, result) in enumerate(zip(self.scenario.lanes, results, strict=True))
            if result is None
        ]
        return f"{' and '.join(lost)} never comes back"

    # -- turns -----------------------------------------------------------------------------

    def _take(self, turn: Turn) -> None:
        """Take one turn on the machine, and compare."""
        lane, step = turn.thread, turn.step
        if step.word in LOCK_WORDS:
            self._access(lane, step.kind is not Kind.LOAD)
        if turn.branch is None or not self._is_section(lane, turn.then):
            if self._places[lane] is None:
                self._places[lane] = self._target.advance(lane)
            self._expect(lane, turn.then)
        model = {name: value for name, value in turn.values if name in self._names}
        self._check(model, turn)

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

    def _check(self, model: Mapping[str, int], turn: Turn | None = None) -> None:
        """Compare the variables; keep the turn as a row."""
        assert self._probe is not None
        machine = self._probe.values()
        shown = {name: model[name] for name in machine}
        if turn is not None:
            place = self._places[turn.thread]
            self._rows.append(
                Row(
                    turn.thread,
                    turn.step.name,
                    turn.branch is None,
                    turn.step.xen,
                    shown,
                    machine,
                    place.where if place else "under the lock",
                )
            )
        if machine != shown:
            differing = [
                f"{name} is {machine[name]}, not {value}"
                for name, value in shown.items()
                if machine[name] != value
            ]
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
