# SPDX-License-Identifier: GPL-2.0-or-later
"""The ports of a scenario, made by the guests' agents, which also start its operations."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence

from harness.agent.client import AgentClient
from harness.agent.wire import AgentRefused, Answer, Arguments, Connection
from harness.interleave.scenarios import Scenario
from harness.interleave.threads import Call
from harness.model.evtchn.abi import DOMID_SELF
from harness.verdict import HarnessError

NOT_TOGETHER = -errno.ETIMEDOUT  # from the agent: the operations did not all start in time
_JOIN_MS = 3000


class ScenarioPorts:
    """The ports of a scenario, by the scenario's names for them.

    Xen gives the lowest free port, so the numbers are the same each time.  Therefore many commands
    can be sent before the first answer comes: waiting for it is most of the time of a short order.
    """

    def __init__(self, scenario: Scenario, agents: Mapping[str, AgentClient], irq: int) -> None:
        """``agents``: by domain name; ``irq``: the number of the spare interrupt, or 0."""
        self._scenario = scenario
        self._irq = irq
        self._agents = {name: agents[name] for name in scenario.domains}
        self._made = tuple(call.new_port for call in scenario.setup if call.new_port)
        self._ready = False
        self.numbers: dict[str, int] = {}

    def arguments(self, call: Call) -> dict[str, int]:
        """Return the arguments of ``call`` as the agent takes them."""
        ports = {key: self.numbers[name] for key, name in call.ports if name}
        remote = {"remote": DOMID_SELF} if call.verb == "bind_interdomain" else {}
        if call.remote:
            remote = {"remote": self._agents[call.remote].domid}
        irq = {call.irq: self._irq} if call.irq else {}
        return dict(call.numbers) | remote | irq | ports

    def prepare(self) -> None:
        """Make the calls of the scenario's setup, unless ``join_and_renew`` has made them."""
        if self._ready:
            return
        for call in self._scenario.setup:
            result = self._connection(call).ask(call.verb, self.arguments(call))
            if call.new_port:
                self.numbers[call.new_port] = result.integer("result")
        self._ready = True

    def start(self, domain: str, lags_ns: Sequence[int] = ()) -> None:
        """Tell the agent of ``domain`` to start its threads' operations, all at the same time, or
        by thread so many ns later."""
        threads = [each for each in self._scenario.threads if each.call.domain == domain]
        barrier = len(threads) if len(threads) > 1 else 0
        commands: list[tuple[str, Arguments]] = []
        for vcpu, thread in enumerate(threads):
            words = {"on": vcpu, "barrier": barrier, "wait_ms": 0} | self.arguments(thread.call)
            if lags_ns:
                words["lag_ns"] = lags_ns[vcpu]
            commands.append((thread.call.verb, words))
        self._agents[domain].connection.post(commands)

    def collect_started(self) -> None:
        """Receive the answers to ``start`` from every domain for which it was called."""
        for domain, agent in self._agents.items():
            if agent.connection.posted:
                threads = [each for each in self._scenario.threads if each.call.domain == domain]
                agent.connection.collect(len(threads))

    def join(self) -> tuple[int | None, ...]:
        """Wait for the threads' operations; return their results, None for one that does not
        return within 3 s."""
        results: list[int | None] = []
        for thread, words in zip(self._scenario.threads, self._joins(), strict=True):
            connection = self._connection(thread.call)
            connection.post([words])
            results.append(_result(connection.collect(1)[0]))
        self._note(results)
        self._ready = False
        return tuple(results)

    def join_and_renew(self) -> tuple[int | None, ...]:
        """Do what ``join`` does, then close the ports and make the calls of the setup again.

        All of it is one exchange with the agent, if only one agent takes part.
        """
        if len(self._agents) > 1:
            joined = self.join()
            if None not in joined:
                self.close()
            return joined
        threads, setup = self._scenario.threads, self._scenario.setup
        (connection,) = (agent.connection for agent in self._agents.values())
        commands = self._joins()
        commands += [("close", {"port": port}) for port in self.numbers.values()]
        commands += [(call.verb, self.arguments(call)) for call in setup]
        connection.post(commands)
        answers = connection.collect(len(commands))
        results = tuple(_result(answer) for answer in answers[: len(threads)])
        made = answers[len(commands) - len(setup) :]
        self._ready = self._note(results) and all(
            answer.ok
            and (not call.new_port or answer.integer("result") == self.numbers[call.new_port])
            for call, answer in zip(setup, made, strict=True)
        )
        if None not in results and not self._ready:
            self.close()
        return results

    def close(self) -> None:
        """Close every port."""
        self._ready = False
        for name, port in self.numbers.items():
            agent = self._agents[self._scenario.owner(name)]
            try:
                agent.connection.ask("close", {"port": port})
            except AgentRefused as error:
                if error.errno != errno.EINVAL:  # a thread of the scenario has closed it
                    raise

    def _connection(self, call: Call) -> Connection:
        return self._agents[call.domain].connection

    def _joins(self) -> list[tuple[str, Arguments]]:
        return [
            ("join", {"on": self._scenario.vcpu(thread), "wait_ms": _JOIN_MS})
            for thread in range(len(self._scenario.threads))
        ]

    def _note(self, results: Sequence[int | None]) -> bool:
        """Note the numbers of the ports that threads made; return whether they are as before."""
        same = None not in results
        for thread, result in zip(self._scenario.threads, results, strict=True):
            name = thread.call.new_port
            if name and name not in self._made and result and result > 0:
                same = same and self.numbers.get(name) == result
                self.numbers[name] = result
        return same


def _result(answer: Answer) -> int | None:
    """Return the result of an operation; None if it has not returned yet."""
    if answer.ok:
        return answer.integer("result")
    if answer.integer("errno") == errno.ETIME and answer.fields.get("what") == "in-flight":
        return None
    if answer.integer("errno") in (errno.EINVAL, errno.ETIMEDOUT):
        return -answer.integer("errno")
    raise HarnessError(f"an operation of the scenario failed: {dict(answer.fields)}", where="agent")
