"""The loop: build, test, write down, think, until there is an answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Protocol

from harness.bisect.confirm import Finding, next_step
from harness.bisect.plan import FAULTS, Question, Step, Stop
from harness.bisect.signature import Signature
from harness.bisect.tally import BOOT, Built, Event, Skipped, State, Tested, Try
from harness.verdict import BuildError


class Builder(Protocol):
    """Makes a hypervisor of a revision."""

    def build(self, revision: str, /) -> Built:
        """Build ``revision``, or wait for it; BuildError if it does not build."""

    def ahead(self, revisions: Iterable[str], /) -> None:
        """Begin to build ``revisions``, in this order; give up others that were begun."""


class Machine(Protocol):
    """Boots a revision that was built, and tests it."""

    def test(self, revision: str, tries: int, on: bool, /) -> Tested:
        """Run the test so often in one boot; ``on``: also after a failure."""


Notice = Callable[[Step, State], None]


def run(
    question: Question,
    state: State,
    builder: Builder,
    machine: Machine,
    *,
    record: Callable[[Event], None],
    notice: Notice = lambda step, state: None,
) -> tuple[Finding | Stop, State]:
    """Go on from ``state`` to the end; ``record`` is given every event before the next step."""
    faults: Counter[str] = Counter()  # in a row, of this session: the lab may be mended since

    def add(event: Event) -> None:
        nonlocal state
        record(event)
        state = state.after(event)

    while True:
        step = next_step(question, state)
        if not isinstance(step, Step):
            builder.ahead(())
            return step, state
        if step.revision not in state.content:
            try:
                add(builder.build(step.revision))
            except BuildError as error:
                add(Skipped(step.revision, f"does not build: {error}"))
            continue  # the build may have told something: that it is the same as another
        notice(step, state)
        builder.ahead(_likely(question, state, step))
        tested = _test(machine, step)
        add(tested)
        if _no_boot(tested, question, state):
            add(Skipped(step.revision, f"does not boot: {tested.tries[-1].message}"))
        wanted = state.signature(question.commits.bad)
        faults[step.revision] = 0 if _told(tested, wanted) else faults[step.revision] + 1
        if faults[step.revision] < FAULTS:
            continue
        told = (one.revision for one in reversed(state.tested) if _told(one, wanted))
        control = next(told, None)
        why = tested.tries[-1].message if tested.tries else "no test ran"
        if control is None:
            return Stop(f"the lab failed {FAULTS} times: {why}", "lab"), state
        check = Step("control", control, 1)
        notice(check, state)
        add(_test(machine, check))
        if not _told(state.tested[-1], wanted):
            return Stop(f"the lab fails, also with what worked before: {why}", "lab"), state
        add(Skipped(step.revision, f"cannot be tested, others can: {why}"))
        faults[step.revision] = 0


def _test(machine: Machine, step: Step) -> Tested:
    return replace(machine.test(step.revision, step.tries, step.on), stage=step.stage)


def _told(tested: Tested, wanted: Signature | None) -> bool:
    """Say whether the test that counts said anything (it may be skipped, or never reached), or
    anything failed; one fault after it does not spoil what came before."""

    def counts(one: Try) -> bool:
        return one.test == wanted.test if wanted else one.test != BOOT

    outcomes = {one.outcome for one in tested.tries if counts(one) or one.outcome == "fail"}
    return bool(outcomes & {"pass", "fail"})


def _no_boot(tested: Tested, question: Question, state: State) -> bool:
    """Say whether Xen died while booting, and that is not the failure that is looked for."""
    wanted = state.signature(question.commits.bad)
    return any(
        one.test == BOOT and one.outcome == "fail" and one.signature != wanted
        for one in tested.tries
    )


def _likely(question: Question, state: State, step: Step) -> Iterator[str]:
    """Yield the revisions that would be tested next, after either outcome of ``step``."""
    wanted = state.signature(question.commits.bad)
    if wanted is None:
        yield question.commits.good
        return
    passed = Try(wanted.test, "pass")
    failed = Try(wanted.test, "fail", wanted)
    for tries in ((failed,), (passed,) * step.tries):
        after = state.after(Tested(step.revision, tries, 0.0, 0.0))
        following = next_step(question, after)
        if isinstance(following, Step) and following.revision not in state.content:
            yield following.revision
