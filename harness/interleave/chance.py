"""Scenarios by chance, where no debugger can hold a CPU still: on servers, and under KVM.

The Xen is a test build (``images/xen/delays.patch``) in which CPUs dawdle where they are about to
touch a channel's lock.  In a round all lanes are let go at once, over and over; how a round ends,
the results of the lanes and the state of the port, must be one of the ends that the model has.
Which orders were taken nobody sees: the ends that were met say what the rounds are worth.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.agent.wire import OperationInFlight
from harness.arch import Arch
from harness.evidence import InFlight
from harness.interleave.channels import NOT_MET, Channels
from harness.interleave.scenarios import FREE, INTERDOMAIN, PIRQ, UNBOUND, Scenario
from harness.model.evtchn.abi import ChannelState
from harness.model.explore import interleavings
from harness.run.session import Session

# What EVTCHNOP_status tells -> the states of the model's scenarios.
_STATES: dict[int, int] = {
    ChannelState.CLOSED: FREE,
    ChannelState.UNBOUND: UNBOUND,
    ChannelState.INTERDOMAIN: INTERDOMAIN,
    ChannelState.PIRQ: PIRQ,
}
_LATE_SECONDS = 60.0  # without a round in which the lanes met


@dataclass(frozen=True, order=True)
class End:
    """How a round ended."""

    results: tuple[int, ...]  # by lane: 0, or -errno
    state: int  # of the port whose lock is under test

    @property
    def state_name(self) -> str:
        """The state, in Xen's word."""
        names = {FREE: "FREE", UNBOUND: "UNBOUND", INTERDOMAIN: "INTERDOMAIN", PIRQ: "PIRQ"}
        return names.get(self.state, str(self.state))

    def __str__(self) -> str:
        return f"results {', '.join(map(str, self.results))}; {self.state_name}"


@dataclass
class Rounds:
    """What rounds of a scenario showed."""

    model: frozenset[End]  # the ends there can be
    ends: Counter[End] = field(default_factory=Counter)
    apart: int = 0  # rounds that say nothing: the lanes did not begin together
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """Rounds in which the lanes met."""
        return self.ends.total()

    @property
    def all(self) -> list[End]:
        """The ends that the model has, and those that there were."""
        return sorted(self.model | set(self.ends))

    @property
    def wrong(self) -> list[End]:
        """The ends that the model does not have."""
        return sorted(set(self.ends) - self.model)


def possible(scenario: Scenario) -> bool:
    """Say whether agents alone can do ``scenario``: interrupts at a given moment they cannot."""
    calls = (*scenario.given, *(lane.call for lane in scenario.lanes))
    return scenario.interrupt is None and not any(call.irq for call in calls)


def ends(scenario: Scenario, design: str, arch: Arch) -> frozenset[End]:
    """Return the ends that ``scenario`` can have."""
    lanes = range(len(scenario.lanes))
    finals = [dict(final) for final in interleavings.final_values(scenario.system(design, arch))]
    return frozenset(End(tuple(v[f"rc{lane}"] for lane in lanes), v["state"]) for v in finals)


def run_rounds(
    live: Session, scenario: Scenario, count: int, into: Rounds, notice: Callable[[int], None]
) -> None:
    """Run ``count`` rounds of ``scenario``, counted in ``into`` even when they end early.

    OperationInFlight when a lane does not come back; what a lost agent raises.
    """
    began, met = time.monotonic(), time.monotonic()
    channels = Channels(scenario, live.agents, 0)
    while into.done < count and time.monotonic() - met < _LATE_SECONDS:
        channels.prepare()
        for domain in scenario.domains:
            channels.begin(domain)
        channels.begun()
        results = channels.join()
        if None in results:
            lost = scenario.lanes[results.index(None)].call
            late = InFlight(domain=lost.domain, verb=lost.verb, arguments={})
            raise OperationInFlight(late, where=lost.domain)
        if NOT_MET in results:
            into.apart += 1
        else:
            answers = tuple(min(result, 0) for result in results if result is not None)
            into.ends[End(answers, _state(live, channels, scenario))] += 1
            met = time.monotonic()
        channels.close()
        into.seconds = time.monotonic() - began
        notice(into.done)


def _state(live: Session, channels: Channels, scenario: Scenario) -> int:
    """Return the state of the port under test, as its owner's agent is told."""
    agent = live.agents[scenario.owner(scenario.lock)]
    told = agent.connection.ask("status", {"port": channels.numbers[scenario.lock]})
    return _STATES[told.integer("state")]
