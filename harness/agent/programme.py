"""What a load thread does, step by step, from the seed alone (guests/agent/programme.c)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


class Action(IntEnum):
    """What a thread does with a slot, a channel that all threads of the agent share."""

    SEND = 0
    STATUS = 1
    POLL = 2
    UNMASK = 3
    BIND_VCPU = 4
    SET_PRIORITY = 5
    READ = 6  # take events from the device and enable them again
    TURN_END = 7  # close the end of the channel, or bind it anew
    TURN_ANCHOR = 8  # close the port that others bind to, and allocate another


WEIGHTS: dict[Action, int] = {
    Action.SEND: 72,
    Action.STATUS: 8,
    Action.POLL: 4,
    Action.UNMASK: 8,
    Action.BIND_VCPU: 4,
    Action.SET_PRIORITY: 4,
    Action.READ: 4,
    Action.TURN_END: 20,
    Action.TURN_ANCHOR: 4,
}
_LOTS = [action for action, weight in WEIGHTS.items() for _ in range(weight)]
assert len(_LOTS) == 128


@dataclass(frozen=True)
class Step:
    """One step; ``value`` chooses side, vCPU, priority or remote port."""

    action: Action
    slot: int
    value: int


def steps(seed: int, actor: int, thread: int, slots: int) -> Iterator[Step]:
    """Yield, without end, the programme of ``thread`` of domain number ``actor``."""
    state = _mix((seed + _mix(actor << 32 | (thread + 1))) & _MASK)
    while True:
        state = (state + _GOLDEN) & _MASK
        bits = _mix(state)
        yield Step(_LOTS[bits & 127], (bits >> 7 & 0xFFFFFF) % slots, bits >> 32)


def digest(seed: int, actor: int, thread: int, slots: int, count: int) -> int:
    """Return a digest (64 bits) of the first ``count`` steps; the agent's ``programme`` agrees."""
    value = 0
    for step in islice(steps(seed, actor, thread, slots), count):
        value = _mix(value ^ (step.action | step.slot << 8 | step.value << 32))
    return value


def _mix(z: int) -> int:
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & _MASK
    return z ^ z >> 31
