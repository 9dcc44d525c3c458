# SPDX-License-Identifier: GPL-2.0-or-later
"""Bench ``bisect``: how often the search is right, and what it costs, on simulated histories."""

from __future__ import annotations

import sys
from random import Random

from harness.bisect.confirm import Finding
from harness.bisect.simulate import SimulatedHistory, bisect, halve, line
from harness.progress import Progress

COMMITS = 128
HISTORIES = 1000  # for each failure probability
RATES = tuple(number / 10 for number in range(1, 11))
REPEATS = (1, 5, 20)  # of each step, for comparison; 1 is plain ``git bisect``


def run(histories: int = HISTORIES) -> dict[str, float]:
    """Return, for each probability of a failure, how often the answer was right and what a
    bisection cost; and the same of halving with a fixed number of tries in each step.

    ``*_claimed`` is the share of histories with an answer (that claims 95 %), ``*_correct`` the
    share of right ones among these answers, ``*_tries`` and ``*_boots`` are means.  Ours
    includes the tests of both ends and of the culprit, halving does not.
    """
    progress = Progress(sys.stderr)
    metrics: dict[str, float] = {"commits": COMMITS, "histories": histories}
    for rate in RATES:
        with progress.phase("bisect", f"p = {rate}"):
            metrics |= {f"p{rate}_{name}": value for name, value in _ours(rate, histories).items()}
            for repeat in REPEATS:
                halved = _halving(rate, histories, repeat)
                name = "git" if repeat == 1 else f"fixed{repeat}"
                metrics |= {f"p{rate}_{name}_{key}": value for key, value in halved.items()}
    return metrics


def _simulations(rate: float, histories: int) -> list[SimulatedHistory]:
    commits = line(COMMITS)
    simulations = []
    for seed in range(histories):
        random = Random(f"{seed} {rate}")
        simulations.append(SimulatedHistory(commits, random.choice(commits.ids), rate, random))
    return simulations


def _ours(rate: float, histories: int) -> dict[str, float]:
    claimed = right = tries = boots = steps = 0
    for history in _simulations(rate, histories):
        result = bisect(history)
        tries += result.tries
        boots += result.boots
        steps += result.steps
        if isinstance(result.found, Finding) and result.found.answer.culprit is not None:
            claimed += 1
            right += result.found.answer.culprit == history.culprit
    return {
        "claimed": claimed / histories,
        "correct": right / claimed if claimed else 0.0,
        "tries": tries / histories,
        "boots": boots / histories,
        "steps": steps / histories,
    }


def _halving(rate: float, histories: int, repeat: int) -> dict[str, float]:
    right = tries = boots = 0
    for history in _simulations(rate, histories):
        right += halve(history, repeat) == history.culprit
        tries += history.tries
        boots += history.boots
    return {
        "correct": right / histories,
        "tries": tries / histories,
        "boots": boots / histories,
    }
