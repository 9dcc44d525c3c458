# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs programmes in one guest and judges them; a disagreement is made as short as it can be.

A batch is many programmes, each of which begins with a reset: so what one of them shows does not
depend on the others, but for what Xen itself remembers of a domain (its buckets of channels, events
that it has saved), which the model remembers as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from harness.conformance.shortest import shortest
from harness.evidence.identity import identity
from harness.fuzz.generate import programme
from harness.fuzz.guest import ProgrammeGuest
from harness.fuzz.judge import Followed, Wrong, explain, slept_only
from harness.fuzz.programme import NO_OPERATION, Flag, Step, What, decode_seen
from harness.model.evtchn.domain import World

SHORTER_SECONDS = 300.0  # so long a shorter programme is looked for, at the most
_BATCH = 2500  # steps
_PATIENT_TRIES = 3
_TRIES = 3  # to see it again, before anything is left out


@dataclass(frozen=True)
class Batch:
    """Programmes that go to the guest in one message, for one of its vCPUs."""

    steps: tuple[Step, ...]
    vcpu: int

    def one(self, at: int) -> tuple[int, list[Step]]:
        """Return where the programme that has step ``at`` begins, and its steps up to that one."""
        begin = max(i for i in range(at + 1) if self.steps[i].what == What.BEGIN)
        return begin, list(self.steps[begin : at + 1])


def batches(seed: int) -> Iterator[Batch]:
    """Yield random batches; the same for the same ``seed``."""
    chance = Random(seed)
    while True:
        steps: list[Step] = []
        while len(steps) < _BATCH:
            steps += programme(chance)
        yield Batch(tuple(steps), chance.getrandbits(1))


@dataclass
class Counts:
    """How much was run, and with what result."""

    programmes: int = 0
    operations: int = 0  # judged
    undecided: int = 0  # programmes of which a poll's time did not tell whether it had slept
    seconds: float = 0.0

    def add(self, steps: Sequence[Step]) -> None:
        """Count ``steps``, which have been judged."""
        self.programmes += sum(step.what == What.BEGIN for step in steps)
        self.operations += sum(step.what not in NO_OPERATION for step in steps)


@dataclass(frozen=True)
class Found:
    """A programme in which Xen has done what the model does not allow."""

    steps: tuple[Step, ...]
    vcpu: int
    wrong: Wrong
    seen_again: bool  # when its steps alone were made again


class Hunt:
    """Programmes for one guest, which is domain ``domid`` of ``world``."""

    def __init__(self, guest: ProgrammeGuest, world: World, domid: int) -> None:
        self.guest = guest
        self._world = world
        self._domid = domid
        self.counts = Counts()
        self.found_after = 0.0  # seconds, until the disagreement was seen; 0: there is none
        self._began = time.monotonic()
        self.running = Batch((), 0)  # what the guest was last told to make

    def run(self, seed: int, seconds: float, report: Callable[[], None]) -> Found | None:
        """Run random batches for ``seconds``; return the first disagreement, or None.

        ``report`` is called after each batch.  Raises what the guest raises when it does not
        answer; ``running`` is the batch then.
        """
        began = time.monotonic()
        for batch in batches(seed):
            found = self.batch(batch)
            self.counts.seconds = time.monotonic() - began
            report()
            if found is not None or self.counts.seconds > seconds:
                return found
        return None

    def batch(self, batch: Batch) -> Found | None:
        """Run one batch; return the first disagreement, made shorter.

        Raises as ``run`` does.
        """
        followed, seen = self._made(batch)
        at = followed.wrong(seen)
        if at is None:
            self.counts.add(batch.steps)
            return None
        begin, steps = batch.one(at)
        self.counts.add(batch.steps[:begin])
        before = Followed(batch.steps[:begin], followed.before, self._domid, batch.vcpu).after
        one = Followed(steps, before, self._domid, batch.vcpu)
        results = decode_seen(seen)[begin : at + 1]
        if slept_only(one.expected[-1], results[-1]) and not self._sleeps_again(steps, batch.vcpu):
            self.counts.undecided += 1
            return None
        wrong = explain(one, results, at - begin)
        self.found_after = time.monotonic() - self._began
        return self._shorter(Found(tuple(steps), batch.vcpu, wrong, False))

    def shows(self, steps: Sequence[Step], vcpu: int) -> Wrong | None:
        """Run ``steps`` alone; return what is wrong then, or None."""
        followed, seen = self._made(Batch(tuple(steps), vcpu))
        at = followed.wrong(seen)
        return None if at is None else explain(followed, decode_seen(seen), at)

    def _made(self, batch: Batch) -> tuple[Followed, bytes]:
        """Have the guest make ``batch``; meanwhile the model follows it."""
        self.running = batch
        self.guest.begin(batch.steps, batch.vcpu)
        followed = Followed(batch.steps, self._world, self._domid, batch.vcpu)
        seen = self.guest.end()
        self._world = followed.after
        return followed, seen

    def _sleeps_again(self, steps: Sequence[Step], vcpu: int) -> bool:
        """Say whether a poll is wrong each time, also with a time-out that no busy machine makes a
        poll wait for."""
        patient = [
            step._replace(flags=step.flags | Flag.PATIENT) if step.what == What.POLL else step
            for step in steps
        ]
        return all(self.shows(patient, vcpu) for _ in range(_PATIENT_TRIES))

    def _shorter(self, found: Found) -> Found:
        """Return ``found`` with as few steps as show the same."""
        best, ends = found, time.monotonic() + SHORTER_SECONDS
        same = identity(found.wrong.evidence)

        def shows(steps: Sequence[Step]) -> bool:
            nonlocal best
            if not steps or steps[0].what != What.BEGIN:
                return False
            wrong = self.shows(steps, found.vcpu)
            if wrong is None or identity(wrong.evidence) != same:
                return False
            best = Found(tuple(steps[: wrong.step + 1]), found.vcpu, wrong, True)
            return True

        if any(shows(found.steps) for _ in range(_TRIES)):
            shortest(best.steps, shows, simpler, lambda: time.monotonic() > ends)
        return best


def simpler(step: Step) -> list[Step]:
    """Return ``step`` with less about it, the simplest first."""
    found = []
    for flag in (Flag.FAULT_IN, Flag.FAULT_OUT, Flag.BAD_FRAME):
        if step.flags & flag:
            found.append(step._replace(flags=step.flags & ~flag))
    if step.what == What.POLL and step.number > 1:
        found.append(step._replace(number=1, value=0, flags=step.flags & ~Flag.VALUE_OF_SLOT))
    if step.what in _FREE_VALUES and step.value and not step.flags & Flag.VALUE_OF_SLOT:
        found.append(step._replace(value=0))
    return found


_FREE_VALUES = frozenset({What.BIND_VCPU, What.SET_PRIORITY, What.BIND_IPI, What.INIT_CONTROL})
