# SPDX-License-Identifier: GPL-2.0-or-later
"""Judges programmes that two sides make at the same time: both vCPUs, or the guest and dom0."""

from __future__ import annotations

from dataclasses import dataclass

from harness.fuzz.batches import Batch
from harness.fuzz.between import with_domids
from harness.fuzz.guest import Timed
from harness.fuzz.judge import Differs, Followed
from harness.fuzz.orders import RoundJudge, RoundsJudged, Unexplained
from harness.fuzz.programme import DOM0, SEEN, TIMED, Step, What, decode_timed
from harness.fuzz.rounds import grown, rounds
from harness.model.evtchn.domain import Domain, World
from harness.model.lock.flavours import Flavour
from harness.verdict import HarnessError


@dataclass(frozen=True)
class Judgement:
    """What came of a programme of two sides."""

    world: World  # the guest, as far as the next programme, which begins with a reset, needs it
    judged: RoundsJudged | None  # None: it was wrong before they first met
    # A round that no order explains; or a step of vCPU 0 until the first meeting, when it is alone.
    wrong: Unexplained | Differs | None


class TwoSides:
    """Judges programmes of the guest, which is domain ``domid``; Xen's lock is a ``flavour``.

    ``dom0``: what is known of dom0 before a programme.
    """

    def __init__(self, domid: int, flavour: Flavour, dom0: Domain | None) -> None:
        self._domid = domid
        self._dom0 = dom0
        self._rounds = RoundJudge(domid, flavour)

    def judge(self, batch: Batch, timed: Timed, world: World) -> Judgement:
        """Judge what was seen in ``batch``; the guest was as in ``world``."""
        if batch.in_dom0:
            return self._with_dom0(batch, timed, world)
        both = batch.both
        first, second = timed.seen
        meets = (i for i, step in enumerate(both[0]) if step.what == What.MEET)
        alone = next(meets, len(both[0]))
        before, rest = first[: alone * TIMED.size], first[alone * TIMED.size :]
        begin = Batch(both[0][:alone], 0)
        made = zip((*both[0][alone:], *both[1]), decode_timed(rest + second), strict=True)
        followed = Followed(begin.steps, world, self._domid, 0)
        after = grown(followed.after, made)
        seen = [each.seen for each in decode_timed(before)]
        at = followed.wrong(b"".join([SEEN.pack(*each) for each in seen]))
        if at is not None:
            return Judgement(after, None, Differs(begin, followed, seen, at))
        found = rounds((both[0][alone:], both[1]), (rest, second), self._domid)
        judged = self._rounds.judge(found, followed.after, timed.tick_hz)
        return Judgement(after, judged, judged.wrong)

    def _with_dom0(self, batch: Batch, timed: Timed, world: World) -> Judgement:
        if self._dom0 is None:
            raise HarnessError("nothing is known of dom0")
        both = with_domids(batch.both, self._domid)
        made = zip(both[0], decode_timed(timed.seen[0]), strict=True)
        reset = Followed([Step(int(What.BEGIN))], world, self._domid, 0)
        found = rounds(both, timed.seen, self._domid, second=DOM0)
        beside = World((*world.domains, self._dom0), world.rules)
        judged = self._rounds.judge(found, beside, timed.tick_hz)
        return Judgement(grown(reset.after, made), judged, judged.wrong)
