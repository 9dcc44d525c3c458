# SPDX-License-Identifier: GPL-2.0-or-later
"""What the judge says of fixed sequences stays the same, word for word, however fast it becomes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from random import Random

from harness.conformance.bare import Bare
from harness.conformance.cells import RELEASES
from harness.conformance.guest import Domains
from harness.conformance.reference_model import Disagreement
from harness.conformance.sequences import RandomStep, make
from harness.model.evtchn.operations import Operation
from harness.model.evtchn.outcome import AllowedOutcome
from harness.model.evtchn.rules import by_version

from .model_agent import ModelHost
from .test_reference_model import RELEASE, WORLD, domains_of

_SEQUENCES = 60
_STEPS = 12
# Of the judge as it was when every answer was a message of its own; since then port 0 has priority
# 0 and, in the first, a port that is closed keeps its priority.
_BEFORE = ("59a5cc5d54ee3cff", "bbf97792a0c279c0")


class _SometimesWrong:
    """Now and then answers as if another operation had been made: an error, or another port."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    def __call__(self, _: Operation, outcome: AllowedOutcome) -> AllowedOutcome:
        if self._chance.random() > 0.01:
            return outcome
        result = outcome.result
        wrong = replace(result, port=result.port + 1) if result.port else replace(result, rc=-22)
        return replace(outcome, result=wrong)


def _fresh(lies: bool, chance: Random) -> tuple[Domains, Bare]:
    host = ModelHost(WORLD)
    domains = domains_of(host)
    domains.model.others = tuple(by_version(r) for r in RELEASES if r != RELEASE)
    bare = domains.guests["bare"]
    assert isinstance(bare, Bare)
    if lies:
        host.lie = _SometimesWrong(chance)
    return domains, bare


def _verdicts(lies: bool) -> str:
    """Return a digest of every line that is told, every row met, and every difference found."""
    chance = Random(23)
    told = hashlib.sha256()
    domains, bare = _fresh(lies, chance)
    for _ in range(_SEQUENCES):
        if lies:  # what is true of the last Xen is not of this one
            domains, bare = _fresh(lies, chance)
        model = domains.model
        guests = [bare, domains.guests["dom0"]]
        try:
            domains.close_opened()
            bare.begin()
            for _ in range(_STEPS):
                numbers = [chance.randrange(n) for n in (6, 20, 8, 8, 8)]
                make(guests[numbers[0] % 2], RandomStep(*numbers))
        except Disagreement as error:
            told.update(f"{error}\n{error.story}\n{error.where}\n".encode())
        told.update(f"{model.story()}\n{model.operations}\n{model.world}\n".encode())
        told.update(repr(model.exercised).encode())
        told.update(repr(model.sorted_differences()).encode())
    return told.hexdigest()


def test_the_judge_says_the_same_as_ever() -> None:
    assert (_verdicts(lies=False)[:16], _verdicts(lies=True)[:16]) == _BEFORE
