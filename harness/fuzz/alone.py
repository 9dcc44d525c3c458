# SPDX-License-Identifier: GPL-2.0-or-later
"""Judges what one side has made while the other one only waited at a meeting.

Nothing changes behind its back then: after each step the port's mask and pending bits in memory are
those of a world in which the vCPUs can have met.  From a reset on all is known, as in a programme
of one vCPU, and all is compared.  Of dom0's memory nothing is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from harness.fuzz.follow import Expected, Follower
from harness.fuzz.memory import Interned, Memory
from harness.fuzz.programme import Seen, SeenBits, What
from harness.fuzz.rounds import Made, answered, plain
from harness.model.evtchn.domain import World

_PENDING, _MASKED = int(SeenBits.PENDING), int(SeenBits.MASKED)


@dataclass(frozen=True)
class Alone:
    """What is known after such a round."""

    worlds: tuple[Interned, ...]  # that explain all; none: what is wrong is below
    pending: bool  # whether pending bits are known
    before: World  # the first step that nothing explains was made in this one, or one like it
    wrong: Made | None = None
    expected: Seen | None = None  # after it, as far as it is known


def after_alone(
    made: Sequence[Made], worlds: tuple[Interned, ...], pending: bool, memory: Memory
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
        then: dict[Interned, None] = {}
        for world in worlds:
            key = "alone", world, one.domid, one.vcpu, one.step, one.seen.seen, exact, pending
            find = partial(_after, one, world.world, memory, exact=exact, pending=pending)
            after = memory.remembered(key, find)
            if after is not None:
                then[after] = None
        if not then:
            before = worlds[0].world
            expected, _ = _followed(one, before, exact=exact)
            told = _told(one, expected.seen, exact=exact, pending=pending)
            return Alone((), pending, before, one, told)
        worlds = tuple(then)
    if exact:
        known = (memory.one(plain(each.world, pending=pending)) for each in worlds)
        return Alone(tuple(dict.fromkeys(known)), pending, worlds[0].world)
    return Alone(worlds, pending, worlds[0].world)


def _after(
    one: Made, before: World, memory: Memory, *, exact: bool, pending: bool
) -> Interned | None:
    """Return the world after a step that was made in ``before``; None: it was not made in it."""
    expected, after = _followed(one, before, exact=exact)
    if not _allowed(one, expected, exact=exact, pending=pending):
        return None
    return memory.one(after if exact else plain(after, pending=pending))


def _followed(one: Made, before: World, *, exact: bool) -> tuple[Expected, World]:
    """Return what must be seen after a step, and the world then."""
    follower = Follower(before if exact else answered(before, one), one.domid, one.vcpu)
    return follower.follow(one.step), follower.world


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
    mask = 0 if one.in_dom0 else _MASKED | _PENDING * pending
    bits = (seen.bits & ~mask) | (expected.bits & mask)
    known = seen._replace(result=expected.result, bits=bits)
    if what == What.STATUS and expected.result == 0:
        known = known._replace(told=expected.told, detail=expected.detail)
    return known
