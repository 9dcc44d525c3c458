# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a vCPU slept in SCHEDOP_poll: seen by the time that the poll took."""

from __future__ import annotations

import statistics
import time
from collections.abc import Set

from harness.agent.client import AgentClient
from harness.conformance.hypercalls import IN_THE_PAST, Observed, call, observed
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.operations import Poll, Status
from harness.verdict import LabError

_POLLS = 9  # in one command: the interrupt that comes of an answer would end the next poll
# If the median lies between these, the time alone does not decide.  Measured: 0.006 to 0.07 ms for
# a poll that returned at once, 1.2 to 68 ms for one that slept.
_UNSURE = (0.2e-3, 0.9e-3)  # seconds
# Then it is compared with another hypercall on the same vCPU: a poll that slept takes more than
# _ASLEEP times as long (measured: 20 and more), one that returned at once less than _AT_ONCE
# times as long (measured: 1 to 2).
_ASLEEP, _AT_ONCE = 10, 4
_FEW_PORTS = 8  # a poll of more ports takes Xen so long that it looks like a sleep
# A result that the model does not allow is measured again after each of these times, in seconds:
# somebody may have taken the CPU away (20 ms were measured).
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.0)


class Undecided(LabError):
    """The machine is too busy to decide whether a poll slept."""


def observe_poll(agent: AgentClient, operation: Poll, timeout: int, allowed: Set[bool]) -> Observed:
    """Have ``agent`` make the SCHEDOP_poll ``operation``; find out whether its vCPU slept.

    ``timeout`` is in ns of Xen's time (FOREVER: none).  ``allowed`` says what the model allows:
    True, that the vCPU sleeps; False, that the poll returns at once.  It polls many times, because
    any event of the guest's own ends a sleep: its tick, for one.  A result that the model does not
    allow is measured again before it counts.  Raises Undecided when the times do not tell.
    """
    timed = timeout != IN_THE_PAST and len(operation.ports) <= _FEW_PORTS
    verb, arguments = call(operation)
    words = {**arguments, "timeout": timeout, "times": _POLLS if timed else 1}
    ticks: list[int] = []
    for pause in _PAUSES:
        answer = agent.connection.attempt(verb, words)
        if not answer.ok or not timed:
            return observed(operation, answer)
        ticks += answer.integers("took")
        took = statistics.median(ticks) / agent.info.tick_hz
        by_time = False if took <= _UNSURE[0] else True if took >= _UNSURE[1] else None
        if by_time in allowed:
            return Observed(0, blocked=bool(by_time), median_s=took)
        share = took / _hypercall_seconds(agent, operation.vcpu)  # a slow machine slows both down
        slept = True if share > _ASLEEP else False if share < _AT_ONCE else None
        fits = slept in allowed and (slept or True not in allowed)
        if fits or (slept is not None and slept is by_time and not pause):
            return Observed(0, blocked=bool(slept), median_s=took)
        time.sleep(pause)
    raise Undecided(
        f"cannot tell whether a poll of {operation.ports} sleeps: it takes {took * 1e6:.0f} us",
        where=agent.name,
    )


def _hypercall_seconds(agent: AgentClient, vcpu: int) -> float:
    """Return how many seconds a hypercall takes that does nothing (the median of some).

    It is made on the same vCPU, because another may be faster (measured: ten times, in a bare
    guest).
    """
    verb, arguments = call(Status(agent.domid, DOMID_SELF, 0))
    words = {**arguments, "on": vcpu}
    answers = agent.connection.attempt_all([(verb, words)] * _POLLS)
    ticks = [answer.integer("ret") - answer.integer("call") for answer in answers]
    return max(1, statistics.median(ticks)) / agent.info.tick_hz
