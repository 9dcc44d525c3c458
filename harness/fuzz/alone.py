# SPDX-License-Identifier: GPL-2.0-or-later
"""Judges what one vCPU has made while the other one only waited at a meeting.

Nothing changes behind its back then: after each step the port's mask and pending bits in memory are
those of a world in which the vCPUs can have met.  From a reset on all is known, as in a programme
of one vCPU, and all is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.fuzz.follow import Expected, Follower
from harness.fuzz.programme import Seen, SeenBits, What
from harness.fuzz.rounds import Made, Round, answered, plain
from harness.model.evtchn.domain import World

_PENDING, _MASKED = int(SeenBits.PENDING), int(SeenBits.MASKED)


@dataclass(frozen=True)
class Alone:
    """What is known after such a round."""

    worlds: tuple[World, ...]  # that explain all; none: what is wrong is below
    pending: bool  # whether pending bits are known
    before: World  # the first step that nothing explains was made in this one, or one like it
    wrong: Made | None = None
    expected: Seen | None = None  # after it, as far as it is known


def begins_anew(each: Round) -> bool:
    """Say whether the round has a reset after which all is known."""
    vcpu = each.alone
    return vcpu is not None and any(made.step.what == What.BEGIN for made in each.made[vcpu])


def after_alone(
    made: Sequence[Made], worlds: tuple[World, ...], domid: int, pending: bool
) -> Alone:
    """Return what is known after one vCPU alone has ``made`` that, beginning in one of ``worlds``.

    ``pending``: whether the pending bits of ``worlds`` are known.
    """
    exact = False
    for one in made:
        what = one.step.what
        if what == What.BEGIN:
            exact = pending = True
        elif what == What.TAKE and not exact:
            pending = False
        then: dict[World, None] = {}
        expected: Expected | None = None
        for world in worlds:
            follower = Follower(world if exact else answered(world, one), domid, one.vcpu)
            now = follower.follow(one.step)
            if _allowed(one, now, exact=exact, pending=pending):
                after = follower.world
                then[after if exact else plain(after, pending=pending)] = None
            expected = expected or now
        if not then:
            assert expected is not None
            told = _told(one, expected.seen, exact=exact, pending=pending)
            return Alone((), pending, worlds[0], one, told)
        worlds = tuple(then)
    known = dict.fromkeys(plain(world, pending=pending) for world in worlds) if exact else worlds
    return Alone(tuple(known), pending, worlds[0])


def _allowed(one: Made, expected: Expected, *, exact: bool, pending: bool) -> bool:
    seen = one.seen.seen
    if exact and one.step.what != What.POLL:
        return expected.allows(seen)
    known = _told(one, expected.seen, exact=exact, pending=pending)
    if one.step.what == What.POLL and seen.result == 0:  # an upcall or an event may end it
        known = known._replace(result=0)
    return seen == known


def _told(one: Made, expected: Seen, *, exact: bool, pending: bool) -> Seen:
    """Return what was seen, but for what is known of it and ``expected``."""
    if exact and one.step.what != What.POLL:
        return expected
    seen, what = one.seen.seen, one.step.what
    if what == What.TAKE:
        return seen
    mask = _MASKED | _PENDING * pending
    bits = (seen.bits & ~mask) | (expected.bits & mask)
    known = seen._replace(result=expected.result, bits=bits)
    if what == What.STATUS and expected.result == 0:
        known = known._replace(told=expected.told, detail=expected.detail)
    return known
