# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of a programme of two vCPUs that shows something, made shorter.

An order comes by chance.  So what is left is made many times one after the other, each time from a
reset on and with other delays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.conformance.shortest import shortest
from harness.fuzz.orders import Unexplained
from harness.fuzz.programme import Flag, Step, What

_STEPS_AT_ONCE = 5000  # of the programme that the repetitions make
_MOST_TIMES = 200

Both = tuple[tuple[Step, ...], tuple[Step, ...]]


@dataclass(frozen=True)
class _Item:
    """A step, and where it is made."""

    round: int
    vcpu: int
    step: Step


def section(both: Both, at: tuple[int, int]) -> Both:
    """Return what both vCPUs make up to their steps ``at``, from the last reset before them on."""
    ends = both[0][: at[0] + 1], both[1][: at[1] + 1]
    first, second = (between_meetings(part) for part in ends)
    last = max(len(first), len(second)) - 1
    begin, step = _last_reset(first)
    first = [*first[begin:], *[()] * (last + 1 - len(first))]
    second = [*second[begin:], *[()] * (last + 1 - len(second))]
    first[0] = first[0][step:]
    second[0] = ()  # it has waited
    return _joined(first), _joined(second)


def times(both: Both) -> int:
    """Return how many times ``both`` can be made one after the other in one programme."""
    if not both[1]:
        return 1
    steps = len(both[0]) + len(both[1]) + 2
    return max(1, min(_MOST_TIMES, _STEPS_AT_ONCE // steps))


def shortest_both(both: Both, shows: Callable[[Both], bool], enough: Callable[[], bool]) -> None:
    """Leave out steps of ``both`` as long as what is left ``shows`` the same; the search ends when
    there has been ``enough`` of it.  The last of which that was true is the result."""

    def items_show(items: Sequence[_Item]) -> bool:
        left = _of_items(items)
        return bool(left[0]) and left[0][0].what == What.BEGIN and shows(left)

    shortest(_items(both), items_show, enough=enough)


def last_steps(both: Both, wrong: Unexplained, *, from_meeting: bool = True) -> tuple[int, int]:
    """Return the last step of each side in ``both`` of the round that is ``wrong``.

    ``from_meeting``: the rounds do not have what vCPU 0 makes until its first meeting.
    """
    meets = next((i for i, step in enumerate(both[0]) if step.what == What.MEET), len(both[0]))
    meets *= from_meeting
    ends = [wrong.round.steps[0].stop + meets, wrong.round.steps[1].stop]
    if wrong.step is not None and wrong.step.vcpu == 0:
        made = wrong.round.made[0].index(wrong.step)
        # Of what was made, delays are left out.
        steps = range(wrong.round.steps[0].start + meets, ends[0])
        ends[0] = [at for at in steps if both[0][at].what != What.DELAY][made] + 1
    return ends[0] - 1, ends[1] - 1


def simpler(step: Step) -> list[Step]:
    """Return ``step`` with less about it, the simplest first."""
    found = []
    for flag in (Flag.FAULT_IN, Flag.FAULT_OUT, Flag.BAD_FRAME):
        if step.flags & flag:
            found.append(step._replace(flags=step.flags & ~flag))
    if step.what == What.POLL and step.number > 1:
        found.append(step._replace(number=1, value=0, flags=step.flags & ~Flag.VALUE_OF_SLOT))
    if step.what in _FREE_VALUES and step.value and not step.flags & Flag.VALUE_OF_SLOT:
        found.append(step._replace(value=0))
    return found


_FREE_VALUES = frozenset({What.BIND_VCPU, What.SET_PRIORITY, What.BIND_IPI, What.INIT_CONTROL})


def _items(both: Both) -> list[_Item]:
    parts = [between_meetings(part) for part in both]
    rounds = range(max(map(len, parts)))
    return [
        _Item(number, vcpu, step)
        for number in rounds
        for vcpu in range(2)
        if number < len(parts[vcpu])
        for step in parts[vcpu][number]
    ]


def _of_items(items: Sequence[_Item]) -> Both:
    """Return the steps of both vCPUs; a round of which nothing is left needs no meeting."""
    rounds = sorted({item.round for item in items})
    parts = [
        [tuple(i.step for i in items if (i.round, i.vcpu) == (number, vcpu)) for number in rounds]
        for vcpu in range(2)
    ]
    return _joined(parts[0]), _joined(parts[1])


def _last_reset(rounds: Sequence[tuple[Step, ...]]) -> tuple[int, int]:
    """Return the last round that has a reset, and where in it that is."""
    for number in reversed(range(len(rounds))):
        resets = [at for at, step in enumerate(rounds[number]) if step.what == What.BEGIN]
        if resets:
            return number, resets[-1]
    raise ValueError("a programme begins with a reset")


def between_meetings(steps: Sequence[Step]) -> list[tuple[Step, ...]]:
    """Return ``steps`` from meeting to meeting, without the meetings."""
    parts: list[list[Step]] = [[]]
    for step in steps:
        if step.what == What.MEET:
            parts.append([])
        else:
            parts[-1].append(step)
    return [tuple(part) for part in parts]


def _joined(rounds: Sequence[tuple[Step, ...]]) -> tuple[Step, ...]:
    steps = list(rounds[0])
    for part in rounds[1:]:
        steps += [Step(int(What.MEET)), *part]
    return tuple(steps)
