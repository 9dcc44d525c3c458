# SPDX-License-Identifier: GPL-2.0-or-later
"""Confirm the culprit: it fails, its parents pass, and the bad end with it reverted passes."""

from __future__ import annotations

from dataclasses import dataclass

from harness.bisect import search
from harness.bisect.observations import Observations
from harness.bisect.posterior import Posterior
from harness.bisect.search import Answer, Question, Step, Stop

REVERT = "revert:"  # prefix of the culprit's id: the bad end with the culprit reverted on top
_MAX_TRIES = 64  # in one step


@dataclass(frozen=True)
class Confirmation:
    """What the tests of the culprit showed; None: this could not be tested."""

    fails: bool | None = None  # at the culprit itself
    parents_pass: bool | None = None  # so many times that a bad one would have failed
    reverted_passes: bool | None = None  # the bad end with the culprit reverted
    same_as_parent: bool = False  # both build the same bytes: the commit cannot be the cause
    not_tested: tuple[str, ...] = ()  # what could not be tested, and why

    @property
    def confirmed(self) -> bool:
        """Whether the culprit fails, its parents pass, and no other test contradicts that."""
        tested = self.fails is True and self.parents_pass is True
        return tested and self.reverted_passes is not False and not self.same_as_parent


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
    at_culprit = observations.counts(culprit, signature)
    not_tested = []
    if unknown := observations.why_untestable(culprit, signature):
        not_tested.append(f"the culprit: {unknown}")
    elif not at_culprit.fails:
        return Step("culprit", culprit, _tries(posterior, doubt / 5, at_culprit.passes))
    parents_pass: bool | None = None
    for parent in commits.parents[culprit]:
        if unknown := observations.why_untestable(parent, signature):
            not_tested.append(f"the parent: {unknown}")
            parents_pass = None
            break
        passes = observations.counts(parent, signature).passes
        if more := _tries(posterior, doubt, passes):
            return Step("parent", parent, more)
        parents_pass = True
    on_top = REVERT + culprit
    on_top_counts = observations.counts(on_top, signature)
    reverted: bool | None = None
    if unknown := observations.why_untestable(on_top, signature):
        not_tested.append(f"reverted: {unknown}")
    elif on_top_counts.fails:
        reverted = False
    elif more := _tries(posterior, doubt, on_top_counts.passes):
        return Step("revert", on_top, more)
    else:
        reverted = True
    same = any(
        observations.digests.get(parent, "?") == observations.digests.get(culprit)
        for parent in commits.parents[culprit]
    )
    fails = True if at_culprit.fails else None
    return Finding(answer, Confirmation(fails, parents_pass, reverted, same, tuple(not_tested)))


def _tries(posterior: Posterior, doubt: float, passes: int) -> int:
    """Return how many more passes are needed until the probability that a bad revision passes
    all of them is ``doubt`` or less."""
    more = 0
    while posterior.passes_all(passes + more) > doubt:
        more += 1
        if more == _MAX_TRIES:
            break
    return more
