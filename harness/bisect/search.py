# SPDX-License-Identifier: GPL-2.0-or-later
"""Choose the next test, or give the answer: a pure function of the observations.

So a bisection that was killed is resumed by reading its journal.  And while a test runs, the
revisions that would be tested after a pass and after a failure are known, and can be built.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.bisect.commits import Bools, Commits
from harness.bisect.observations import BOOT, Counts, Observations, Tested
from harness.bisect.posterior import Contradiction, Floats, Posterior, infer_posterior

# The good end may take a fifth of the doubt (1 - confidence) that is allowed in all.
_GOOD_END_SHARE = 0.2
# The bad end is tested until it has failed this many times.  That gives an estimate of p, and p
# decides how much a pass proves: after a single failure, a lucky first try at p = 0.1 would
# make passes look like proof.
_BAD_END_FAILURES = 4
# After this many tries without a failure the bad end counts as not bad: with p = 0.05 one of
# them would have failed with a probability of 98 %.
MAX_BAD_END_TRIES = 80
# After this many lab faults in a row with one revision, a revision that could be tested before
# is tested again: so it is known whether the revision or the lab is the cause.
MAX_FAULTS = 3
# Bits of information that a step must be expected to give; less is rounding noise.
_MIN_BITS = 1e-4
_BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)

Stage = Literal["bad", "good", "search", "culprit", "parent", "revert", "control"]
End = Literal["bad", "good", "search", "lab"]


@dataclass(frozen=True)
class Costs:
    """Seconds that a boot and a try take; they decide how many tries are made in one boot."""

    boot: float = 45.0
    one_try: float = 4.0


@dataclass(frozen=True)
class Question:
    """What is searched: the commits between two ends, and the confidence that is required."""

    commits: Commits
    confidence: float = 0.95
    forced: bool = False  # the test forces the failure: one try is enough
    boot: bool = False  # what fails is the bring-up of the host; so each try takes a boot
    costs: Costs = Costs()


@dataclass(frozen=True)
class Step:
    """Test ``revision`` up to ``tries`` times; ``stage`` is the purpose."""

    stage: Stage
    revision: str
    tries: int
    keep_going: bool = False  # also after a failure, to estimate how often it shows


@dataclass(frozen=True)
class Answer:
    """The result of the search."""

    culprit: str | None  # None: several commits remain
    confidence: float  # that it is the culprit, or one of the suspects
    suspects: tuple[tuple[str, float], ...]  # with their probabilities, most probable first
    rate: float  # expected probability that a try of a bad revision fails


@dataclass(frozen=True)
class Stop:
    """Why the bisection ends without an answer, and what is the cause."""

    why: str
    at: End


def posterior_after(question: Question, observations: Observations) -> Posterior:
    """Return the posterior after ``observations``; Contradiction if no commit explains them."""
    counts = _counts(question.commits, observations)
    return infer_posterior(question.commits, counts, observations.digests, question.forced)


def next_step(question: Question, observations: Observations) -> Step | Answer | Stop:
    """Return the next step, or the answer, or why there is no answer."""
    commits = question.commits
    signature = observations.target(commits.bad)
    if stop := _untestable_end(commits, observations):
        return stop
    if question.boot and not observations.counts(commits.good, signature).conclusive:
        # A dom0 that does not come up is Xen's fault only if it came up with another one here.
        return Step("good", commits.good, 1)
    bad = observations.counts(commits.bad, signature)
    failures, most = (1, 1) if question.forced else (_BAD_END_FAILURES, MAX_BAD_END_TRIES)
    if bad.fails < failures and bad.conclusive < most:
        tries = max(failures, 2 * bad.conclusive)
        return Step("bad", commits.bad, min(tries, most - bad.conclusive), keep_going=True)
    if not bad.fails:
        return Stop(f"the failure did not show in {bad.conclusive} tries", "bad")
    if observations.counts(commits.good, signature).fails:
        word = "still" if commits.mends else "already"
        return Stop(f"this revision shows the failure {word}", "good")
    try:
        posterior = posterior_after(question, observations)
    except Contradiction as error:
        return Stop(f"{error}: there is more than one cause, or another one", "search")
    doubt = 1 - question.confidence
    if posterior.outside > _GOOD_END_SHARE * doubt:
        if (
            posterior.outside > 0.5
            and observations.counts(commits.good, signature).passes > MAX_BAD_END_TRIES
        ):
            return Stop("no single commit explains the observations", "search")
        return Step("good", commits.good, _good_end_tries(posterior, _GOOD_END_SHARE * doubt))
    return _search(question, observations, posterior)


def _untestable_end(commits: Commits, observations: Observations) -> Stop | None:
    ends: tuple[tuple[str, End], ...] = ((commits.bad, "bad"), (commits.good, "good"))
    for end, which in ends:
        if why := observations.why_untestable(end, observations.target(commits.bad)):
            return Stop(f"cannot be tested: {why}", which)
    return None


def _costs(question: Question, observations: Observations) -> Costs:
    """Return the median of what boots and tries took so far; before the first, a guess."""
    booted = [event for event in observations.tested if event.boot_seconds and event.seconds]
    if not booted:
        return question.costs
    return Costs(
        statistics.median(event.boot_seconds for event in booted),
        statistics.median(event.seconds / _counted(event) for event in booted),
    )


def _counted(event: Tested) -> int:
    return max(1, sum(one.test != BOOT for one in event.tries))


def _counts(commits: Commits, observations: Observations) -> dict[str, Counts]:
    signature = observations.target(commits.bad)
    names = dict.fromkeys(event.revision for event in observations.tested)
    return {name: observations.counts(name, signature) for name in names if name in commits.row_of}


def _good_end_tries(posterior: Posterior, doubt: float) -> int:
    """Return how many passes of the good end bring the probability that it is bad below
    ``doubt``."""
    for tries in _BATCHES:
        left = float(posterior.culprit[-1] * (1 - posterior.failing(tries)[-1]))
        if left <= doubt * (left + 1 - posterior.outside):
            return tries
    return _BATCHES[-1]


def _search(question: Question, observations: Observations, posterior: Posterior) -> Step | Answer:
    testable = _testable(question.commits, observations)
    groups = _groups(posterior, testable)
    top = int(groups.shares.argmax())
    if groups.shares[top] >= question.confidence:
        return _answer(posterior, groups.members(top), float(groups.shares[top]))
    likely_testable = _chance_testable(question.commits, observations)
    doubt = 1 - question.confidence
    step = _halve(posterior, testable, likely_testable, doubt) or _most_informative(
        posterior, testable, likely_testable, _costs(question, observations)
    )
    if step is None:
        return _answer(
            posterior, _credible_set(posterior, question.confidence), question.confidence
        )
    return step


def _testable(commits: Commits, observations: Observations) -> Bools:
    """Return which rows can be tested; not the good end, which was tested before."""
    signature = observations.target(commits.bad)
    ok = np.ones(len(commits.ids) + 1, np.bool_)
    ok[commits.row_of[commits.good]] = False
    for name in {*observations.skipped, *(event.revision for event in observations.tested)}:
        if name in commits.row_of and observations.why_untestable(name, signature):
            ok[commits.row_of[name]] = False
    return ok


def _chance_testable(commits: Commits, observations: Observations) -> Floats:
    """Return, for each revision, the chance that it can be tested.

    A broken build usually stays broken for some commits.  So the nearer a revision is to one
    that cannot be tested, the lower is its chance.  (``git bisect skip`` moves away, too.)
    """
    places = np.arange(len(commits.ids) + 1, dtype=np.float64)
    chance = np.ones_like(places)
    for name in observations.skipped:
        if name in commits.row_of:
            away = np.abs(places - commits.row_of[name])
            chance *= away / (1 + away)
    return chance


@dataclass(frozen=True)
class _Groups:
    """Groups of commits: no testable revision contains only a part of a group."""

    of: NDArray[np.intp]
    shares: Floats

    def members(self, group: int) -> list[int]:
        """Return the rows of ``group``."""
        return [int(row) for row in np.flatnonzero(self.of == group)]


def _groups(posterior: Posterior, testable: Bools) -> _Groups:
    """Group the commits; if every revision can be tested, each commit is a group."""
    count = len(posterior.culprit)
    good = posterior.commits.row_of[posterior.commits.good]
    if np.delete(testable, good).all():
        return _Groups(np.arange(count), posterior.culprit)
    rows = testable.copy()
    rows[good] = True
    columns = np.packbits(posterior.commits.is_bad[rows], axis=0).T
    _, of = np.unique(columns, axis=0, return_inverse=True)
    of = of.reshape(-1)
    return _Groups(of, np.bincount(of, posterior.culprit).astype(np.float64))


def _halve(
    posterior: Posterior, testable: Bools, likely_testable: Floats, doubt: float
) -> Step | None:
    """Return the step that halves the commits, as git does; None once a bad revision passed.

    That takes ceil(log2 N) steps.  The general rule would sometimes take one more: after a pass
    it leaves some probability with the commits that the revision contains, so it does not
    quite halve.
    """
    left = posterior.if_always > 0
    if left.sum() < 2:
        return None
    inside = posterior.commits.is_bad[:, left].sum(axis=1)
    even = np.minimum(inside, left.sum() - inside) * likely_testable
    even[~testable] = 0
    row = int(even.argmax())
    if even[row] <= 0:
        return None
    # So many tries that the passes of all steps together use only half of the doubt.
    steps = max(1, math.ceil(math.log2(len(left))))
    enough = (n for n in _BATCHES if posterior.passes_all(n) <= doubt / (2 * steps))
    return Step("search", posterior.commits.names[row], next(enough, _BATCHES[-1]))


def _most_informative(
    posterior: Posterior, testable: Bools, likely_testable: Floats, costs: Costs
) -> Step | None:
    """Return the step with the most information about the culprit per second, as expected.

    None if no step gives any.
    """
    inside = posterior.commits.is_bad.astype(np.float64)
    best: tuple[float, int, int] | None = None
    for tries in _BATCHES:
        failing = posterior.failing(tries)
        fails = inside @ (posterior.culprit * failing)
        bits = _entropy(fails) - inside @ (posterior.culprit * _entropy(failing))
        bits[~testable] = 0
        # A failure ends the batch, on average in its middle.
        spent = costs.boot + costs.one_try * tries * (1 - fails / 2)
        worth = np.where(bits > _MIN_BITS, bits * likely_testable / spent, 0)
        row = int(worth.argmax())
        if worth[row] > 0 and (best is None or worth[row] > best[0]):
            best = float(worth[row]), row, tries
    return Step("search", posterior.commits.names[best[1]], best[2]) if best else None


def _entropy(chance: Floats) -> Floats:
    """Return the entropy, in bits, of an event with probability ``chance``."""
    inner = np.clip(chance, 1e-300, 1 - 1e-16)
    bits: Floats = -(inner * np.log2(inner) + (1 - inner) * np.log2(1 - inner))
    return np.where((chance <= 0) | (chance >= 1), 0.0, bits)


def _answer(posterior: Posterior, rows: list[int], confidence: float) -> Answer:
    names = posterior.commits.ids
    shares = sorted(
        ((names[row], float(posterior.culprit[row])) for row in rows if row < len(names)),
        key=lambda pair: -pair[1],
    )
    suspects = tuple(pair for pair in shares if pair[1] > 0)
    alone = suspects[0][0] if len(suspects) == 1 else None
    return Answer(alone, confidence, suspects, posterior.rate)


def _credible_set(posterior: Posterior, confidence: float) -> list[int]:
    """Return the smallest set of commits that has the culprit with ``confidence``."""
    order = np.argsort(-posterior.culprit, kind="stable")
    enough = int(np.searchsorted(np.cumsum(posterior.culprit[order]), confidence)) + 1
    return [int(row) for row in order[:enough]]
