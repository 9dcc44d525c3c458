# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest whose Xen is the model itself, and which can be made to lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.fuzz.follow import Follower
from harness.fuzz.guest import ProgrammeGuest
from harness.fuzz.programme import SEEN, Seen, Step
from harness.model.evtchn.domain import Domain, GuestKind, Vcpu, World
from harness.model.evtchn.releases import Release
from harness.model.evtchn.rules import by_version

DOMID = 3
WORLD = World(
    (Domain(DOMID, kind=GuestKind.ARM, vcpus=(Vcpu(), Vcpu())),), by_version(Release(4, 17))
)

# What is seen instead, after that step in a world; the follower has made it already.
Lie = Callable[[Follower, Step, Seen], Seen]


class ModelGuest(ProgrammeGuest):
    """Makes programmes as the model says; ``lie`` changes what is seen."""

    def __init__(self, lie: Lie = lambda _follower, _step, seen: seen) -> None:
        self.number = 1
        self.lie = lie
        self.made: list[tuple[Step, ...]] = []
        self._world = WORLD
        self._said = b""

    def begin(self, steps: Sequence[Step], vcpu: int) -> None:
        self.made.append(tuple(steps))
        follower = Follower(self._world, DOMID, vcpu)
        seen = []
        for step in steps:
            expected = follower.follow(step).seen
            seen.append(SEEN.pack(*self.lie(follower, step, expected)))
        self._world = follower.world
        self._said = b"".join(seen)

    def end(self) -> bytes:
        return self._said
