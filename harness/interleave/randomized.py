# SPDX-License-Identifier: GPL-2.0-or-later
"""Randomized rounds: for servers and KVM, where no debugger can hold a CPU still.

Xen is a test build (``images/xen/delays.patch``): a CPU that is about to access a channel's lock
first waits for a random time.  In each round the threads of a scenario start together, each with a
lag of its own: who comes first to a lock of the domain is else decided by how long an operation
takes to get there, and one order may never occur.  The end of the round - the results of the
operations and the state of the port - must be one that the model allows.  Nobody sees in which
order the steps were taken; how many of the allowed ends occurred tells how much the rounds have
covered.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.agent.wire import OperationInFlight
from harness.arch import Arch
from harness.evidence import InFlight
from harness.interleave.ports import NOT_TOGETHER, ScenarioPorts
from harness.interleave.scenarios import Scenario
from harness.interleave.threads import FREE, INTERDOMAIN, PIRQ, UNBOUND
from harness.model.evtchn.abi import ChannelState
from harness.model.explore import interleavings
from harness.run.session import Session

# State that EVTCHNOP_status returns -> state of the model's scenarios.
_STATES: dict[int, int] = {
    ChannelState.CLOSED: FREE,
    ChannelState.UNBOUND: UNBOUND,
    ChannelState.INTERDOMAIN: INTERDOMAIN,
    ChannelState.PIRQ: PIRQ,
}
# The rounds end early when in none of them, for so long, the threads started together.
_GIVE_UP_SECONDS = 60.0
# The longest lags of a thread: from less than an operation takes on a server to what it takes on an
# emulated CPU.
_LAGS_NS = (1, 300, 3_000, 30_000)


@dataclass(frozen=True, order=True)
class RoundEnd:
    """How a round ended."""

    results: tuple[int, ...]  # by thread: 0, or -errno
    state: int  # of the port whose lock is under test

    @property
    def state_name(self) -> str:
        """The state, as Xen names it without ECS_."""
        names = {FREE: "FREE", UNBOUND: "UNBOUND", INTERDOMAIN: "INTERDOMAIN", PIRQ: "PIRQ"}
        return names.get(self.state, str(self.state))

    def __str__(self) -> str:
        return f"results {', '.join(map(str, self.results))}; {self.state_name}"


@dataclass
class Rounds:
    """How the rounds of one scenario ended."""

    allowed: frozenset[RoundEnd]  # the ends of all orders of the model
    counts: Counter[RoundEnd] = field(default_factory=Counter)
    not_together: int = 0  # rounds that are not counted: the threads did not start together
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """Number of rounds in which the threads started together."""
        return self.counts.total()

    @property
    def ends(self) -> list[RoundEnd]:
        """The ends that the model allows, and those that occurred."""
        return sorted(self.allowed | set(self.counts))

    @property
    def forbidden(self) -> list[RoundEnd]:
        """The ends that occurred and that the model does not allow."""
        return sorted(set(self.counts) - self.allowed)


def needs_no_debugger(scenario: Scenario) -> bool:
    """Return whether the agents alone can run ``scenario``.

    They cannot raise an interrupt at a chosen moment.
    """
    calls = (*scenario.setup, *(thread.call for thread in scenario.threads))
    return scenario.interrupt is None and not any(call.irq for call in calls)


def allowed_ends(scenario: Scenario, design: str, arch: Arch) -> frozenset[RoundEnd]:
    """Return the ends of all orders that the model of lock ``design`` has of ``scenario``."""
    threads = range(len(scenario.threads))
    finals = [dict(final) for final in interleavings.final_values(scenario.system(design, arch))]
    return frozenset(RoundEnd(tuple(v[f"rc{n}"] for n in threads), v["state"]) for v in finals)


def run_rounds(
    live: Session, scenario: Scenario, count: int, rounds: Rounds, notice: Callable[[int], None]
) -> None:
    """Run ``count`` rounds of ``scenario`` and count them in ``rounds``, one by one, so that the
    counts are right even when an exception ends the rounds early.

    Raise OperationInFlight when an operation does not return, and what a lost agent raises.
    """
    began, latest = time.monotonic(), time.monotonic()
    lags = random.Random(live.plan.seed)
    ports = ScenarioPorts(scenario, live.agents, 0)
    while rounds.done < count and time.monotonic() - latest < _GIVE_UP_SECONDS:
        ports.prepare()
        for domain in scenario.domains:
            ports.start(domain, [_lag(lags) for _ in scenario.threads])
        ports.collect_started()
        results = ports.join()
        if None in results:
            lost = scenario.threads[results.index(None)].call
            late = InFlight(domain=lost.domain, verb=lost.verb, arguments={})
            raise OperationInFlight(late, where=lost.domain)
        if NOT_TOGETHER in results:
            rounds.not_together += 1
        else:
            answers = tuple(min(result, 0) for result in results if result is not None)
            rounds.counts[RoundEnd(answers, _state(live, ports, scenario))] += 1
            latest = time.monotonic()
        ports.close()
        rounds.seconds = time.monotonic() - began
        notice(rounds.done)


def _lag(lags: random.Random) -> int:
    """Return a random lag in ns, of a random scale."""
    return lags.randrange(lags.choice(_LAGS_NS))


def _state(live: Session, ports: ScenarioPorts, scenario: Scenario) -> int:
    """Ask the agent of the domain that owns the port under test for the port's state."""
    agent = live.agents[scenario.owner(scenario.lock)]
    answer = agent.connection.ask("status", {"port": ports.numbers[scenario.lock]})
    return _STATES[answer.integer("state")]
