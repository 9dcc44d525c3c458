"""The ports of a scenario: made by the guest's agent, anew for every walk."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence

from harness.agent.client import AgentClient
from harness.agent.wire import AgentRefused, Answer, Arguments, Connection
from harness.interleave.scenarios import Call, Scenario
from harness.model.evtchn.abi import DOMID_SELF
from harness.verdict import HarnessError

NOT_MET = -errno.ETIMEDOUT  # the agent's: the lanes' operations did not begin together
_JOIN_MS = 3000


class Channels:
    """The ports of a scenario.

    Xen gives the lowest free port, so their numbers are the same each time: that saves waiting for
    one answer before the next command, which is most of the time of a short walk.
    """

    def __init__(self, scenario: Scenario, agents: Mapping[str, AgentClient], irq: int) -> None:
        """``agents`` are those of the domains, by name; ``irq`` the number of the spare one."""
        self._scenario = scenario
        self._irq = irq
        self._agents = {name: agents[name] for name in scenario.domains}
        self._made = tuple(call.makes for call in scenario.given if call.makes)
        self._ready = False
        self.numbers: dict[str, int] = {}

    def arguments(self, call: Call) -> dict[str, int]:
        """Return the arguments of ``call`` as the agent takes them."""
        named = {key: self.numbers[name] for key, name in call.ports if name}
        remote = {"remote": DOMID_SELF} if call.verb == "bind_interdomain" else {}
        if call.remote:
            remote = {"remote": self._agents[call.remote].domid}
        irq = {call.irq: self._irq} if call.irq else {}
        return remote | irq | named

    def prepare(self) -> None:
        """Make the channels, unless ``turn_over`` has."""
        if self._ready:
            return
        for call in self._scenario.given:
            result = self._connection(call).ask(call.verb, self.arguments(call))
            if call.makes:
                self.numbers[call.makes] = result.integer("result")
        self._ready = True

    def begin(self, domain: str) -> None:
        """Let the agent of ``domain`` begin the operations of its lanes, all at once."""
        lanes = [lane for lane in self._scenario.lanes if lane.call.domain == domain]
        barrier = len(lanes) if len(lanes) > 1 else 0
        commands: list[tuple[str, Arguments]] = []
        for vcpu, lane in enumerate(lanes):
            words = {"on": vcpu, "barrier": barrier, "wait_ms": 0} | self.arguments(lane.call)
            commands.append((lane.call.verb, words))
        self._agents[domain].connection.post(commands)

    def begun(self) -> None:
        """Take the answers to ``begin``, of every domain that was let begin."""
        for domain, agent in self._agents.items():
            if agent.connection.posted:
                lanes = [lane for lane in self._scenario.lanes if lane.call.domain == domain]
                agent.connection.collect(len(lanes))

    def join(self) -> tuple[int | None, ...]:
        """Return the results of the lanes' operations, which may not come back."""
        results: list[int | None] = []
        for lane, words in zip(self._scenario.lanes, self._joins(), strict=True):
            connection = self._connection(lane.call)
            connection.post([words])
            results.append(_result(connection.collect(1)[0]))
        self._note(results)
        self._ready = False
        return tuple(results)

    def turn_over(self) -> tuple[int | None, ...]:
        """The same where all is well; close what is open and make it anew, in one go if only one
        agent has to do it."""
        if len(self._agents) > 1:
            joined = self.join()
            if None not in joined:
                self.close()
            return joined
        lanes, given = self._scenario.lanes, self._scenario.given
        (connection,) = (agent.connection for agent in self._agents.values())
        commands = self._joins()
        commands += [("close", {"port": port}) for port in self.numbers.values()]
        commands += [(call.verb, self.arguments(call)) for call in given]
        connection.post(commands)
        answers = connection.collect(len(commands))
        results = tuple(_result(answer) for answer in answers[: len(lanes)])
        made = answers[len(commands) - len(given) :]
        self._ready = self._note(results) and all(
            answer.ok and (not call.makes or answer.integer("result") == self.numbers[call.makes])
            for call, answer in zip(given, made, strict=True)
        )
        if None not in results and not self._ready:
            self.close()
        return results

    def _connection(self, call: Call) -> Connection:
        return self._agents[call.domain].connection

    def _joins(self) -> list[tuple[str, Arguments]]:
        return [
            ("join", {"on": self._scenario.vcpu(lane), "wait_ms": _JOIN_MS})
            for lane in range(len(self._scenario.lanes))
        ]

    def _note(self, results: Sequence[int | None]) -> bool:
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
        for name, port in self.numbers.items():
            agent = self._agents[self._scenario.owner(name)]
            try:
                agent.connection.ask("close", {"port": port})
            except AgentRefused as error:
                if error.errno != errno.EINVAL:  # closed by a lane
                    raise


def _result(answer: Answer) -> int | None:
    """Return what an operation returned; None when it has not come back."""
    if answer.ok:
        return answer.integer("result")
    if answer.integer("errno") == errno.ETIME and answer.fields.get("what") == "in-flight":
        return None
    if answer.integer("errno") in (errno.EINVAL, errno.ETIMEDOUT):
        return -answer.integer("errno")
    raise HarnessError(f"a lane's operation failed: {dict(answer.fields)}", where="agent")
