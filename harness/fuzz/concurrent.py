# SPDX-License-Identifier: GPL-2.0-or-later
"""Random programmes of both vCPUs at once.

Both vCPUs use the same few slots, so they close, bind and send on the same ports.  They meet again
and again, and begin together.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from harness.fuzz.programme import Flag, Step, What
from harness.model.evtchn.abi import DOMID_SELF

_MEETINGS = 120  # of a programme
_MOST_AT_ONCE = 6  # operations of one vCPU between two meetings
_SLOTS = 6  # few: the vCPUs shall use the same ports
_LONGEST_DELAY = 3000  # ns
_PORTS = 24  # of which the state is asked for at the end
# The first port of each bucket that a programme may make Xen allocate: whether they are valid is
# asked for last, because the model has to know it from then on.
BUCKETS = (64, 128, 192, 256, 320)
_VIRQS = (1, 7, 13, 15, 16, 17)  # nobody raises them


def concurrent_programme(chance: Random) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """Return the next random programme of ``chance``: the steps of vCPU 0, and those of vCPU 1."""
    first, second = [Step(int(What.BEGIN))], list[Step]()
    if chance.getrandbits(1):
        first += [Step(int(What.INIT_CONTROL), number=vcpu) for vcpu in range(2)]
        first += [Step(int(What.EXPAND_ARRAY)), *(Step(int(What.TAKE), number=v) for v in range(2))]
    for _ in range(_MEETINGS):
        for steps in (first, second):
            steps.append(Step(int(What.MEET)))
            if chance.getrandbits(1):
                steps.append(Step(int(What.DELAY), value=chance.randrange(_LONGEST_DELAY)))
            for _ in range(chance.randint(1, _MOST_AT_ONCE)):
                steps += _MAKE[chance.getrandbits(5)](chance)
    for steps in (first, second):
        steps.append(Step(int(What.MEET)))
    ports = (*range(1, _PORTS), *BUCKETS)
    first += [Step(int(What.STATUS), port=port, value=DOMID_SELF) for port in ports]
    return tuple(first), tuple(second)


def _slot(chance: Random) -> int:
    """Return a slot, the lower ones more often: the more often both vCPUs are at one port."""
    return 1 + min(chance.randrange(_SLOTS), chance.randrange(_SLOTS))


def _on_port(what: What, chance: Random, value: int = 0) -> Step:
    return Step(int(what), int(Flag.PORT_OF_SLOT), port=_slot(chance), value=value)


def _close(chance: Random) -> list[Step]:
    return [_on_port(What.CLOSE, chance)]


def _anew(what: What, chance: Random, port: int, value: int, flags: int = 0) -> list[Step]:
    """Close what is in a slot, and put a new port there: so there are never many."""
    slot = _slot(chance)
    closed = Step(int(What.CLOSE), int(Flag.PORT_OF_SLOT), port=slot)
    return [closed, Step(int(what), flags, slot=slot, port=port, value=value)]


def _alloc(chance: Random) -> list[Step]:
    return _anew(What.ALLOC_UNBOUND, chance, DOMID_SELF, DOMID_SELF)


def _bind(chance: Random) -> list[Step]:
    flags = int(Flag.PORT_OF_SLOT)
    return _anew(What.BIND_INTERDOMAIN, chance, _slot(chance), DOMID_SELF, flags)


def _ipi(chance: Random) -> list[Step]:
    return _anew(What.BIND_IPI, chance, 0, chance.getrandbits(1))


def _virq(chance: Random) -> list[Step]:
    return _anew(What.BIND_VIRQ, chance, chance.choice(_VIRQS), 0)


def _send(chance: Random) -> list[Step]:
    return [_on_port(What.SEND, chance)]


def _unmask(chance: Random) -> list[Step]:
    return [_on_port(What.UNMASK, chance)]


def _status(chance: Random) -> list[Step]:
    return [_on_port(What.STATUS, chance, DOMID_SELF)]


def _bind_vcpu(chance: Random) -> list[Step]:
    return [_on_port(What.BIND_VCPU, chance, chance.getrandbits(1))]


def _set_priority(chance: Random) -> list[Step]:
    return [_on_port(What.SET_PRIORITY, chance, chance.getrandbits(4))]


def _poll(chance: Random) -> list[Step]:
    flags = int(Flag.PORT_OF_SLOT | Flag.PAST)
    return [Step(int(What.POLL), flags, number=1, port=_slot(chance))]


def _take(chance: Random) -> list[Step]:
    return [Step(int(What.TAKE), number=chance.getrandbits(1))]


_Make = Callable[[Random], list[Step]]
_MAKE: tuple[_Make, ...] = (
    *(_send,) * 9,
    *(_close,) * 4,
    *(_alloc,) * 3,
    *(_bind,) * 4,
    *(_unmask,) * 4,
    *(_ipi,) * 1,
    *(_virq,) * 1,
    *(_status,) * 1,
    *(_bind_vcpu,) * 1,
    *(_set_priority,) * 1,
    *(_poll,) * 2,
    *(_take,) * 1,
)
assert len(_MAKE) == 32
