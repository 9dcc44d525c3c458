"""The ports of a scenario: made by the guest's agent, anew for every walk."""

from __future__ import annotations

import errno

from harness.agent.wire import AgentRefused, Answer, Arguments, Connection
from harness.interleave.scenarios import EINVAL, SELF, Call, Scenario
from harness.verdict import HarnessError

_JOIN_MS = 3000


class Channels:
    """The ports of a scenario.

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


def _result(answer: Answer) -> int | None:
    """Return what an operation returned; None when it has not come back."""
    if answer.ok:
        return answer.integer("result")
    if answer.integer("errno") == errno.ETIME and answer.fields.get("what") == "in-flight":
        return None
    if answer.integer("errno") == errno.EINVAL:
        return EINVAL
    raise HarnessError(f"a lane's operation failed: {dict(answer.fields)}", where="agent")
