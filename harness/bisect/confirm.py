"""Is it really that commit?  It fails there, passes before it, and passes without it on top."""

from __future__ import annotations

from dataclasses import dataclass

from harness.bisect import plan
from harness.bisect.belief import Belief
from harness.bisect.plan import Answer, Question, Step, Stop
from harness.bisect.tally import State

REVERT = "revert:"  # before the culprit's id: the bad end with the culprit reverted on top
_MOST = 64  # tries at once


@dataclass(frozen=True)
class Confirmation:
    """What was seen of the culprit; None: that could not be tested."""

    fails: bool | None = None  # at the culprit itself
    parents_pass: bool | None = None  # so often that the failure would have shown itself
    reverted_passes: bool | None = None  # the bad end with the culprit reverted
    same_as_parent: bool = False  # both build the same bytes: then the commit is not to blame
    why: tuple[str, ...] = ()  # what could not be tested, and why

    @property
    def confirmed(self) -> bool:
        """Whether all that could be tested speaks against the culprit, both ends of it tested."""
        seen = self.fails is True and self.parents_pass is True
        return seen and self.reverted_passes is not False and not self.same_as_parent


@dataclass(frozen=True)
class Finding:
    """The answer, and what was seen when it was confirmed."""

    answer: Answer
    confirmation: Confirmation


def next_step(question: Question, state: State) -> Step | Finding | Stop:
    """Return what to do next: search, and once there is one culprit, confirm it.

    What is seen while confirming counts for the search, too: it may point elsewhere then.
    """
    answer = plan.next_step(question, state)
    if not isinstance(answer, Answer):
        return answer
    if answer.culprit is None:
        return Finding(answer, Confirmation())
    return _confirm(question, state, answer, answer.culprit)


def _confirm(question: Question, state: State, answer: Answer, culprit: str) -> Step | Finding:
    commits = question.commits
    signature = state.signature(commits.bad)
    seen = plan.think(question, state)
    doubt = 1 - question.confidence
    at = state.tally(culprit, signature)
    why = []
    if unknown := state.untestable(culprit, signature):
        why.append(f"the culprit: {unknown}")
    elif not at.fails:
        return Step("culprit", culprit, _tries(seen, doubt / 5, at.passes))
    parents_pass: bool | None = None
    for parent in commits.parents[culprit]:
        if unknown := state.untestable(parent, signature):
            why.append(f"the parent: {unknown}")
            parents_pass = None
            break
        passes = state.tally(parent, signature).passes
        if more := _tries(seen, doubt, passes):
            return Step("parent", parent, more)
        parents_pass = True
    on_top = REVERT + culprit
    tally = state.tally(on_top, signature)
    reverted: bool | None = None
    if unknown := state.untestable(on_top, signature):
        why.append(f"reverted: {unknown}")
    elif tally.fails:
        reverted = False
    elif more := _tries(seen, doubt, tally.passes):
        return Step("revert", on_top, more)
    else:
        reverted = True
    same = any(
        state.content.get(parent, "?") == state.content.get(culprit)
        for parent in commits.parents[culprit]
    )
    fails = True if at.fails else None
    return Finding(answer, Confirmation(fails, parents_pass, reverted, same, tuple(why)))


def _tries(seen: Belief, doubt: float, passes: int) -> int:
    """Return how many more passes leave less than ``doubt`` that a bad revision passes all."""
    more = 0
    while seen.passes_all(passes + more) > doubt:
        more += 1
        if more == _MOST:
            break
    return more
