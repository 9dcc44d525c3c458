# SPDX-License-Identifier: GPL-2.0-or-later
"""The speed of the search, on the largest configuration that the documentation promises."""

from __future__ import annotations

import resource
import statistics
import time

from harness.model.explore.search import explore
from harness.model.lock.scenarios import Bounds, lock_scenario

BOUNDS = Bounds(readers=128, writers=2)
REPEATS = 5


def run() -> dict[str, float | int]:
    """Explore ``counter`` with 128 readers and 2 writers REPEATS times; return the figures.

    ``states`` are those explored; ``states_unreduced`` would be explored if threads were told
    apart.  ``seconds`` is the median of a whole check; the memory is that of this process.
    """
    system = lock_scenario("counter", BOUNDS)
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        explored = explore(system)
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    return {
        "readers": BOUNDS.readers,
        "writers": BOUNDS.writers,
        "states": explored.states,
        "states_unreduced": explored.unreduced,
        "transitions": explored.transitions,
        "exhausted": int(explored.exhausted),
        "violations": len(explored.counterexamples),
        "seconds": median,
        "states_per_second": explored.states / median,
        "transitions_per_second": explored.transitions / median,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
