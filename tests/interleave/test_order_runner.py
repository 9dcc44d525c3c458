# SPDX-License-Identifier: GPL-2.0-or-later
"""The runner of orders, on a simulated machine that behaves like the model, or like another one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from harness.agent.wire import Answer
from harness.arch import Arch
from harness.evidence import Departure
from harness.interleave.order_runner import (
    LOCK_WORDS,
    OrderOutcome,
    OrderResult,
    OrderRunner,
    SpareInterrupt,
)
from harness.interleave.scenarios import SCENARIOS, Scenario
from harness.interleave.stop_points import Access, StopPoint
from harness.interleave.target import ARRIVE_SECONDS, NotArrived, Place, Stuck
from harness.model.explore.formula import compile_numpy
from harness.model.explore.interleavings import (
    Interleaving,
    formula_values,
    initial_state,
    interleavings,
)
from harness.model.explore.program import (
    DONE,
    AccessKind,
    AtomicStep,
    Branch,
    Program,
    System,
)
from harness.model.lock.locks import LOCKS
from harness.model.lock.mutants import MUTANTS, edited


class Machine:
    """CPUs that run the programs of ``system``, in place of harness.interleave.target.Target."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.stops = 0
        self.has_domu = False
        self.stub = SimpleNamespace(halt=lambda: None, go=lambda: None)
        self.reset()

    def reset(self) -> None:
        places, values = initial_state(self.system)
        self.places, self.values = list(places), dict(values)

    def watch(self, words: object) -> None:
        self.reset()

    def unwatch(self) -> None: ...

    def run_freely(self) -> set[int]:
        return set()

    def step(self, cpu: int) -> AtomicStep:
        return self.system.roles[cpu].program.step(self.places[cpu])

    def place(self, cpu: int) -> Place:
        if self.places[cpu] == DONE:
            return Place(None, "out")
        step = self.step(cpu)
        function = "evtchn_read_unlock" if "reading" in step.tags else "f"
        point = StopPoint(0, 0, step.name, Access.RMW, "", 0, function, "f")
        return Place(point, f"f+{self.places[cpu]}")

    def enter_lock_functions(self, places: dict[int, Place]) -> dict[int, Place]:
        return places

    def arrive(
        self, cpus: Iterable[int], frozen: object, calls: object, last: object, timeout: float
    ) -> dict[int, Place]:
        places = {cpu: self.advance(cpu) for cpu in cpus}
        missing = {cpu for cpu, place in places.items() if place.point is None}
        if missing:
            raise NotArrived(missing, timeout)
        return places

    def thread(self, cpu: int) -> int:
        """Return the thread of ``cpu``: a domU's is the first, its CPU comes after dom0's two."""
        return cpu if not self.has_domu else {2: 0, 0: 1}[cpu]

    def make_access(self, cpu: int, place: Place) -> None:
        cpu = self.thread(cpu)
        if self.values.get("irq"):
            cpu = len(self.places) - 1  # of the interrupt, on the first thread's CPU
        assert self.step(cpu).word in LOCK_WORDS
        self.take(cpu)

    def pc(self, cpu: int) -> int:
        return 0

    def advance(self, cpu: int, until: int | None = None) -> Place:
        self.stops += 1
        cpu = self.thread(cpu)
        if until is not None:
            cpu = len(self.places) - 1
            if self.places[cpu] != DONE and self.step(cpu).kind is AccessKind.LOCAL:
                self.take(cpu)
        while self.places[cpu] != DONE and self.step(cpu).word not in LOCK_WORDS:
            self.take(cpu)
        return self.place(cpu)

    def proceed(self, cpu: int, place: Place, until: int | None = None) -> Place:
        self.make_access(cpu, place)
        return self.advance(cpu, until)

    def take(self, cpu: int) -> None:
        now = formula_values(self.system, self.places, self.values)
        for branch in self.step(cpu).branches:
            if not branch.when or compile_numpy(branch.when)(now):
                for name, added in branch.adds:
                    self.values[name] += self.system.constant(added)
                self.values.update(branch.sets)
                self.places[cpu] = branch.then
                return
        # it reads, and has to wait

    def finish(self) -> list[int | None]:
        """Let all run on, in turn, until nothing changes; return what their operations return."""
        for _ in range(100):
            for cpu, place in enumerate(self.places):
                if place != DONE:
                    self.take(cpu)
        return [
            self.values.get(f"rc{cpu}", 0) if place == DONE else None
            for cpu, place in enumerate(self.places)
        ]


class Agent:
    """In a Machine, the agent of one domain, and its channels in Xen's memory."""

    domid = 3

    def __init__(self, machine: Machine, scenario: Scenario, domain: str) -> None:
        self.machine, self.scenario, self.domain = machine, scenario, domain
        self.connection = self
        self._posted: list[tuple[str, Mapping[str, Any]]] = []

    @property
    def posted(self) -> bool:
        return bool(self._posted)

    def ask(self, verb: str, arguments: Mapping[str, Any]) -> Answer:
        return Answer(True, {"result": "7"})

    def post(self, commands: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        assert not self._posted
        self._posted = list(commands)

    def collect(self, count: int) -> list[Answer]:
        assert count == len(self._posted)
        answers = []
        for verb, arguments in self._posted:
            if verb == "join":
                results = self.machine.finish()
                answers.append(self._joined(results[self._thread(arguments["on"])]))
            else:
                answers.append(Answer(True, {"result": "7"}))
        self._posted = []
        return answers

    def _thread(self, vcpu: int) -> int:
        return next(
            number
            for number, thread in enumerate(self.scenario.threads)
            if (thread.call.domain, self.scenario.vcpu(number)) == (self.domain, vcpu)
        )

    def _joined(self, result: int | None) -> Answer:
        if result is None:
            return Answer(False, {"errno": "62", "what": "in-flight"})
        if result < 0:
            return Answer(False, {"errno": str(-result)})
        return Answer(True, {"result": str(result)})

    def words(self, port: int) -> None: ...

    def knows(self, port: int) -> bool:
        return True

    def mask(self, port: int) -> None: ...

    def variable_reader(self, port: int, names: set[str], pending: int, tickets: int) -> Any:
        for variable in self.machine.system.variables:
            if variable.name == "lock_tail":
                assert tickets == variable.high + 1, "counted as the model counts"
        shown = [name for name in names if not name.startswith("rc")]
        return SimpleNamespace(values=lambda: {n: self.machine.values[n] for n in shown})


def force(
    scenario: Scenario,
    model: System,
    machine: System,
    orders: Iterable[Interleaving],
    timeout: float = ARRIVE_SECONDS,
) -> list[OrderResult]:
    simulated: Any = Machine(machine)
    agents: Any = {domain: Agent(simulated, scenario, domain) for domain in scenario.domains}
    simulated.has_domu = "domu1" in agents
    memory = agents[scenario.domains[0]]
    runner = OrderRunner(scenario, model, simulated, memory, agents, 2, SpareInterrupt())
    return [runner.run(order, timeout) for order in orders]


def system(name: str, design: str) -> System:
    return SCENARIOS[name].system(design, Arch.X86_64)


@pytest.mark.slow
@pytest.mark.parametrize("design", LOCKS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_machine_like_the_model_takes_every_order(name: str, design: str) -> None:
    model = system(name, design)
    orders = list(interleavings(model, waits=True, preemptions=2))
    for result in force(SCENARIOS[name], model, model, orders):
        assert (result.outcome, result.why) == (OrderOutcome.WALKED, "")
        assert all(step.model == step.machine for step in result.steps)
        assert not result.needs_restore


def mutated(model: System, name: str) -> System:
    """The same system with a mutant's edits of the counter."""
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)

    def program(made: Program) -> Program:
        writes = any(step.name == "claim" for step in made.steps)
        inside = made.step("spin" if writes else "add").branches[0].then
        return edited(made, mutant.write if writes else mutant.read, inside)

    roles = tuple(replace(role, program=program(role.program)) for role in model.roles)
    constants = (*model.constants, ("H", dict(model.constants)["W"] // 2))
    return replace(model, roles=roles, constants=constants)


@pytest.mark.parametrize(
    "mutant",
    ["no-wait", "ge-for-eq", "no-second-test", "no-undo", "unlock-twice", "unlock-never",
     "increment-first", "write-unlock-one", "half-writer"],
)  # fmt: skip
def test_a_mutant_is_told_from_the_model(mutant: str) -> None:
    model = system("send-close", "counter")
    orders = list(interleavings(model, waits=True))
    seen = force(SCENARIOS["send-close"], model, mutated(model, mutant), orders)
    bad = [result for result in seen if result.outcome is OrderOutcome.MISMATCH]
    assert bad
    assert all(result.why for result in bad)


def test_a_reader_that_stays_in_wedges_the_writer() -> None:
    model = system("send-close", "counter")
    orders = list(interleavings(model))
    seen = force(SCENARIOS["send-close"], model, mutated(model, "unlock-never"), orders)
    assert any(None in result.results and "never comes back" in result.why for result in seen)


@pytest.mark.parametrize("refused", ["read", "undo"])
def test_a_release_of_what_was_not_taken_is_told_as_that(refused: str) -> None:
    """The defect masked-underflow of the lock's first posting, by both ways to be refused."""
    model = system("masked-close", "counter")
    reader = model.roles[1].program
    releases = [
        replace(
            step,
            branches=tuple(
                replace(b, then="leave", sets=()) if step.name == refused and _gives_up(b) else b
                for b in step.branches
            ),
        )
        for step in reader.steps
    ]
    faulty = replace(model.roles[1], program=replace(reader, steps=tuple(releases)))
    machine = replace(model, roles=(model.roles[0], faulty))
    orders = list(interleavings(model, waits=True))
    seen = force(SCENARIOS["masked-close"], model, machine, orders)
    bad = [result for result in seen if result.outcome is OrderOutcome.MISMATCH]
    assert bad and any(result.outcome is OrderOutcome.WALKED for result in seen)
    for result in bad:
        assert result.why.startswith(
            "CPU1 releases a read side that it did not get, at f+leave: lock word = "
        ), result.why
        assert isinstance(result.evidence, Departure) and result.evidence.stand is not None
        assert result.evidence.stand.underflow is not None


def test_a_release_that_cannot_be_taken_hides_no_mismatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that is stuck makes an order infeasible, which is no fault of Xen's."""
    model = system("send-close", "counter")
    order = next(iter(interleavings(model)))
    simulated: Any = Machine(model)
    scenario = SCENARIOS["send-close"]
    agents: Any = {domain: Agent(simulated, scenario, domain) for domain in scenario.domains}
    runner = OrderRunner(scenario, model, simulated, agents["dom0"], agents, 2, SpareInterrupt())
    runner.run(order)

    def stuck(cpu: int, place: Place) -> None:
        raise Stuck("CPU0 waits")

    monkeypatch.setattr(simulated, "make_access", stuck)
    point = StopPoint(0, 0, "leave", Access.RMW, "", 0, "evtchn_read_unlock", "f")
    runner._places[0] = Place(point, "f+leave")
    assert runner._underflow(0, DONE) is None


def _gives_up(branch: Branch) -> bool:
    return branch.when in ("u(L) >= W", "")


def test_two_flavours_are_told_apart() -> None:
    model = system("unmask-bind", "counter")  # insists
    machine = system("unmask-bind", "counter-v2")  # gives up
    orders = list(interleavings(model, waits=True))
    seen = force(SCENARIOS["unmask-bind"], model, machine, orders)
    whys = {result.why for result in seen if result.outcome is OrderOutcome.MISMATCH}
    assert whys == {
        "CPU0 goes back to the guest, the model has it at 'again'",
        "CPU0 goes back to the guest, the model has it at 'read'",
    }
    assert any(result.outcome is OrderOutcome.WALKED for result in seen)


def test_what_does_not_come_in_time_is_infeasible(monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck(self: Machine, cpu: int) -> Place:
        raise Stuck(f"CPU{cpu} waits")

    model = system("send-close", "counter")
    order = next(interleavings(model))
    monkeypatch.setattr(Machine, "arrive", lambda self, *_: stuck(self, 0))
    (result,) = force(SCENARIOS["send-close"], model, model, [order])
    assert (result.outcome, result.why, result.steps) == (OrderOutcome.INFEASIBLE, "CPU0 waits", ())


def test_a_thread_that_never_touches_the_lock() -> None:
    model = system("send-close", "counter")
    lost = replace(model.roles[1].program, steps=(AtomicStep("claim", *_nothing(model)),))
    machine = replace(model, roles=(model.roles[0], replace(model.roles[1], program=lost)))
    (result,) = force(SCENARIOS["send-close"], model, machine, [next(interleavings(model))])
    assert result.outcome is OrderOutcome.MISMATCH
    assert result.why == "close on CPU1 comes back and has never touched the lock"
    (hasty,) = force(SCENARIOS["send-close"], model, machine, [next(interleavings(model))], 0.4)
    assert hasty.outcome is OrderOutcome.INFEASIBLE  # with more time it may still come
    assert hasty.why == "CPU1 did not come to the lock within 0.4 s"


def _nothing(model: System) -> tuple[Any, ...]:
    """A step that touches no lock."""
    claim = model.roles[1].program.step("claim")
    return claim.kind, "state", (replace(claim.branches[0], when="", then=DONE, adds=()),), ""
