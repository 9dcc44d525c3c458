# SPDX-License-Identifier: GPL-2.0-or-later
"""Simulated bisections, without builds and boots, to measure how good the search is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

from harness.bisect import loop
from harness.bisect.commits import Commits
from harness.bisect.confirm import REVERT, Finding
from harness.bisect.observations import BOOT, Built, Observations, Tested, Try
from harness.bisect.search import Question, Step, Stop
from harness.bisect.signature import Signature
from harness.verdict import BuildError

TARGET = Signature("race", "answer", "race", "lost")
OTHER = Signature("race", "crash", "sched.c", "x")
GOOD = "c0"


def line(count: int) -> Commits:
    """Return a linear history of ``count`` commits after the good one."""
    ids = tuple(f"c{number}" for number in range(1, count + 1))
    return Commits(GOOD, ids, {f"c{n}": (f"c{n - 1}",) for n in range(1, count + 1)})


@dataclass
class SimulatedHistory:
    """A history with a culprit in it: the Builder and the Tester of a simulated bisection."""

    commits: Commits
    culprit: str
    rate: float  # probability that a try of a bad revision fails
    random: Random
    broken: frozenset[str] = frozenset()  # does not build
    dead: frozenset[str] = frozenset()  # builds, does not boot
    faults: float = 0.0  # probability that a boot ends in a lab fault
    others: float = 0.0  # probability that a try fails in another way, anywhere
    reverts: bool = True  # git can revert the culprit on top of the bad end
    revert_fixes: bool = True  # the failure is gone after that
    same: dict[str, str] = field(default_factory=dict)  # digests, where two builds are the same
    boots: int = 0
    tries: int = 0

    def build(self, revision: str) -> Built:
        """Build ``revision``; BuildError if it is broken."""
        if revision in self.broken or (revision.startswith(REVERT) and not self.reverts):
            raise BuildError("expected ';'")
        return Built(revision, self.same.get(revision, revision), 0.0)

    def build_ahead(self, revisions: Iterable[str]) -> None:
        """Do nothing: a simulated build takes no time."""

    def test(self, revision: str, tries: int, keep_going: bool) -> Tested:
        """Boot ``revision`` and try until it fails, or ``tries`` times if ``keep_going``."""
        self.boots += 1
        if self.random.random() < self.faults:
            return self._tested(revision, Try("race", "fault", message="QEMU is gone"))
        if revision in self.dead:
            died = Signature(BOOT, "crash", "setup.c", "x")
            return self._tested(revision, Try(BOOT, "fail", died, "Panic on CPU 0"))
        tries_so_far: list[Try] = []
        for _ in range(tries):
            self.tries += 1
            tries_so_far.append(self._try(revision))
            if tries_so_far[-1].outcome == "fail" and not keep_going:
                break
        return self._tested(revision, *tries_so_far)

    def _try(self, revision: str) -> Try:
        if self.random.random() < self.others:
            return Try("race", "fail", OTHER)
        if revision.startswith(REVERT):
            bad = self.revert_fixes if self.commits.mends else not self.revert_fixes
        else:
            bad = self.is_bad(revision)
        failed = bad and self.random.random() < self.rate
        return Try("race", "fail", TARGET) if failed else Try("race", "pass")

    def is_bad(self, revision: str) -> bool:
        """Return whether ``revision`` fails: it has the culprit, or has not the one that mends."""
        row_of = self.commits.row_of
        if self.culprit not in row_of:
            return True
        return bool(self.commits.is_bad[row_of[revision], row_of[self.culprit]])

    def _tested(self, revision: str, *tries: Try) -> Tested:
        return Tested(revision, tries, 0.0, 0.0)


@dataclass(frozen=True)
class Result:
    """How one simulated bisection ended."""

    found: Finding | Stop
    observations: Observations
    boots: int
    tries: int
    steps: int  # tests of revisions between the ends, until there was an answer


def bisect(world: SimulatedHistory, *, forced: bool = False) -> Result:
    """Run one bisection to its end."""
    question = Question(world.commits, forced=forced)
    steps = 0

    def count(step: Step, observations: Observations) -> None:
        nonlocal steps
        steps += step.stage == "search"

    found, observations = loop.run(
        question, Observations(), world, world, record=lambda event: None, notice=count
    )
    return Result(found, observations, world.boots, world.tries, steps)


def halve(world: SimulatedHistory, repeat: int) -> str:
    """Return what ``git bisect`` names as the first bad commit of a linear history, if a
    revision counts as good once it has passed ``repeat`` times."""
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
