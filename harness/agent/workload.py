# SPDX-License-Identifier: GPL-2.0-or-later
"""What a load thread does, step by step: it follows from the seed alone.

``guests/agent/workload.c`` computes the same; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


class Action(IntEnum):
    """What a thread does with a channel of the pool that all threads of its agent share."""

    SEND = 0
    STATUS = 1
    POLL = 2
    UNMASK = 3
    BIND_VCPU = 4
    SET_PRIORITY = 5
    READ = 6  # read events from the device, and enable their ports again
    CLOSE_OR_BIND = 7  # close the channel's bound port; if there is none, bind one
    REALLOCATE = 8  # close the port that others bind to, and allocate another


WEIGHTS: dict[Action, int] = {
    Action.SEND: 72,
    Action.STATUS: 8,
    Action.POLL: 4,
    Action.UNMASK: 8,
    Action.BIND_VCPU: 4,
    Action.SET_PRIORITY: 4,
    Action.READ: 4,
    Action.CLOSE_OR_BIND: 20,
    Action.REALLOCATE: 4,
}
_LOTS = [action for action, weight in WEIGHTS.items() for _ in range(weight)]
assert len(_LOTS) == 128


@dataclass(frozen=True)
class WorkloadStep:
    """One step: ``value`` chooses which port of the channel, vCPU, priority or remote port."""

    action: Action
    channel: int
    value: int


def steps(seed: int, agent: int, thread: int, channels: int) -> Iterator[WorkloadStep]:
    """Yield, without end, the steps of ``thread`` of agent number ``agent`` in the load.

    ``channels`` is how many channels that agent's pool has.
    """
    state = _mix((seed + _mix(agent << 32 | (thread + 1))) & _MASK)
    while True:
        state = (state + _GOLDEN) & _MASK
        bits = _mix(state)
        yield WorkloadStep(_LOTS[bits & 127], (bits >> 7 & 0xFFFFFF) % channels, bits >> 32)


def digest(seed: int, agent: int, thread: int, channels: int, count: int) -> int:
    """Return a 64-bit digest of the first ``count`` steps.

    The agent's command ``workload_digest`` answers the same number.
    """
    value = 0
    for step in islice(steps(seed, agent, thread, channels), count):
        value = _mix(value ^ (step.action | step.channel << 8 | step.value << 32))
    return value


def _mix(z: int) -> int:
    """The output function of the SplitMix64 generator."""
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & _MASK
    return z ^ z >> 31
