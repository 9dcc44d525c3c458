# SPDX-License-Identifier: GPL-2.0-or-later
"""SCHEDOP_poll as the model sees it: its answer, and whether the vCPU slept."""

from __future__ import annotations

from collections.abc import Set

from harness.agent.client import AgentClient
from harness.agent.polls import AT_ONCE, IN_THE_PAST, sleeps
from harness.agent.wire import AgentRefused, Answer
from harness.conformance.hypercalls import Observed, call, observed
from harness.model.evtchn.operations import Poll
from harness.verdict import LabError


class Undecided(LabError):
    """The machine is too busy to decide whether a poll slept."""


def observe_poll(agent: AgentClient, operation: Poll, timeout: int, allowed: Set[bool]) -> Observed:
    """Have ``agent`` make the SCHEDOP_poll ``operation``; find out whether its vCPU slept.

    ``timeout`` is in ns of Xen's time; with IN_THE_PAST, only the answer is looked at.  ``allowed``
    says what the model allows: True, that the vCPU sleeps; False, that the poll returns at once.
    It polls many times (harness.agent.polls).  Raises Undecided on a machine that is too busy.
    """
    verb, arguments = call(operation)

    def ask(timeout: int, times: int = AT_ONCE) -> Answer:
        return agent.connection.ask(verb, {**arguments, "timeout": timeout, "times": times})

    try:
        if timeout == IN_THE_PAST:
            return observed(operation, ask(IN_THE_PAST, times=1))
        others_wake = len(operation.ports) != 1
        slept = sleeps(ask, expected=True in allowed, others_wake=others_wake)
    except AgentRefused as error:
        return observed(operation, error.answer)
    if slept is None:
        raise Undecided(
            f"cannot tell whether a poll of {operation.ports} sleeps: its vCPU takes an interrupt "
            "during nearly every poll",
            where=agent.name,
        )
    return Observed(0, blocked=slept)
