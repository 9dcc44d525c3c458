# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest and dom0 whose Xen is the model itself, and which can be made to lie."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from harness.fuzz.follow import Follower
from harness.fuzz.guest import ProgrammeGuest, Timed
from harness.fuzz.programme import DOM0, Seen, Step, TimedSeen, What
from harness.fuzz.rounds import dom0_of
from harness.fuzz.sections import between_meetings
from harness.model.evtchn.changed import replace
from harness.model.evtchn.domain import Channel, Domain, GuestKind, State, World
from harness.model.evtchn.operations import CALL_SITE, Operation
from harness.model.evtchn.predict import predict
from harness.model.lock.flavours import Flavour, Site

from .model_guest import DOMID, WORLD, Lie, encode_timed

MODEL_DOM0 = dom0_of(GuestKind.ARM, 2)  # as the judge knows it
BESIDE = World((*WORLD.domains, MODEL_DOM0), WORLD.rules)


def _dom0(chance: Random) -> Domain:
    """Return dom0 as Xen knows it: with ports of Linux's here and there."""
    domain = replace(MODEL_DOM0, fifo=False)
    for port in range(1, 70):
        if chance.randrange(3):
            domain = domain.with_port(port, Channel(State.RESERVED))
    return domain


class GuestAndDom0(ProgrammeGuest):
    """Makes the steps of a guest and dom0 in a random order that keeps to the meetings, by the
    model; ``lie`` changes what is seen.  What only tries to get a lock of ``flavour`` may do
    nothing."""

    def __init__(
        self,
        chance: Random,
        lie: Lie = lambda _f, _step, seen: seen,
        flavour: Flavour | None = None,
    ) -> None:
        self.number = 1
        self.chance = chance
        self.lie = lie
        self.flavour = flavour
        self.guest = WORLD.domains[0]
        self.linux = _dom0(chance)  # outlives a programme, all of whose ports are closed then

    def begin_with_dom0(self, both: tuple[Sequence[Step], Sequence[Step]]) -> None:
        self._timed = self.run_with_dom0(both)

    def end_with_dom0(self) -> Timed:
        return self._timed

    def run_with_dom0(self, both: tuple[Sequence[Step], Sequence[Step]]) -> Timed:
        world = World((self.guest, self.linux), WORLD.rules)
        sides = Follower(world, DOMID), Follower(world, DOM0)
        sides[1].slots = sides[0].slots
        writes = [[_writes(part, sides[side]) for part in between_meetings(both[side])]
                  for side in range(2)]  # fmt: skip
        seen: tuple[list[bytes], list[bytes]] = ([], [])
        at, met = [0, 0], [0, 0]
        while any(at[v] < len(both[v]) for v in range(2)):
            ready = [v for v in range(2) if self._ready(both, at, met, v)]
            side = self.chance.choice(ready)
            follower, step = sides[side], both[side][at[side]]
            here = writes[1 - side][met[side]] if met[side] < len(writes[1 - side]) else False
            port, value = follower.port(step), follower.value(step)
            made = self._dropped(follower, step) if here and self.chance.getrandbits(1) else None
            told = made or follower.follow(step).seen
            if side == 1:
                told = told._replace(bits=0, told=told.told if step.what == What.STATUS else 0)
            told = self.lie(follower, step, told)
            seen[side].append(encode_timed([TimedSeen(told, 0, 0, port, value)]))
            at[side] += 1
            met[side] += step.what == What.MEET
            sides[1 - side].world = follower.world
        sides[1].follow(Step(int(What.CLOSE_ALL)))
        guest, dom0 = sides[1].world.domains
        self.guest, self.linux = guest, dom0
        return Timed((b"".join(seen[0]), b"".join(seen[1])), None)

    def _ready(
        self, both: tuple[Sequence[Step], Sequence[Step]], at: list[int], met: list[int], side: int
    ) -> bool:
        if at[side] == len(both[side]):
            return False
        return met[side] <= met[1 - side] or at[1 - side] == len(both[1 - side])

    def _dropped(self, follower: Follower, step: Step) -> Seen | None:
        """Return what is seen if ``step`` meets a writer and does nothing; None: it does not."""
        operation: Operation | None = follower.operation(step)
        if operation is None or step.what == What.POLL:
            return None
        last = predict(follower.world, operation, flavour=self.flavour, writer_inside=True)[-1]
        if "writer inside" not in last.row:
            return None
        look = step._replace(what=int(What.LOOK))
        return follower.follow(look).seen._replace(result=last.result.code)


def _writes(steps: Sequence[Step], follower: Follower) -> bool:
    return any(CALL_SITE.get(type(follower.operation(step))) is Site.WRITER for step in steps)
