# SPDX-License-Identifier: GPL-2.0-or-later
"""Many operations of the bare guest in one message, judged as operations are one by one.

The model runs ahead: where it allows one state after an operation, it is known what there will be
to look at then, and in which state the next operation will be made.  So the operations are written
down first.  The guest makes them all without a word from us; then the model goes back to where it
was, and judges each answer as it comes.

    plan = Plan(bare)
    plan.begin()
    while plan.add(operation):
        ...
    plan.run()  # Disagreement, as if each had been made alone

An operation that changes something outside of the guest cannot be planned: another agent has to
look at that before the next operation is made.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from harness.agent.wire import AgentRefused, Answer, Arguments
from harness.conformance.bare import Bare, Take, after_upcall, cleared, expected_events
from harness.conformance.guest import StateQuery
from harness.conformance.hypercalls import Observed, call, observed
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.domain import World
from harness.model.evtchn.operations import Consume, Mask, Operation, Poll, Reset
from harness.model.evtchn.outcome import AllowedOutcome, existing_domain
from harness.model.evtchn.predict import predict
from harness.verdict import HarnessError

_COMMANDS = 250  # of one message: their text fits into the guest's ring of 16 KiB
# Of a poll that is made once: if it lasts half of this, its vCPU has slept.  A vCPU that lost its
# CPU for as long in a poll that returned at once seems to have slept, too: see NotAsPlanned.
_GIVE_UP_US = 1000

_Command = tuple[str, Arguments]


class NotAsPlanned(Exception):
    """A poll that was made once does not show what the model expects: that does not prove it wrong.

    The operations have to be made again one by one; then a poll is made many times.
    """


@dataclass(frozen=True)
class _Step:
    """A command, what tells of it, what judges its answer, and what looks at its effect."""

    command: _Command
    text: str
    judge: Callable[[Answer], object]
    operation: Operation | None = None  # of the queries
    queries: Sequence[StateQuery] = ()


class Plan:
    """Operations of a bare guest that wait to be made.

    While operations are added, the model's world is the one after them.  ``run`` goes back to the
    world in which the first was added.
    """

    def __init__(self, bare: Bare) -> None:
        self._bare = bare
        self._model = bare.domains.model
        self._begun = self._model.world
        self._steps: list[_Step] = []
        self._commands = 0

    def begin(self) -> bool:
        """Add what ``Bare.begin`` does; see ``add``."""
        if not self._add_operation(Reset(self._bare.domid, DOMID_SELF), compare=False):
            return False
        self._append(_Step(("clear_2l", {}), "clear 2L", self._cleared), self._world_cleared())
        return True

    def add(self, operation: Operation | Take) -> bool:
        """Add ``operation``; False, and nothing is added, if it has to be made alone.

        Makes those that were added before, if they fill a message; raises as ``run`` does.
        """
        if isinstance(operation, Take):
            self._add_take(operation.vcpu)
            return True
        return self._add_operation(operation)

    def run(self) -> None:
        """Make the operations that were added, and judge them.

        Raises Disagreement as ``Domains.do`` does; the model then has the world after all of them,
        because all have been made.  Raises NotAsPlanned, and what an agent raises.
        """
        steps, self._steps, self._commands = self._steps, [], 0
        if not steps:
            return
        ahead, self._model.world = self._model.world, self._begun
        commands = [
            command
            for step in steps
            for command in (step.command, *((each.verb, each.arguments) for each in step.queries))
        ]
        try:
            with closing(self._bare.agent.connection.stream(commands)) as answers:
                for step in steps:
                    self._judge(step, answers)
        except BaseException:
            self._model.world = ahead
            raise

    def _judge(self, step: _Step, answers: Generator[Answer]) -> None:
        step.judge(self._next(step, answers))
        if step.operation is not None:
            with self._model.effect_of(step.operation):
                for each in step.queries:
                    each.check(self._next(step, answers))

    def _next(self, step: _Step, answers: Generator[Answer]) -> Answer:
        try:
            return next(answers)
        except HarnessError as error:
            error.after(self._model.story(), f"{step.text} -> ?")
            raise

    def _add_operation(self, operation: Operation, *, compare: bool = True) -> bool:
        bare, model = self._bare, self._model
        outcomes = model.expected(operation)
        after = bare.domains.only_world_after(outcomes)
        if after is None or self._others_differ(model.world, after):
            return False
        command = _command(operation)
        there = after.domain(bare.domid)
        asked = bare.state_queries(bare.now, there) if compare and there is not None else []

        def judge(answer: Answer) -> None:
            model.judge(operation, _seen(operation, answer, outcomes), outcomes)
            model.world = after

        self._append(_Step(command, model.describe(operation), judge, operation, asked), after)
        return True

    def _add_take(self, vcpu: int) -> None:
        bare, world = self._bare, self._model.world
        for port in expected_events(bare.now, vcpu):
            world = predict(world, Consume(bare.domid, port))[0].world
        idle = after_upcall(existing_domain(world, bare.domid), vcpu)
        step = _Step(
            ("handle_upcall", {"vcpu": vcpu}),
            f"{bare.name}: take the events of vCPU {vcpu}",
            lambda answer: bare.taken(vcpu, self._good(answer).integers("ports")),
        )
        self._append(step, world.with_domain(idle))

    def _append(self, step: _Step, after: World) -> None:
        count = 1 + len(step.queries)
        if self._commands + count > _COMMANDS:
            self.run()
        if not self._steps:
            self._begun = self._model.world
        self._steps.append(step)
        self._commands += count
        self._model.world = after

    def _others_differ(self, before: World, after: World) -> bool:
        """Say whether a port of another domain has changed."""
        pairs = zip(before.domains, after.domains, strict=True)
        return any(
            old is not new and old.domid != self._bare.domid and old.ports != new.ports
            for old, new in pairs
        )

    def _cleared(self, answer: Answer) -> None:
        self._good(answer)
        self._model.world = self._world_cleared()

    def _world_cleared(self) -> World:
        return self._model.world.with_domain(cleared(self._bare.now))

    def _good(self, answer: Answer) -> Answer:
        if not answer.ok:
            raise AgentRefused(self._bare.name, "a planned command", answer)
        return answer


def _command(operation: Operation) -> _Command:
    if isinstance(operation, Mask):
        return "mask", {"port": operation.port}
    verb, arguments = call(operation)
    if isinstance(operation, Poll):
        arguments = {**arguments, "times": 1, "give_up_us": _GIVE_UP_US}
    return verb, arguments


def _seen(operation: Operation, answer: Answer, outcomes: Sequence[AllowedOutcome]) -> Observed:
    """Return what ``answer`` says of ``operation``; NotAsPlanned if a poll could be clearer."""
    seen = observed(operation, answer)
    if isinstance(operation, Poll) and answer.ok:
        seen = Observed(0, blocked=bool(answer.integer("woken")))
        if not any(seen.fits(outcome.result) for outcome in outcomes):
            raise NotAsPlanned
    return seen
