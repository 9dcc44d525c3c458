# SPDX-License-Identifier: GPL-2.0-or-later
"""A programme from which Xen did not come back, made shorter on a machine that is restored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from harness.conformance.shortest import shortest
from harness.evidence import Evidence
from harness.evidence.identity import identity
from harness.fuzz.batches import Batch
from harness.fuzz.follow import Follower
from harness.fuzz.hunt import Found, Hunt
from harness.fuzz.judge import Wrong, answer, told, told_of_two
from harness.fuzz.programme import Step, What
from harness.fuzz.sections import Both, section, shortest_both, simpler, times
from harness.fuzz.subject import Subject
from harness.model.evtchn.domain import World
from harness.verdict import HarnessError, HypervisorError

# A lock that was leaked by one programme may hang a later one: so many are tried together first.
_PROGRAMMES = (1, 2, 4, 16)
_TRIES_OF_TWO = 4  # programmes of many repetitions


@dataclass(frozen=True)
class Hung:
    """What did not come back: the last step of the batch; and what the machine shows of it."""

    batch: Batch
    evidence: Evidence

    def found(self, world: World, domid: int, *, seen_again: bool) -> Found:
        """Return it as a Found: up to its last step, the answers are those of the model."""
        follower = Follower(world, domid, self.batch.vcpu)
        if self.batch.second:
            steps = self.batch.steps, self.batch.second
            both = told_of_two(follower, steps, in_dom0=self.batch.in_dom0)
            return Found(self.batch, Wrong(self.evidence, len(both) - 1, both), seen_again)
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

    If it does not hang again, it is returned as it is.  What has hung stays found: if the machine
    fails, or a person has waited long enough, the search ends.
    """
    same = identity(hung.evidence)
    best: Hung | None = None
    vcpu = hung.batch.vcpu
    # An order of two vCPUs comes by chance: it is tried more often.
    tries = _TRIES_OF_TWO if hung.batch.second else 1

    def hangs(batch: Batch) -> bool:
        nonlocal best
        subject.restore()
        hunt = Hunt(subject.guest, subject.world, subject.domid)
        try:
            for _ in range(tries):
                hunt.make(batch)
            return False
        except HarnessError as error:
            cause = subject.live.cause(error)
        if not isinstance(cause, HypervisorError) or cause.evidence is None:
            raise cause
        if identity(cause.evidence) != same:
            return False
        best = Hung(batch, cause.evidence)
        notice(f"{len(batch.steps) + len(batch.second)} steps hang it")
        return True

    def shows(steps: Sequence[Step]) -> bool:
        begins = bool(steps) and steps[0].what == What.BEGIN
        return begins and hangs(Batch(tuple(steps), vcpu))

    def both_show(both: Both) -> bool:
        one = replace(hung.batch, steps=both[0], second=both[1], times=times(both))
        return hangs(one)

    try:
        if hung.batch.second:
            both = hung.batch.both
            last = section(both, (len(both[0]) - 1, len(both[1]) - 1))
            if both_show(last):
                shortest_both(last, both_show, enough)
        elif any(shows(_last(hung.batch.steps, count)) for count in (*_PROGRAMMES, 1 << 30)):
            assert best is not None
            shortest(best.batch.steps, shows, simpler, enough)
        subject.restore()
    except (HarnessError, OSError, KeyboardInterrupt) as error:
        notice(f"no shorter programme: {error or 'interrupted'}")
    return (best or hung).found(subject.world, subject.domid, seen_again=best is not None)


def _last(steps: Sequence[Step], count: int) -> Sequence[Step]:
    """Return the last ``count`` programmes of ``steps``."""
    begins = [at for at, step in enumerate(steps) if step.what == What.BEGIN]
    return steps[begins[-min(count, len(begins))] :]
