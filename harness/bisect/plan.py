"""What to test next, or what the answer is: a pure function of what was seen.

So a bisection that was killed goes on where it was, by reading its journal; and what to
build while a test runs is what would be tested after either outcome.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.bisect.belief import Belief, Contradiction, Floats, belief
from harness.bisect.commits import Bools, Commits
from harness.bisect.tally import BOOT, State, Tally, Tested

# The good end's part of the doubt that is allowed: a fifth.
_GOOD_END = 0.2
# Failures of the bad end that are waited for.  They teach p, on which hangs how far a pass
# is trusted: with one only, a lucky first try at p = 0.1 makes passes look like proof.
_LESSONS = 4
# Tries of the bad end without a failure after which it is not believed to be bad: p = 0.05
# would have shown itself with 98 %.
PATIENCE = 80
# How often a revision may end in a lab fault before it is asked whether it is to blame.
FAULTS = 3
# Bits that a step must promise; less is rounding noise, or a revision that tells nothing new.
_WORTH = 1e-4
_BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)

Stage = Literal["bad", "good", "search", "culprit", "parent", "revert", "control"]
End = Literal["bad", "good", "search", "lab"]


@dataclass(frozen=True)
class Costs:
    """Seconds that a boot and a try take; they decide how many tries a boot is worth."""

    boot: float = 45.0
    one: float = 4.0


@dataclass(frozen=True)
class Question:
    """What is asked: between which ends, and how sure the answer has to be."""

    commits: Commits
    confidence: float = 0.95
    forced: bool = False  # the test forces the failure: one try tells
    costs: Costs = Costs()


@dataclass(frozen=True)
class Step:
    """Test ``revision`` so many times; ``stage`` says what for."""

    stage: Stage
    revision: str
    tries: int
    on: bool = False  # go on after a failure: each teaches how often it shows


@dataclass(frozen=True)
class Answer:
    """What the search came to."""

    culprit: str | None  # None: several commits remain
    confidence: float  # that it is the culprit, or one of the suspects
    suspects: tuple[tuple[str, float], ...]  # with their probabilities, most probable first
    rate: float  # expected probability that a try of a bad revision fails


@dataclass(frozen=True)
class Stop:
    """Why there is nothing to find."""

    why: str
    at: End


def think(question: Question, state: State) -> Belief:
    """Return what is believed after ``state``; Contradiction if nothing explains it."""
    tallies = _tallies(question.commits, state)
    return belief(question.commits, tallies, state.content, question.forced)


def next_step(question: Question, state: State) -> Step | Answer | Stop:
    """Return the next step, the answer, or why there is none."""
    commits = question.commits
    signature = state.signature(commits.bad)
    if odd := _blocked(commits, state):
        return odd
    bad = state.tally(commits.bad, signature)
    lessons, patience = (1, 1) if question.forced else (_LESSONS, PATIENCE)
    if bad.fails < lessons and bad.told < patience:
        tries = max(lessons, 2 * bad.told)
        return Step("bad", commits.bad, min(tries, patience - bad.told), on=True)
    if not bad.fails:
        return Stop(f"the failure did not show in {bad.told} tries", "bad")
    if state.tally(commits.good, signature).fails:
        return Stop("the failure shows there already", "good")
    try:
        seen_so_far = think(question, state)
    except Contradiction as error:
        return Stop(f"{error}: there is more than one cause, or another one", "search")
    doubt = 1 - question.confidence
    if seen_so_far.outside > _GOOD_END * doubt:
        if seen_so_far.outside > 0.5 and state.tally(commits.good, signature).passes > PATIENCE:
            return Stop("no single commit explains what was seen", "search")
        return Step("good", commits.good, _tries_for(seen_so_far, _GOOD_END * doubt))
    return _search(question, state, seen_so_far)


def _blocked(commits: Commits, state: State) -> Stop | None:
    ends: tuple[tuple[str, End], ...] = ((commits.bad, "bad"), (commits.good, "good"))
    for end, which in ends:
        if why := state.untestable(end, state.signature(commits.bad)):
            return Stop(f"cannot be tested: {why}", which)
    return None


def _costs(question: Question, state: State) -> Costs:
    """Return what boots and tries took so far, in the middle; at first, what is usual."""
    booted = [event for event in state.tested if event.boot_seconds and event.seconds]
    if not booted:
        return question.costs
    return Costs(
        statistics.median(event.boot_seconds for event in booted),
        statistics.median(event.seconds / _counted(event) for event in booted),
    )


def _counted(event: Tested) -> int:
    return max(1, sum(one.test != BOOT for one in event.tries))


def _tallies(commits: Commits, state: State) -> dict[str, Tally]:
    signature = state.signature(commits.bad)
    names = dict.fromkeys(event.revision for event in state.tested)
    return {name: state.tally(name, signature) for name in names if name in commits.place}


def _tries_for(seen: Belief, doubt: float) -> int:
    """Return after how many passes of the good end less than ``doubt`` of it is left."""
    for tries in _BATCHES:
        left = float(seen.culprit[-1] * (1 - seen.failing(tries)[-1]))
        if left <= doubt * (left + 1 - seen.outside):
            return tries
    return _BATCHES[-1]


def _search(question: Question, state: State, seen: Belief) -> Step | Answer:
    testable = _testable(question.commits, state)
    groups = _groups(seen, testable)
    top = int(groups.shares.argmax())
    if groups.shares[top] >= question.confidence:
        return _answer(seen, groups.members(top), float(groups.shares[top]))
    usable = _usable(question.commits, state)
    doubt = 1 - question.confidence
    step = _half(seen, testable, usable, doubt) or _best(
        seen, testable, usable, _costs(question, state)
    )
    if step is None:
        return _answer(seen, _fewest(seen, question.confidence), question.confidence)
    return step


def _testable(commits: Commits, state: State) -> Bools:
    """Say which rows can be tested; the good end has had its turn."""
    signature = state.signature(commits.bad)
    ok = np.ones(len(commits.ids) + 1, np.bool_)
    ok[-1] = False
    for name in {*state.skipped, *(event.revision for event in state.tested)}:
        if name in commits.place and state.untestable(name, signature):
            ok[commits.place[name]] = False
    return ok


def _usable(commits: Commits, state: State) -> Floats:
    """Return the chance of each revision that it can be tested.

    What broke the build was there some commits earlier and stays for a while: next to a
    revision that cannot be tested the next one hardly can.  (git strides away from it, too.)
    """
    places = np.arange(len(commits.ids) + 1, dtype=np.float64)
    chance = np.ones_like(places)
    for name in state.skipped:
        if name in commits.place:
            away = np.abs(places - commits.place[name])
            chance *= away / (1 + away)
    return chance


@dataclass(frozen=True)
class _Groups:
    """Commits that no revision which can be tested tells from each other."""

    of: NDArray[np.intp]
    shares: Floats

    def members(self, group: int) -> list[int]:
        """Return the rows of ``group``."""
        return [int(row) for row in np.flatnonzero(self.of == group)]


def _groups(seen: Belief, testable: Bools) -> _Groups:
    """Group the commits; where everything can be tested, each is alone."""
    count = len(seen.culprit)
    if testable[:-1].all():
        return _Groups(np.arange(count), seen.culprit)
    rows = testable.copy()
    rows[-1] = True
    columns = np.packbits(seen.commits.contains[rows], axis=0).T
    _, of = np.unique(columns, axis=0, return_inverse=True)
    of = of.reshape(-1)
    return _Groups(of, np.bincount(of, seen.culprit).astype(np.float64))


def _half(seen: Belief, testable: Bools, usable: Floats, doubt: float) -> Step | None:
    """As long as the failure showed each time it could: halve the commits, as git does.

    ceil(log2 N) steps, then, where the general rule would now and then take one more: it
    keeps a little of its belief on the side of a pass, and so does not quite halve.
    """
    left = seen.if_always > 0
    if left.sum() < 2:
        return None
    inside = seen.commits.contains[:, left].sum(axis=1)
    even = np.minimum(inside, left.sum() - inside) * usable
    even[~testable] = 0
    row = int(even.argmax())
    if even[row] <= 0:
        return None
    # So many tries that the passes of all steps together leave but half of the doubt.
    steps = max(1, math.ceil(math.log2(len(left))))
    enough = (n for n in _BATCHES if seen.passes_all(n) <= doubt / (2 * steps))
    return Step("search", seen.commits.ids[row], next(enough, _BATCHES[-1]))


def _best(seen: Belief, testable: Bools, usable: Floats, costs: Costs) -> Step | None:
    """Return the step that tells most about the culprit per second; None if none tells anything."""
    inside = seen.commits.contains.astype(np.float64)
    best: tuple[float, int, int] | None = None
    for tries in _BATCHES:
        failing = seen.failing(tries)
        fails = inside @ (seen.culprit * failing)
        told = _entropy(fails) - inside @ (seen.culprit * _entropy(failing))
        told[~testable] = 0
        # A failure ends the batch: on average half-way.
        spent = costs.boot + costs.one * tries * (1 - fails / 2)
        worth = np.where(told > _WORTH, told * usable / spent, 0)
        row = int(worth.argmax())
        if worth[row] > 0 and (best is None or worth[row] > best[0]):
            best = float(worth[row]), row, tries
    return Step("search", seen.commits.ids[best[1]], best[2]) if best else None


def _entropy(chance: Floats) -> Floats:
    """Return the bits of a yes or no with ``chance``."""
    inner = np.clip(chance, 1e-300, 1 - 1e-16)
    bits: Floats = -(inner * np.log2(inner) + (1 - inner) * np.log2(1 - inner))
    return np.where((chance <= 0) | (chance >= 1), 0.0, bits)


def _answer(seen: Belief, rows: list[int], confidence: float) -> Answer:
    names = seen.commits.ids
    shares = sorted(
        ((names[row], float(seen.culprit[row])) for row in rows if row < len(names)),
        key=lambda pair: -pair[1],
    )
    suspects = tuple(pair for pair in shares if pair[1] > 0)
    alone = suspects[0][0] if len(suspects) == 1 else None
    return Answer(alone, confidence, suspects, seen.rate)


def _fewest(seen: Belief, confidence: float) -> list[int]:
    """Return the fewest commits that hold the culprit with ``confidence``."""
    order = np.argsort(-seen.culprit, kind="stable")
    enough = int(np.searchsorted(np.cumsum(seen.culprit[order]), confidence)) + 1
    return [int(row) for row in order[:enough]]
