# SPDX-License-Identifier: GPL-2.0-or-later
"""The loop of a bisection: build a revision, test it, record that, choose the next one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Protocol

from harness.bisect.confirm import Finding, next_step
from harness.bisect.observations import BOOT, Built, Event, Observations, Skipped, Tested, Try
from harness.bisect.search import MAX_FAULTS, Question, Step, Stop
from harness.bisect.signature import Signature
from harness.verdict import BuildError


class Builder(Protocol):
    """Builds the hypervisor of a revision."""

    def build(self, revision: str, /) -> Built:
        """Build ``revision``, or wait until its build ends; BuildError if it does not build."""

    def build_ahead(self, revisions: Iterable[str], /) -> None:
        """Build ``revisions`` in the background, in this order; stop the builds before these."""


class Tester(Protocol):
    """Boots a revision that was built, and tests it."""

    def test(self, revision: str, tries: int, keep_going: bool, /) -> Tested:
        """Boot once and run the test ``tries`` times, or until it fails.

        ``keep_going``: go on after a failure.
        """


Notice = Callable[[Step, Observations], None]


def run(
    question: Question,
    observations: Observations,
    builder: Builder,
    tester: Tester,
    *,
    record: Callable[[Event], None],
    notice: Notice = lambda step, observations: None,
) -> tuple[Finding | Stop, Observations]:
    """Continue from ``observations`` until there is an answer; return it, and all observations.

    ``record`` is called with every event before the next step, ``notice`` before every test.
    """
    # Lab faults in a row, by revision.  Only of this session: the lab may be repaired by now.
    faults: Counter[str] = Counter()

    def add(event: Event) -> None:
        nonlocal observations
        record(event)
        observations = observations.with_event(event)

    while True:
        step = next_step(question, observations)
        if not isinstance(step, Step):
            builder.build_ahead(())
            return step, observations
        if step.revision not in observations.digests:
            try:
                add(builder.build(step.revision))
            except BuildError as error:
                add(Skipped(step.revision, f"does not build: {error}"))
            continue  # choose again: the build may turn out to be the same as another one
        notice(step, observations)
        builder.build_ahead(_next_revisions(question, observations, step))
        tested = _test(tester, step)
        add(tested)
        if _died_booting(tested, question, observations):
            add(Skipped(step.revision, f"does not boot: {tested.tries[-1].message}"))
        target = observations.target(question.commits.bad)
        known = _is_conclusive(observations, tested, target)
        faults[step.revision] = 0 if known else faults[step.revision] + 1
        if faults[step.revision] < MAX_FAULTS:
            continue
        worked = (
            one.revision
            for one in reversed(observations.tested)
            if _is_conclusive(observations, one, target)
        )
        control = next(worked, None)
        why = tested.tries[-1].message if tested.tries else "no test ran"
        if control is None:
            return Stop(f"the lab failed {MAX_FAULTS} times: {why}", "lab"), observations
        check = Step("control", control, 1)
        notice(check, observations)
        add(_test(tester, check))
        if not _is_conclusive(observations, observations.tested[-1], target):
            why = f"the lab fails, also with a revision that worked before: {why}"
            return Stop(why, "lab"), observations
        add(Skipped(step.revision, f"cannot be tested, although others can: {why}"))
        faults[step.revision] = 0


def _test(tester: Tester, step: Step) -> Tested:
    return replace(tester.test(step.revision, step.tries, step.keep_going), stage=step.stage)


def _is_conclusive(observations: Observations, tested: Tested, target: Signature | None) -> bool:
    """Return whether the test of ``target`` passed or failed (it may be skipped, or not reached),
    or any test failed.  A lab fault after that does not change the answer."""
    return any(
        one.outcome == "fail" or (one.outcome == "pass" and observations.is_about(one, target))
        for one in tested.tries
    )


def _died_booting(tested: Tested, question: Question, observations: Observations) -> bool:
    """Return whether Xen died while it booted, and that is not the failure that is searched."""
    target = observations.target(question.commits.bad)
    return any(
        one.test == BOOT and one.outcome == "fail" and one.signature != target
        for one in tested.tries
    )


def _next_revisions(question: Question, observations: Observations, step: Step) -> Iterator[str]:
    """Yield the revisions to test next if ``step`` fails, and if it passes, unless built."""
    target = observations.target(question.commits.bad)
    if target is None:
        yield question.commits.bad if question.boot else question.commits.good
        return
    passed = Try(target.test, "pass")
    failed = Try(target.test, "fail", target)
    for tries in ((failed,), (passed,) * step.tries):
        after = observations.with_event(Tested(step.revision, tries, 0.0, 0.0))
        following = next_step(question, after)
        if isinstance(following, Step) and following.revision not in observations.digests:
            yield following.revision
