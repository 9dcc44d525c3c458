"""Bench ``bisect``: how often the search is right, and what it costs, on simulated histories."""

from __future__ import annotations

import sys
from random import Random

from harness.bisect.confirm import Finding
from harness.bisect.simulate import World, bisect, by_halves, line
from harness.progress import Progress

COMMITS = 128
HISTORIES = 1000  # for each failure probability
RATES = tuple(number / 10 for number in range(1, 11))
REPEATS = (1, 5, 20)  # of each step, for comparison; 1 is plain ``git bisect``


def run(histories: int = HISTORIES) -> dict[str, float]:
    """Return, for each probability of a failure, how often the answer was right and what a
    bisection took, beside halving with a fixed number of tries for each step.

    ``*_correct`` is a share of the answers, ``*_claimed`` one of the histories (an answer
    that claims 95 %), ``*_tries`` and ``*_boots`` are means.  Ours counts the check of both
    ends and of the culprit, halving neither.
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


def _worlds(rate: float, histories: int) -> list[World]:
    commits = line(COMMITS)
    worlds = []
    for seed in range(histories):
        random = Random(f"{seed} {rate}")
        worlds.append(World(commits, random.choice(commits.ids), rate, random))
    return worlds


def _ours(rate: float, histories: int) -> dict[str, float]:
    claimed = right = tries = boots = steps = 0
    for world in _worlds(rate, histories):
        result = bisect(world)
        tries += result.tries
        boots += result.boots
        steps += result.steps
        if isinstance(result.found, Finding) and result.found.answer.culprit is not None:
            claimed += 1
            right += result.found.answer.culprit == world.culprit
    return {
        "claimed": claimed / histories,
        "correct": right / claimed if claimed else 0.0,
        "tries": tries / histories,
        "boots": boots / histories,
        "steps": steps / histories,
    }


def _halving(rate: float, histories: int, repeat: int) -> dict[str, float]:
    right = tries = boots = 0
    for world in _worlds(rate, histories):
        right += by_halves(world, repeat) == world.culprit
        tries += world.tries
        boots += world.boots
    return {
        "correct": right / histories,
        "tries": tries / histories,
        "boots": boots / histories,
    }
