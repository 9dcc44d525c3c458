# SPDX-License-Identifier: GPL-2.0-or-later
"""A shorter sequence that shows the same: steps are left out, and numbers made smaller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

_Step = TypeVar("_Step")


def shortest(
    steps: Sequence[_Step],
    shows: Callable[[Sequence[_Step]], bool],
    simpler: Callable[[_Step], Sequence[_Step]] = lambda step: (),
    enough: Callable[[], bool] = lambda: False,
) -> list[_Step]:
    """Return a part of ``steps``, which ``shows`` is true of, of which it still is true.

    It is not true of the result with any one step less, or with one step ``simpler``; unless there
    has been ``enough`` searching, which ends it at once.  ``shows`` is called with what is to be
    tried, and the last time that it says true is for the result.
    """
    found = list(steps)
    size = max(1, len(found) // 2)
    while not enough():
        fewer = _without(found, size, shows, enough)
        done = size == 1 and len(fewer) == len(found)
        found, size = fewer, max(1, size // 2)
        if done:
            break
    for at in range(len(found)):
        tries = simpler(found[at])
        while tries and not enough():
            changed = [*found[:at], tries[0], *found[at + 1 :]]
            if shows(changed):
                found, tries = changed, simpler(tries[0])
            else:
                tries = tries[1:]
    return found


def _without(
    found: list[_Step],
    size: int,
    shows: Callable[[Sequence[_Step]], bool],
    enough: Callable[[], bool],
) -> list[_Step]:
    """Return ``found`` without as many pieces of ``size`` steps as can be left out, from its end.

    The end first: what comes after the step that shows it is not needed at all.
    """
    at = len(found)
    while at > 0 and not enough():
        at = max(0, at - size)
        fewer = found[:at] + found[at + size :]
        if fewer and shows(fewer):
            found = fewer
    return found
