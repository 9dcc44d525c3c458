# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest whose Xen is the model itself, and which can be made to lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random

from harness.fuzz.follow import Follower
from harness.fuzz.guest import ProgrammeGuest, Timed
from harness.fuzz.programme import SEEN, TIMED, Seen, Step, TimedSeen, What
from harness.model.evtchn.domain import Domain, GuestKind, Vcpu, World
from harness.model.evtchn.operations import CALL_SITE
from harness.model.evtchn.predict import predict
from harness.model.evtchn.releases import Release
from harness.model.evtchn.rules import by_version
from harness.model.lock.flavours import Flavour, Site

DOMID = 3
WORLD = World(
    (Domain(DOMID, kind=GuestKind.ARM, vcpus=(Vcpu(), Vcpu())),), by_version(Release(4, 17))
)
HZ = 1_000_000_000
_SPAN = 10_000  # ns of an operation: longer than the slack of the clocks

# What is seen instead, after that step in a world; the follower has made it already.
Lie = Callable[[Follower, Step, Seen], Seen]


def encode_timed(seen: Iterable[TimedSeen]) -> bytes:
    """Return ``seen`` as a guest sends it."""
    return b"".join(
        TIMED.pack(*each.seen, each.call, each.ret, each.port, each.value) for each in seen
    )


class _AtOnce(ProgrammeGuest):
    """Makes the steps of two vCPUs as soon as they are begun."""

    def begin_timed(self, both: tuple[Sequence[Step], Sequence[Step]]) -> None:
        self._timed = self.run_timed(both)

    def end_timed(self) -> Timed:
        return self._timed


class ModelGuest(_AtOnce):
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

    def run_timed(self, both: tuple[Sequence[Step], Sequence[Step]]) -> Timed:
        two = TwoVcpus(Random(len(self.made)), self.lie)
        two.world = self._world
        timed = two.run_timed(both)
        self._world = two.world
        return timed


class TwoVcpus(_AtOnce):
    """Makes the steps of two vCPUs in a random order that keeps to the meetings, by the model;
    ``lie`` changes what is seen.  What only tries to get a lock of ``flavour`` may do nothing."""

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
        self.world = WORLD

    def run_timed(self, both: tuple[Sequence[Step], Sequence[Step]]) -> Timed:
        follower = Follower(self.world, DOMID)
        seen: tuple[list[bytes], list[bytes]] = ([], [])
        at, met, now = [0, 0], [0, 0], 0
        free = [0, 0]  # since when each vCPU can have begun its next step
        written = [-1, -1]  # when each vCPU's last writer has ended
        while any(at[v] < len(both[v]) for v in range(2)):
            vcpu = self.chance.choice([v for v in range(2) if _ready(both, at, met, v)])
            step = both[vcpu][at[vcpu]]
            met[vcpu] += step.what == What.MEET
            port, value = follower.port(step), follower.value(step)
            # It comes to pass now; it began before that, and ends after it: meanwhile the other
            # vCPU may make several.
            now = max(now, free[vcpu]) + self.chance.randrange(_SPAN)
            call, ret = self.chance.randint(free[vcpu], now), now + self.chance.randrange(3 * _SPAN)
            inside = call <= written[1 - vcpu] and self.chance.getrandbits(1)
            made = self._dropped(follower, step) if inside else None
            told = self.lie(follower, step, made or follower.follow(step).seen)
            if CALL_SITE.get(type(follower.operation(step))) is Site.WRITER:
                written[vcpu] = ret
            seen[vcpu].append(TIMED.pack(*told, call, ret, port, value))
            at[vcpu] += 1
            free[vcpu] = ret
            if step.what == What.MEET and met[0] == met[1]:
                free = [max(each, now) for each in free]
        self.world = follower.world
        return Timed((b"".join(seen[0]), b"".join(seen[1])), HZ)

    def _dropped(self, follower: Follower, step: Step) -> Seen | None:
        """Return what is seen if ``step`` meets a writer and does nothing; None: it does not."""
        operation = follower.operation(step)
        if operation is None:
            return None
        last = predict(follower.world, operation, flavour=self.flavour, writer_inside=True)[-1]
        if "writer inside" not in last.row or step.what == What.POLL:
            return None
        look = step._replace(what=int(What.LOOK))
        return follower.follow(look).seen._replace(result=last.result.code)


def _ready(
    both: tuple[Sequence[Step], Sequence[Step]], at: list[int], met: list[int], vcpu: int
) -> bool:
    if at[vcpu] == len(both[vcpu]):
        return False
    other = 1 - vcpu
    return met[vcpu] <= met[other] or at[other] == len(both[other])
