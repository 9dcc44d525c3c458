# SPDX-License-Identifier: GPL-2.0-or-later
"""A programme from which Xen did not come back, made shorter on a machine that is restored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.conformance.shortest import shortest
from harness.evidence import Evidence
from harness.evidence.identity import identity
from harness.fuzz.follow import Follower
from harness.fuzz.hunt import Batch, Found, Hunt, simpler
from harness.fuzz.judge import Wrong, answer, told
from harness.fuzz.programme import Step, What
from harness.fuzz.subject import Subject
from harness.model.evtchn.domain import World
from harness.verdict import HarnessError, HypervisorError

# A lock that was leaked by one programme may hang a later one: so many are tried together first.
_PROGRAMMES = (1, 2, 4, 16)


@dataclass(frozen=True)
class Hung:
    """What did not come back: the last step of the batch; and what the machine shows of it."""

    batch: Batch
    evidence: Evidence

    def found(self, world: World, domid: int, *, seen_again: bool) -> Found:
        """Return it as a Found: up to its last step, the answers are those of the model."""
        if self.batch.second:
            what = f"{len(self.batch.steps)} steps of vCPU 0 and {len(self.batch.second)} of vCPU 1"
            return Found(self.batch, Wrong(self.evidence, 0, (what,)), seen_again)
        follower = Follower(world, domid, self.batch.vcpu)
        calls = []
        for step in self.batch.steps:
            text = told(follower, step)
            calls.append(f"{text} = {answer(step, follower.follow(step).seen)}")
        calls[-1] = f"{calls[-1].rpartition(' = ')[0]} does not return"
        wrong = Wrong(self.evidence, len(self.batch.steps) - 1, tuple(calls))
        return Found(self.batch, wrong, seen_again)


def shorter_hang(
    hung: Hung, subject: Subject, enough: Callable[[], bool], notice: Callable[[str], None]
) -> Found:
    """Return ``hung`` with as few steps as hang the machine of ``subject`` in the same way, which
    was saved and is restored before each try; the search ends when there has been ``enough``.

    If it does not hang again, it is returned as it is; so is a programme of both vCPUs.  What has
    hung stays found: if the machine fails, or a person has waited long enough, the search ends.
    """
    same = identity(hung.evidence)
    best: Hung | None = None
    vcpu = hung.batch.vcpu

    def shows(steps: Sequence[Step]) -> bool:
        nonlocal best
        if not steps or steps[0].what != What.BEGIN:
            return False
        subject.restore()
        hunt = Hunt(subject.guest, subject.world, subject.domid)
        try:
            hunt.shows(steps, vcpu)
            return False
        except HarnessError as error:
            cause = subject.live.cause(error)
        if not isinstance(cause, HypervisorError) or cause.evidence is None:
            raise cause
        if identity(cause.evidence) != same:
            return False
        best = Hung(Batch(tuple(steps), vcpu), cause.evidence)
        notice(f"{len(steps)} steps hang it")
        return True

    try:
        tries = () if hung.batch.second else (*_PROGRAMMES, 1 << 30)
        if any(shows(_last(hung.batch.steps, count)) for count in tries):
            assert best is not None
            shortest(best.batch.steps, shows, simpler, enough)
        subject.restore()
    except (HarnessError, KeyboardInterrupt) as error:
        notice(f"no shorter programme: {error or 'interrupted'}")
    return (best or hung).found(subject.world, subject.domid, seen_again=best is not None)


def _last(steps: Sequence[Step], count: int) -> Sequence[Step]:
    """Return the last ``count`` programmes of ``steps``."""
    begins = [at for at, step in enumerate(steps) if step.what == What.BEGIN]
    return steps[begins[-min(count, len(begins))] :]
