# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs programmes in one guest and judges them; a disagreement is made as short as it can be.

A batch is many programmes, each of which begins with a reset: so what one of them shows does not
depend on the others, but for what Xen itself remembers of a domain (its buckets of channels, events
that it has saved), which the model remembers as well.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from harness.conformance.shortest import shortest
from harness.evidence.identity import identity
from harness.fuzz.batches import Batch, batches
from harness.fuzz.between import with_domids
from harness.fuzz.guest import ProgrammeGuest, Timed
from harness.fuzz.judge import Differs, Followed, Wrong, explain, explain_rounds
from harness.fuzz.orders import RoundsJudged, Unexplained
from harness.fuzz.programme import (
    NO_OPERATION,
    Flag,
    Step,
    What,
    decode_seen,
)
from harness.fuzz.sections import Both, last_steps, section, shortest_both, simpler, times
from harness.fuzz.two_sides import TwoSides
from harness.model.evtchn.domain import Domain, World
from harness.model.lock.flavours import COUNTER, Flavour
from harness.verdict import HarnessError

SHORTER_SECONDS = 300.0  # so long a shorter programme is looked for, at the most
_PATIENT_TRIES = 3
_TRIES = 3  # to see it again, before anything is left out
# The same of two vCPUs comes by chance.  Each try is many repetitions, and there are tries for so
# many seconds; of a shorter one, so many times as many as were needed at first.
_SECONDS_OF_TWO, _TIMES_AS_MANY = 60.0, 3


@dataclass
class Counts:
    """How much was run, and with what result."""

    programmes: int = 0
    operations: int = 0  # judged
    concurrent: int = 0  # of them: of two sides at once
    two_domains: int = 0  # of these: of the guest and dom0
    undecided: int = 0  # operations of which nothing could be said
    seconds: float = 0.0

    def add(self, steps: Sequence[Step]) -> None:
        """Count ``steps``, which have been judged."""
        self.programmes += sum(step.what == What.BEGIN for step in steps)
        self.operations += sum(step.what not in NO_OPERATION for step in steps)

    def add_rounds(self, batch: Batch, judged: RoundsJudged) -> None:
        """Count ``batch``, which is of two sides."""
        self.programmes += batch.times
        self.operations += judged.operations
        self.concurrent += judged.concurrent
        self.two_domains += judged.concurrent if batch.in_dom0 else 0
        self.undecided += judged.undecided


@dataclass(frozen=True)
class Found:
    """A programme in which Xen has done what the model does not allow."""

    batch: Batch
    wrong: Wrong
    seen_again: bool  # when its steps alone were made again


@dataclass(frozen=True)
class _Answered:
    """A batch that the guest has made."""

    batch: Batch
    followed: Followed | None  # None: it is of two vCPUs
    seen: bytes | Timed


_Judged = Unexplained | Differs | None


class Hunt:
    """Programmes for one guest, which is domain ``domid`` of ``world``, on a Xen with the lock
    ``flavour``."""

    def __init__(
        self,
        guest: ProgrammeGuest,
        world: World,
        domid: int,
        flavour: Flavour = COUNTER,
        fresh: Callable[[], tuple[ProgrammeGuest, World]] | None = None,
        *,
        dom0: Domain | None = None,
        replay: bool = False,
        shorter_seconds: float = SHORTER_SECONDS,
    ) -> None:
        """``fresh`` brings the guest back to its start, if that can be done.

        ``dom0``: what is known of dom0 before a programme that it has a part in; None: it has none.
        ``replay``: a programme of two vCPUs that shows something is not made shorter: it was found
        before, and what is left of it would be kept nowhere; or there is no time for that.
        ``shorter_seconds``: for how long one is made shorter, at the most.
        """
        self._shorter_seconds = shorter_seconds
        self._replay = replay
        self.guest = guest
        self._dom0 = dom0
        self._fresh = fresh
        self._world = world
        self._domid = domid
        self._two_sides = TwoSides(domid, flavour, dom0)
        self.counts = Counts()
        self.found_after = 0.0  # seconds, until the disagreement was seen; 0: there is none
        self._began = time.monotonic()
        self.running = Batch((), 0)  # what the guest was last told to make
        self._begun: Batch | None = None  # the same, until its answer is there

    @property
    def world(self) -> World:
        """The guest as the model knows it, after all that it has made."""
        return self._world

    def run(self, seed: int, seconds: float, report: Callable[[], None]) -> Found | None:
        """Run random batches for ``seconds``; return the first disagreement, or None.

        ``report`` is called after each batch without one.  Raises what the guest raises when it
        does not answer; ``running`` is the batch then.
        """
        began = time.monotonic()
        for batch in batches(seed, with_dom0=self._dom0 is not None):
            answered = self._end()
            over = answered is not None and time.monotonic() - began > seconds
            failed: HarnessError | OSError | None = None
            try:
                if not over:
                    self._begin(batch)  # the guest makes it while the one before is judged
            except (HarnessError, OSError) as error:
                failed, self._begun = error, None
            if answered is not None:
                found = self._found(answered)
                if found is not None:
                    return found
                report()
            if failed is not None:
                raise failed
            if over:
                break
        return None

    def batch(self, batch: Batch) -> Found | None:
        """Run one batch; return the first disagreement, made shorter.

        Raises as ``run`` does.
        """
        self._begin(batch)
        answered = self._end()
        assert answered is not None
        return self._found(answered)

    def _begin(self, batch: Batch) -> None:
        """Have the guest make ``batch``."""
        self.running = self._begun = batch
        if batch.in_dom0:
            self.guest.begin_with_dom0(with_domids(batch.both, self._domid))
        elif batch.second:
            self.guest.begin_timed(batch.both)
        else:
            self.guest.begin(batch.steps, batch.vcpu)

    def _end(self) -> _Answered | None:
        """Return the batch that was begun, when the guest has made it; None: there is none.

        Meanwhile the model follows what one vCPU makes.
        """
        batch, self._begun = self._begun, None
        if batch is None:
            return None
        if batch.in_dom0:
            return _Answered(batch, None, self.guest.end_with_dom0())
        if batch.second:
            return _Answered(batch, None, self.guest.end_timed())
        followed = Followed(batch.steps, self._world, self._domid, batch.vcpu)
        seen = self.guest.end()
        self._world = followed.after
        return _Answered(batch, followed, seen)

    def _found(self, answered: _Answered) -> Found | None:
        """Return what is wrong with what the guest has answered, made shorter.

        The guest may be at work on the next batch.  That is judged as well before the guest makes
        anything else.
        """
        try:
            judged = self._judge(answered)
            if judged is None:
                return None
            seen_after = time.monotonic() - self._began
            found = None
            for batch, wrong in ((answered.batch, judged), *self._next(judged)):
                found = found or self._confirmed(batch, wrong)
            self.found_after = seen_after if found is not None else 0.0
            return found
        finally:
            self.counts.seconds = time.monotonic() - self._began

    def _next(self, judged: _Judged) -> Iterator[tuple[Batch, _Judged]]:
        """Yield the batch at which the guest is at work, and what is wrong in it.

        If Xen hangs there, or a person does not wait, what was ``judged`` before stays found.
        """
        try:
            answered = self._end()
        except (HarnessError, OSError, KeyboardInterrupt):
            if isinstance(judged, Differs) and not judged.certain:
                raise
            return
        if answered is not None:
            yield answered.batch, self._judge(answered)

    def _confirmed(self, batch: Batch, judged: _Judged) -> Found | None:
        """Return what was ``judged`` wrong in ``batch``, made shorter."""
        if judged is None:
            return None
        if isinstance(judged, Differs):
            return self._disagrees(judged)
        if self._replay:
            return Found(batch, explain_rounds(judged, self._domid), True)
        return self._shorter_of_two(batch, judged)

    def _explained(self, judged: _Judged) -> Wrong | None:
        if judged is None:
            return None
        if isinstance(judged, Unexplained):
            return explain_rounds(judged, self._domid)
        return explain(judged.followed, judged.seen, judged.at)

    def _made(self, batch: Batch) -> _Judged:
        """Have the guest make ``batch``; return what is wrong with it."""
        self._begin(batch)
        answered = self._end()
        assert answered is not None
        return self._wrong(answered)

    def _made_by_two(self, batch: Batch) -> _Judged:
        """The same of a batch of two vCPUs, of which one may have no step left."""
        self.running = batch
        return self._wrong_of_two(batch, self._run_of_two(batch))

    def _run_of_two(self, batch: Batch) -> Timed:
        if batch.in_dom0:
            return self.guest.run_with_dom0(with_domids(batch.both, self._domid))
        return self.guest.run_timed(batch.both)

    def _judge(self, answered: _Answered) -> _Judged:
        """Return what is wrong with what the guest has answered; count what is not."""
        judged, batch = self._wrong(answered), answered.batch
        if not batch.second:
            right = batch.one(judged.at)[0] if isinstance(judged, Differs) else len(batch.steps)
            self.counts.add(batch.steps[:right])
        return judged

    def _wrong(self, answered: _Answered) -> _Judged:
        followed, seen = answered.followed, answered.seen
        if isinstance(seen, Timed):
            return self._wrong_of_two(answered.batch, seen)
        assert followed is not None
        at = followed.wrong(seen)
        return None if at is None else Differs(answered.batch, followed, decode_seen(seen), at)

    def _wrong_of_two(self, batch: Batch, timed: Timed) -> _Judged:
        """Count what is judged of a programme of two sides; return what is wrong in it."""
        done = self._two_sides.judge(batch, timed, self._world)
        self._world = done.world
        if done.judged is not None:
            self.counts.add_rounds(batch, done.judged)
        return done.wrong

    def _shorter_of_two(self, batch: Batch, wrong: Unexplained) -> Found:
        """Return what is ``wrong`` in ``batch`` with as few steps as show the same if they are made
        many times; the batch, if it is not seen again.

        After a try in which the guest has seen what the model allows, the next one needs no fresh
        guest: as in the hunt, it begins with a reset.
        """
        best = Found(batch, explain_rounds(wrong, self._domid), False)
        same, began = identity(best.wrong.evidence), time.monotonic()
        spoilt = True

        def tried(both: Both, most: int, ends: float) -> int:
            """Return how many tries it took to see it again; 0: it was not seen."""
            nonlocal best, spoilt
            one = replace(batch, steps=both[0], second=both[1], times=times(both))
            for number in range(1, most + 1):
                if self._fresh is not None and spoilt:
                    self.guest, self._world = self._fresh()
                now = self._explained(self._made_by_two(one))
                spoilt = now is not None
                if now is not None and identity(now.evidence) == same:
                    best = Found(one, now, True)
                    return number
                if time.monotonic() > ends:
                    break
            return 0

        whole = batch.both
        with suppress(HarnessError, OSError, KeyboardInterrupt):
            last = section(whole, last_steps(whole, wrong, from_meeting=not batch.in_dom0))
            needed = tried(last, sys.maxsize, began + _SECONDS_OF_TWO)
            ends = began + self._shorter_seconds
            if needed:
                shortest_both(
                    last,
                    lambda both: bool(tried(both, _TIMES_AS_MANY * needed, ends)),
                    lambda: time.monotonic() > ends,
                )
        return best

    def _disagrees(self, differs: Differs) -> Found | None:
        """Return what differs, made shorter; None if it tells nothing, because it is only a poll
        that took long."""
        batch, followed, at = differs.batch, differs.followed, differs.at
        begin, steps = batch.one(at)
        before = Followed(batch.steps[:begin], followed.before, self._domid, batch.vcpu).after
        one = Followed(steps, before, self._domid, batch.vcpu)
        results = differs.seen[begin : at + 1]
        if not differs.certain and not self._sleeps_again(steps, batch.vcpu):
            self.counts.add(batch.steps[begin:at])
            self.counts.undecided += sum(s.what not in NO_OPERATION for s in batch.steps[at:])
            return None
        wrong = explain(one, results, at - begin)
        found = Found(Batch(tuple(steps), batch.vcpu), wrong, False)
        return self._shorter(found, batch.steps[:begin])

    def shows(self, steps: Sequence[Step], vcpu: int) -> Wrong | None:
        """Run ``steps`` alone; return what is wrong then, or None."""
        return self._explained(self._made(Batch(tuple(steps), vcpu)))

    def make(self, batch: Batch) -> None:
        """Have the guest make ``batch``, and judge nothing.  Raises as ``run`` does."""
        self.running = batch
        if batch.second:
            self._run_of_two(batch)
        else:
            self.guest.run(batch.steps, batch.vcpu)

    def _sleeps_again(self, steps: Sequence[Step], vcpu: int) -> bool:
        """Say whether a poll is wrong each time, also with a time-out that no busy machine makes a
        poll wait for."""
        patient = [
            step._replace(flags=step.flags | Flag.PATIENT) if step.what == What.POLL else step
            for step in steps
        ]
        return all(self.shows(patient, vcpu) for _ in range(_PATIENT_TRIES))

    def _shorter(self, found: Found, before: Sequence[Step]) -> Found:
        """Return ``found`` with as few steps as show the same; ``before``: the programmes that were
        made before it, which may be needed.

        Each try begins with a fresh guest, where there is one: what Xen has done wrong, and the
        model does not know of, outlives a reset.
        What is found stays found: if the guest does not answer any more, or a person has waited
        long enough, the search ends.
        """
        best, ends = found, time.monotonic() + self._shorter_seconds
        vcpu = found.batch.vcpu
        same = identity(found.wrong.evidence)

        def shows(steps: Sequence[Step]) -> bool:
            nonlocal best
            if not steps or steps[0].what != What.BEGIN:
                return False
            if self._fresh is not None:
                self.guest, self._world = self._fresh()
            wrong = self.shows(steps, vcpu)
            if wrong is None or identity(wrong.evidence) != same:
                return False
            best = Found(Batch(tuple(steps[: wrong.step + 1]), vcpu), wrong, True)
            return True

        with suppress(HarnessError, OSError, KeyboardInterrupt):
            tries = [found.batch.steps] * _TRIES + [(*before, *found.batch.steps)] * bool(before)
            if any(map(shows, tries)):
                shortest(best.batch.steps, shows, simpler, lambda: time.monotonic() > ends)
        return best
