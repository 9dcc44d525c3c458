# SPDX-License-Identifier: GPL-2.0-or-later
"""Duels: a few operations of two vCPUs that meet at the same ports, again and again, each time with
another delay between them.

A fault of a lock shows only if an operation of one vCPU falls into a window of the other one's,
which is some instructions wide: at another place in each pair of operations.  So one vCPU makes
everything anew, both begin together, one of them some loops later, and then the first one looks at
what has come of it: statuses, mask and pending bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from harness.fuzz.programme import Bit, Flag, Step, What
from harness.model.evtchn.abi import DOMID_SELF

_DUELS = 10  # of a programme
_TIMES = 40  # each
_MOST_AT_ONCE = 3  # operations of one vCPU
# 2 to the power of these: from what the vCPUs leave a meeting apart to the length of a hypercall.
_LOOPS = (8, 13)
_FIFO_ONES = 4  # one duel of so many is with FIFO
_VIRQS = (1, 7, 15)  # nobody raises them
_A, _B, _NEW = 1, 2, 3  # slots: a port, its peer, and what a vCPU opens meanwhile
_PORTS = range(1, 5)  # that can have been opened
_OF_SLOT = int(Flag.PORT_OF_SLOT)

_Steps = list[Step]
_Begin = Callable[[Random], _Steps]
_Make = Callable[[Random, int], Step]


def duels(chance: Random) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """Return the next programme of duels of ``chance``: the steps of vCPU 0, and of vCPU 1."""
    first, second = [Step(int(What.BEGIN)), meeting(0)], [meeting(0)]
    for _ in range(_DUELS):
        setup, one, other = _duel(chance)
        for _ in range(_TIMES):
            loops = delays(chance)
            first += [*setup, meeting(loops[0]), *one, meeting(0), *_LOOKS]
            second += [meeting(loops[1]), *other, meeting(0)]
    return tuple(first), tuple(second)


def delays(chance: Random) -> tuple[int, int]:
    """Return for how many loops each vCPU waits before its part of a duel: one of them for none."""
    loops = chance.randrange(1 << chance.randint(*_LOOPS))
    return (loops, 0) if chance.getrandbits(1) else (0, loops)


def repeated(
    both: tuple[Sequence[Step], Sequence[Step]],
    times: int,
    waits: Callable[[Random], tuple[int, int]],
) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """Return the steps of both sides, which begin with a reset, so many times one after the other,
    each time with other ``waits`` after the meetings; the same ones for the same ``times``."""
    if times == 1:
        return tuple(both[0]), tuple(both[1])
    chance = Random(times)
    first, second = list[Step](), list[Step]()
    met = [sum(step.what == What.MEET for step in part) for part in both]
    meetings = max(met)
    for _ in range(times):
        loops = [waits(chance) for _ in range(meetings)]
        for vcpu, made in enumerate((first, second)):
            meets = iter(loops)
            made += [
                step._replace(value=next(meets)[vcpu]) if step.what == What.MEET else step
                for step in both[vcpu]
            ]
            made += [meeting(0)] * (meetings - met[vcpu] + 1)
    return tuple(first), tuple(second)


def meeting(loops: int) -> Step:
    return Step(int(What.MEET), value=loops)


_LOOKS = [Step(int(What.STATUS), port=port, value=DOMID_SELF) for port in _PORTS]


def _duel(chance: Random) -> tuple[_Steps, _Steps, _Steps]:
    """Return what is made before it, and what each vCPU makes in it."""
    setup = [Step(int(What.BEGIN))]
    if chance.randrange(_FIFO_ONES) == 0:
        setup += [Step(int(What.INIT_CONTROL), number=vcpu) for vcpu in range(2)]
        setup += [Step(int(What.EXPAND_ARRAY)), *(Step(int(What.TAKE), number=v) for v in range(2))]
    begin, ends, writers = chance.choice(_SETUPS)
    setup += begin(chance)
    for slot in range(_A, _A + ends):
        if chance.getrandbits(1):
            masked = int(Bit.MASKED)
            setup.append(Step(int(What.SET_BIT), _OF_SLOT, port=slot, number=masked))
        if chance.randrange(4) == 0:
            setup.append(Step(int(What.BIND_VCPU), _OF_SLOT, port=slot, value=1))
    # What changes a channel against anything: readers alone have nothing to get wrong.
    writer = chance.choice(writers)(chance, ends)
    more = chance.randrange(_MOST_AT_ONCE)
    one = [writer, *(chance.choice(_ANY)(chance, ends) for _ in range(more))]
    other = [chance.choice(_ANY)(chance, ends)]
    if chance.getrandbits(1):  # one more of the same: it meets more of the other one's windows
        other *= chance.randint(2, _MOST_AT_ONCE)
    elif chance.getrandbits(1):
        other.append(chance.choice(_ANY)(chance, ends))
    return (setup, one, other) if chance.getrandbits(1) else (setup, other, one)


# -- what there is before --------------------------------------------------------------------


def _unbound(chance: Random) -> _Steps:
    return [Step(int(What.ALLOC_UNBOUND), slot=_A, port=DOMID_SELF, value=DOMID_SELF)]


def _pair(chance: Random) -> _Steps:
    bind = Step(int(What.BIND_INTERDOMAIN), _OF_SLOT, slot=_B, port=_A, value=DOMID_SELF)
    pending = Step(int(What.CLEAR_BIT), _OF_SLOT, port=_B, number=int(Bit.PENDING))
    return [*_unbound(chance), bind, *[pending] * chance.getrandbits(1)]


def _ipi(chance: Random) -> _Steps:
    return [Step(int(What.BIND_IPI), slot=_A, value=chance.getrandbits(1))]


def _virq(chance: Random) -> _Steps:
    return [Step(int(What.BIND_VIRQ), slot=_A, port=chance.choice(_VIRQS))]


def _closed(chance: Random) -> _Steps:
    return [*_unbound(chance), Step(int(What.CLOSE), _OF_SLOT, port=_A)]


# -- the operations ---------------------------------------------------------------------------


# ``ends``: how many slots have a port.


def _on(what: What) -> _Make:
    return lambda chance, ends: Step(int(what), _OF_SLOT, port=_end(chance, ends))


def _end(chance: Random, ends: int) -> int:
    return chance.randint(_A, _A + ends - 1)


def _bind(chance: Random, ends: int) -> Step:
    what = int(What.BIND_INTERDOMAIN)
    return Step(what, _OF_SLOT, slot=_NEW, port=_end(chance, ends), value=DOMID_SELF)


def _alloc(chance: Random, ends: int) -> Step:
    slot = chance.choice((_A, _NEW))
    return Step(int(What.ALLOC_UNBOUND), slot=slot, port=DOMID_SELF, value=DOMID_SELF)


def _bind_ipi(chance: Random, ends: int) -> Step:
    return Step(int(What.BIND_IPI), slot=_NEW, value=chance.getrandbits(1))


def _bind_virq(chance: Random, ends: int) -> Step:
    return Step(int(What.BIND_VIRQ), slot=_NEW, port=chance.choice(_VIRQS))


def _bind_vcpu(chance: Random, ends: int) -> Step:
    vcpu = chance.getrandbits(1)
    return Step(int(What.BIND_VCPU), _OF_SLOT, port=_end(chance, ends), value=vcpu)


def _poll(chance: Random, ends: int) -> Step:
    flags = _OF_SLOT | int(Flag.PAST)
    return Step(int(What.POLL), flags, port=_end(chance, ends), number=1)


def _status(chance: Random, ends: int) -> Step:
    return Step(int(What.STATUS), _OF_SLOT, port=_end(chance, ends), value=DOMID_SELF)


def _mask(chance: Random, ends: int) -> Step:
    what = int(What.SET_BIT if chance.getrandbits(1) else What.CLEAR_BIT)
    return Step(what, _OF_SLOT, port=_end(chance, ends), number=int(Bit.MASKED))


def _set_priority(chance: Random, ends: int) -> Step:
    priority = chance.getrandbits(4)
    return Step(int(What.SET_PRIORITY), _OF_SLOT, port=_end(chance, ends), value=priority)


_CLOSE = _on(What.CLOSE)
_NEW_ONES: tuple[_Make, ...] = (_alloc, _bind_ipi, _bind_virq)
_ANY: tuple[_Make, ...] = (
    *(_on(What.SEND),) * 6,
    *(_on(What.UNMASK),) * 4,
    *(_CLOSE,) * 2,
    *(_bind,) * 2,
    _alloc,
    _bind_virq,
    _bind_vcpu,
    _poll,
    _status,
    _mask,
    _set_priority,
)
# What there is before, in how many slots, and the writers that change it.
_SETUPS: tuple[tuple[_Begin, int, tuple[_Make, ...]], ...] = (
    *((_pair, 2, (*(_CLOSE,) * 5, _bind, _alloc)),) * 3,
    *((_unbound, 1, (*(_bind,) * 4, *(_CLOSE,) * 2, _alloc)),) * 2,
    (_ipi, 1, (*(_CLOSE,) * 4, *_NEW_ONES)),
    (_virq, 1, (*(_CLOSE,) * 4, *_NEW_ONES)),
    (_closed, 1, _NEW_ONES),
)
