# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of the orders that the model has of a scenario are forced."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from harness.arch import Arch
from harness.interleave.scenarios import Scenario
from harness.model.explore.interleavings import Interleaving, interleavings
from harness.model.lock.locks import LOCKS

_FEW = 2  # up to so many CPUs, all orders are forced unless an option says otherwise
_DEFAULT_PREEMPTIONS = 2  # at most, with more CPUs


@dataclass(frozen=True)
class OrderSelection:
    """The options ``--preemptions``, ``--reduce``, ``--limit`` and ``--repeat``."""

    preemptions: int | None = None
    reduce: bool = False
    limit: int | None = None
    repeat: int = 1

    def orders(self, scenario: Scenario, design: str, arch: Arch) -> list[Interleaving]:
        """Return the selected orders of ``scenario``, from the model of lock ``design``."""
        bound, few = self.preemptions, len(scenario.threads) <= _FEW
        if bound is None and not self.reduce and not few:
            bound = _DEFAULT_PREEMPTIONS
        system = scenario.system(design, arch)
        every = interleavings(system, waits=few, reduce=self.reduce, preemptions=bound)
        return list(itertools.islice(every, self.limit)) * self.repeat


def orders_by_design(scenario: Scenario) -> dict[str, int]:
    """Return how many orders of ``scenario`` are forced by default, by lock design."""
    return {design: len(OrderSelection().orders(scenario, design, Arch.X86_64)) for design in LOCKS}
