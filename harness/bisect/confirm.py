# SPDX-License-Identifier: GPL-2.0-or-later
"""Confirm the culprit: it fails, its parents pass, and the newer end with it reverted passes.

Of a commit with which a test begins to pass: the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.bisect import search
from harness.bisect.observations import Observations
from harness.bisect.posterior import Posterior
from harness.bisect.search import Answer, Question, Stage, Step, Stop

REVERT = "revert:"  # prefix of the culprit's id: the newer end with the culprit reverted on top
_MAX_TRIES = 64  # in one step


@dataclass(frozen=True)
class Confirmation:
    """What the tests of the culprit showed; None: this could not be tested."""

    culprit: bool | None = None  # True: it does what it should do, it fails (or passes)
    parents: bool | None = None  # so do they: they pass (or fail)
    reverted: bool | None = None  # so does the newer end with the culprit reverted
    same_as_parent: bool = False  # both build the same bytes: the commit cannot be the cause
    not_tested: tuple[str, ...] = ()  # what could not be tested, and why

    @property
    def confirmed(self) -> bool:
        """Whether culprit and parents do what they should, and no other test contradicts that."""
        tested = self.culprit is True and self.parents is True
        return tested and self.reverted is not False and not self.same_as_parent


@dataclass(frozen=True)
class Finding:
    """The answer of the search, and its confirmation."""

    answer: Answer
    confirmation: Confirmation


def next_step(question: Question, observations: Observations) -> Step | Finding | Stop:
    """Return the next step: first of the search, then, once it names a culprit, to confirm it.

    The tries that confirm count for the search as well, so the search may then name another
    commit.
    """
    answer = search.next_step(question, observations)
    if not isinstance(answer, Answer):
        return answer
    if answer.culprit is None:
        return Finding(answer, Confirmation())
    return _confirm(question, observations, answer, answer.culprit)


def _confirm(
    question: Question, observations: Observations, answer: Answer, culprit: str
) -> Step | Finding:
    commits = question.commits
    signature = observations.target(commits.bad)
    posterior = search.posterior_after(question, observations)
    doubt = 1 - question.confidence
    tests: tuple[tuple[Stage, str, Sequence[str], bool], ...] = (
        ("culprit", "the culprit", [culprit], not commits.mends),
        ("parent", "the parent", commits.parents[culprit], commits.mends),
        ("revert", "reverted", [REVERT + culprit], commits.mends),
    )
    seen: dict[Stage, bool | None] = {}
    not_tested = []
    for stage, name, revisions, is_bad in tests:
        left = doubt / 5 if is_bad else doubt  # one that should fail must not pass by chance
        as_it_should: bool | None = None
        for revision in revisions:
            if unknown := observations.why_untestable(revision, signature):
                not_tested.append(f"{name}: {unknown}")
                as_it_should = None
                break
            counts = observations.counts(revision, signature)
            more = 0 if counts.fails else _tries(posterior, left, counts.passes)
            if more:
                return Step(stage, revision, more)
            as_it_should = as_it_should is not False and (counts.fails > 0) is is_bad
        seen[stage] = as_it_should
    same = any(
        observations.digests.get(parent, "?") == observations.digests.get(culprit)
        for parent in commits.parents[culprit]
    )
    return Finding(
        answer,
        Confirmation(seen["culprit"], seen["parent"], seen["revert"], same, tuple(not_tested)),
    )


def _tries(posterior: Posterior, doubt: float, passes: int) -> int:
    """Return how many more passes are needed until the probability that a bad revision passes
    all of them is ``doubt`` or less."""
    more = 0
    while posterior.passes_all(passes + more) > doubt:
        more += 1
        if more == _MAX_TRIES:
            break
    return more
