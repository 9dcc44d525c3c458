"""Bisections of histories that nobody builds or boots, to measure how good the search is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

from harness.bisect import loop
from harness.bisect.commits import Commits
from harness.bisect.confirm import REVERT, Finding
from harness.bisect.plan import Question, Step, Stop
from harness.bisect.signature import Signature
from harness.bisect.tally import BOOT, Built, State, Tested, Try
from harness.verdict import BuildError

WANTED = Signature("race", "answer", "race", "lost")
OTHER = Signature("race", "crash", "sched.c", "x")
GOOD = "c0"


def line(count: int) -> Commits:
    """Return a history of ``count`` commits in a row after the good one."""
    ids = tuple(f"c{number}" for number in range(1, count + 1))
    return Commits(GOOD, ids, {f"c{n}": (f"c{n - 1}",) for n in range(1, count + 1)})


@dataclass
class World:
    """A history with a culprit in it, as Builder and Machine see it."""

    commits: Commits
    culprit: str
    rate: float  # probability that a try of a bad revision fails
    random: Random
    broken: frozenset[str] = frozenset()  # does not build
    dead: frozenset[str] = frozenset()  # builds, does not boot
    faults: float = 0.0  # probability that a boot ends in a lab fault
    others: float = 0.0  # probability that a try fails in another way, anywhere
    reverts: bool = True  # git can take the culprit back on top of the bad end
    cures: bool = True  # and then the failure is gone
    same: dict[str, str] = field(default_factory=dict)  # digests of builds that are the same
    boots: int = 0
    tries: int = 0

    def build(self, revision: str) -> Built:
        """Build it, unless it is broken."""
        if revision in self.broken or (revision.startswith(REVERT) and not self.reverts):
            raise BuildError("expected ';'")
        return Built(revision, self.same.get(revision, revision), 0.0)

    def ahead(self, revisions: Iterable[str]) -> None:
        """Nothing is faster for being begun early."""

    def test(self, revision: str, tries: int, on: bool) -> Tested:
        """Boot it, and try until it fails, or ``on``."""
        self.boots += 1
        if self.random.random() < self.faults:
            return self._tested(revision, Try("race", "fault", message="QEMU is gone"))
        if revision in self.dead:
            died = Signature(BOOT, "crash", "setup.c", "x")
            return self._tested(revision, Try(BOOT, "fail", died, "Panic on CPU 0"))
        seen: list[Try] = []
        for _ in range(tries):
            self.tries += 1
            seen.append(self._try(revision))
            if seen[-1].outcome == "fail" and not on:
                break
        return self._tested(revision, *seen)

    def _try(self, revision: str) -> Try:
        if self.random.random() < self.others:
            return Try("race", "fail", OTHER)
        bad = not self.cures if revision.startswith(REVERT) else self.is_bad(revision)
        failed = bad and self.random.random() < self.rate
        return Try("race", "fail", WANTED) if failed else Try("race", "pass")

    def is_bad(self, revision: str) -> bool:
        """Say whether ``revision`` has the culprit."""
        place = self.commits.place
        if self.culprit not in place:
            return True
        return bool(self.commits.contains[place[revision], place[self.culprit]])

    def _tested(self, revision: str, *tries: Try) -> Tested:
        return Tested(revision, tries, 0.0, 0.0)


@dataclass(frozen=True)
class Result:
    """How one simulated bisection ended."""

    found: Finding | Stop
    state: State
    boots: int
    tries: int
    steps: int  # revisions tested between the ends, until the answer was there


def bisect(world: World, *, forced: bool = False) -> Result:
    """Run one bisection to its end."""
    question = Question(world.commits, forced=forced)
    steps = 0

    def count(step: Step, state: State) -> None:
        nonlocal steps
        steps += step.stage == "search"

    found, state = loop.run(
        question, State(), world, world, record=lambda event: None, notice=count
    )
    return Result(found, state, world.boots, world.tries, steps)


def by_halves(world: World, repeat: int) -> str:
    """Return what ``git bisect`` names as the first bad commit of a line, if a revision counts
    as good once it has passed ``repeat`` times."""
    ids = world.commits.ids
    good, bad = -1, len(ids) - 1
    while bad - good > 1:
        middle = (good + bad) // 2
        tested = world.test(ids[middle], repeat, False)
        if tested.tries[-1].outcome == "fail":
            bad = middle
        else:
            good = middle
    return ids[bad]
