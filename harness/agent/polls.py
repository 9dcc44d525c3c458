# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a vCPU sleeps in SCHEDOP_poll: seen by what ended the poll, not by how long it took.

do_poll() (xen/common/sched/core.c) returns at once if one of the ports is pending, or if the vCPU
has an event to take.  Otherwise the vCPU sleeps, and a poll without time-out ends with the next
event that the vCPU takes: its kernel's tick, for one.  So a poll during which the vCPU took no
interrupt has not slept, however slow the machine is.  A poll that returned at once may have met an
interrupt all the same.  How often that happens, is seen by polls of the same ports with a time-out
in the past: these take as long, and nothing has to wake them.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.agent.wire import Answer

FOREVER, IN_THE_PAST = 0, 1  # time-outs of a poll, in ns of Xen's time
AT_ONCE = 9  # polls in one command: the interrupt that comes of an answer would end the next poll

# If a poll meets no interrupt with probability p, then n polls with a time-out in the past show it
# n*p times, and n polls that return at once all hide it with (1-p)**n, about exp(-n*p).
_SURE = 12  # times: 6 in 1,000,000
_LIKELY = 5  # times, where a sleep is expected anyway
_MOST = 40  # commands of each kind


def sleeps(ask: Callable[[int], Answer], *, expected: bool = False) -> bool | None:
    """Say whether a poll sleeps.

    ``ask`` makes AT_ONCE polls with the time-out that it is given, in ns of Xen's time, and returns
    the agent's answer.  ``expected`` says that a sleep would be no surprise.  Returns None when
    nearly every poll meets an interrupt, sleep or not: the machine is too busy to tell.
    """
    undisturbed = 0
    for _ in range(_MOST):
        if 0 in ask(FOREVER).integers("woken"):
            return False
        undisturbed += ask(IN_THE_PAST).integers("woken").count(0)
        if undisturbed >= (_LIKELY if expected else _SURE):
            return True
    return None
