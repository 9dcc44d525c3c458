# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a vCPU sleeps in SCHEDOP_poll: seen by what ended the poll, not by how long it took.

do_poll() (xen/common/sched/core.c) returns at once if one of the ports is pending, or if the vCPU
has an event to take.  Otherwise the vCPU sleeps, and a poll without time-out ends with the next
event that the vCPU takes: its kernel's tick, for one.  If it polls several ports, or none, an event
for another vCPU wakes it as well, and then the interrupts of all vCPUs are counted.  So a poll
during which nobody took an interrupt has not slept, however slow the machine is, with exceptions:
the other vCPU takes its interrupt later, or its event came when the poll was just about to sleep.
That is rare, and such a poll takes longer than one that does not sleep.

A poll that returned at once may have met an interrupt all the same.  How often that happens, and
how long a poll takes at least, is seen by polls of the same ports with a time-out in the past:
nothing has to wake them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from harness.agent.wire import Answer

FOREVER, IN_THE_PAST = 0, 1  # time-outs of a poll, in ns of Xen's time
AT_ONCE = 9  # polls in one command: the interrupt that comes of an answer would end the next poll

# If a poll meets no interrupt with probability p, then n polls with a time-out in the past show it
# about n*p times, and so do n polls that return at once.  Less than a quarter of that is a sleep:
# by chance it happens to 30 expected ones in 100,000 cases once, to 8 in 70.
_SURE = 30  # times
_LIKELY = 8  # times, where a sleep is expected anyway
_FEW = 3  # a sleep may have been ended by an event of another vCPU so often
_UNCOUNTED = 0.06  # of the sleeps end so, at most, where events of other vCPUs end one
_QUICK = 4  # times as long as the quicker ones with a time-out in the past
_MOST = 40  # commands of each kind


class _Poll(NamedTuple):
    woken: bool  # by an interrupt, perhaps
    took: int  # ticks


def sleeps(
    ask: Callable[[int], Answer], *, expected: bool = False, others_wake: bool = False
) -> bool | None:
    """Say whether a poll sleeps.

    ``ask`` makes AT_ONCE polls with the time-out that it is given, in ns of Xen's time, and returns
    the agent's answer.  ``expected`` says that a sleep would be no surprise, ``others_wake`` that
    an event for any vCPU of the domain ends one (a poll of one port is not ended so).  Returns None
    when nearly every poll meets an interrupt, sleep or not: the machine is too busy to tell.
    """
    polls: list[_Poll] = []
    others: list[_Poll] = []  # with a time-out in the past
    for _ in range(_MOST):
        polls += _read(ask(FOREVER))
        others += _read(ask(IN_THE_PAST))
        calm = sorted(each.took for each in others if not each.woken)
        if not calm:
            continue
        limit = _QUICK * calm[len(calm) // 4]
        at_once = sum(not each.woken and each.took <= limit for each in polls)
        chance = _UNCOUNTED * len(polls) if others_wake else 0.0
        if at_once > _FEW + chance + 4 * chance**0.5 and 2 * at_once >= len(calm):
            return False
        if 4 * at_once <= len(calm) >= (_LIKELY if expected else _SURE):
            return True
    return None


def _read(answer: Answer) -> list[_Poll]:
    woken, took = answer.integers("woken"), answer.integers("took")
    return [_Poll(bool(w), t) for w, t in zip(woken, took, strict=True)]
