# SPDX-License-Identifier: GPL-2.0-or-later
"""Batches: programmes that go to the guest in one message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

from harness.fuzz.between import between_domains, delays_with_dom0
from harness.fuzz.concurrent import concurrent_programme
from harness.fuzz.duels import delays, duels, repeated
from harness.fuzz.generate import programme
from harness.fuzz.programme import Step, What
from harness.fuzz.sections import Both

_BATCH = 2500  # steps
_FIRST_ALONE = 4  # batches
# What a batch is for: both vCPUs at once, in one of these ways; or one vCPU.
_OF_TWO = (duels, duels, concurrent_programme, None)
_WITH_DOM0 = (*_OF_TWO, between_domains, between_domains)


@dataclass(frozen=True)
class Batch:
    """Programmes that go to the guest in one message.

    They are for its vCPU ``vcpu``; with ``second`` they are one programme: ``steps`` for vCPU 0,
    and at the same time ``second`` for vCPU 1, or for dom0 (``in_dom0``); and that so many
    ``times``, with other delays each time.
    """

    steps: tuple[Step, ...]
    vcpu: int
    second: tuple[Step, ...] = ()
    times: int = 1
    in_dom0: bool = False

    @property
    def both(self) -> Both:
        """The steps that each side makes, with all repetitions."""
        if not self.second:
            return (self.steps, ()) if self.vcpu == 0 else ((), self.steps)
        both = self.steps, self.second
        return repeated(both, self.times, delays_with_dom0 if self.in_dom0 else delays)

    def one(self, at: int) -> tuple[int, list[Step]]:
        """Return where the programme that has step ``at`` begins, and its steps up to that one."""
        begin = max(i for i in range(at + 1) if self.steps[i].what == What.BEGIN)
        return begin, list(self.steps[begin : at + 1])


def batches(seed: int, *, with_dom0: bool = False) -> Iterator[Batch]:
    """Yield random batches; the same for the same ``seed``.

    The first ones are of one vCPU: what these show can be told in few steps.  ``with_dom0``: some
    are of the guest and dom0.
    """
    chance = Random(seed)
    kinds = _WITH_DOM0 if with_dom0 else _OF_TWO
    for number in count():
        of_two = chance.choice(kinds)
        if number >= _FIRST_ALONE and of_two is not None:
            first, second = of_two(chance)
            yield Batch(first, 0, second, in_dom0=of_two is between_domains)
            continue
        steps: list[Step] = []
        while len(steps) < _BATCH:
            steps += programme(chance)
        yield Batch(tuple(steps), chance.getrandbits(1))
