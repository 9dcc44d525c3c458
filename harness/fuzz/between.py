# SPDX-License-Identifier: GPL-2.0-or-later
"""Duels between two domains: the guest's vCPU 0, and dom0, at the ends of one channel.

As in duels of two vCPUs (harness/fuzz/duels.py) all is made anew, both begin together, one of them
some loops later, and then each looks at its own ports.  A programme does not know the guest's
domid: ``OTHER_DOMAIN`` stands for it in dom0's steps, and for dom0's in the guest's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from harness.fuzz.duels import delays, meeting
from harness.fuzz.programme import DOM0, OTHER_DOMAIN, Bit, Flag, Step, What
from harness.model.evtchn.abi import DOMID_SELF

_DUELS = 8  # of a programme
_TIMES = 25  # each
_LONGER = 3  # the delay of the guest is doubled less often than that
_MOST_AT_ONCE = 3  # operations of one side
_FIFO_ONES = 4  # one duel of so many is with FIFO in the guest
# Slots.  A domain closes, sends and unmasks only what is in its own ones: dom0's other ports are
# Linux's.
_GUESTS, _DOM0S, _GUESTS_NEW, _DOM0S_NEW = 1, 2, 3, 4
_PORTS = range(1, 4)  # of the guest, that can have been opened
_OF_SLOT = int(Flag.PORT_OF_SLOT)

_Steps = list[Step]
_Make = Callable[[Random], Step]


def between_domains(chance: Random) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """Return the next programme of ``chance``: the steps of the guest's vCPU 0, and of dom0."""
    guest, dom0 = list[Step](), list[Step]()
    for _ in range(_DUELS):
        begin, there, masks, one, other = _duel(chance)
        for _ in range(_TIMES):
            own, theirs = (meeting(loops) for loops in delays_with_dom0(chance))
            meet = meeting(0)
            guest += [*begin, meet, meet, *masks, own, *one, meet, *_LOOKS, meet, meet]
            dom0 += [meet, *there, meet, theirs, *other, meet, meet, *_DOM0_LOOKS, meet]
    return tuple(guest), tuple(dom0)


def delays_with_dom0(chance: Random) -> tuple[int, int]:
    """Return for how many loops each side waits before its part of a duel.

    A hypercall of dom0's, which goes through Linux, takes ten times as long as one of the guest's,
    so it is the guest that waits longer.
    """
    own, theirs = delays(chance)
    return own << chance.randrange(_LONGER), theirs


def with_domids(
    both: tuple[Sequence[Step], Sequence[Step]], domid: int
) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """Return the steps of the guest and of dom0 with the domids that they have: the guest's is
    ``domid``."""
    guest, dom0 = both
    return tuple([_named(step, DOM0) for step in guest]), tuple([_named(s, domid) for s in dom0])


def _named(step: Step, other: int) -> Step:
    if step.what not in _WITH_DOMID:
        return step
    if step.value == OTHER_DOMAIN and not step.flags & Flag.VALUE_OF_SLOT:
        step = step._replace(value=other)
    if step.what == What.ALLOC_UNBOUND and step.port == OTHER_DOMAIN:
        step = step._replace(port=other)
    return step


_WITH_DOMID = frozenset({What.ALLOC_UNBOUND, What.BIND_INTERDOMAIN, What.STATUS})


def _status(slot: int, owner: int = DOMID_SELF) -> Step:
    return Step(int(What.STATUS), _OF_SLOT, port=slot, value=owner)


_LOOKS = [Step(int(What.STATUS), port=port, value=DOMID_SELF) for port in _PORTS]
_DOM0_LOOKS = [_status(_DOM0S), _status(_DOM0S_NEW)]


def _duel(chance: Random) -> tuple[_Steps, _Steps, _Steps, _Steps, _Steps]:
    """Return what the guest makes before it, then dom0, then the guest; and what each makes in
    it."""
    begin, there = [Step(int(What.BEGIN))], [Step(int(What.CLOSE_ALL))]
    if chance.randrange(_FIFO_ONES) == 0:
        begin += [Step(int(What.INIT_CONTROL), number=vcpu) for vcpu in range(2)]
        begin += [Step(int(What.EXPAND_ARRAY)), *(Step(int(What.TAKE), number=v) for v in range(2))]
    guests, dom0s, last, writers = chance.choice(_SETUPS)
    begin, there, masks = begin + guests, there + dom0s, list(last)
    if chance.getrandbits(1):
        masks.append(_bit(What.SET_BIT, Bit.MASKED))
    if chance.getrandbits(1):
        masks.append(_bit(What.CLEAR_BIT, Bit.PENDING))
    if chance.randrange(4) == 0:
        masks.append(Step(int(What.BIND_VCPU), _OF_SLOT, port=_GUESTS, value=1))
    ways = _BY_GUEST, _BY_DOM0
    sides = [[chance.choice(way)(chance)] for way in ways]
    which = chance.randrange(2)
    # What changes a channel against anything: readers alone have nothing to get wrong.
    sides[which] = [chance.choice(writers[which])(chance)]
    for side, way in zip(sides, ways, strict=True):
        if chance.getrandbits(1):
            side *= chance.randint(1, _MOST_AT_ONCE)
        else:
            side += [chance.choice(way)(chance) for _ in range(chance.randrange(_MOST_AT_ONCE))]
    return begin, there, masks, sides[0], sides[1]


def _bit(what: What, bit: Bit) -> Step:
    return Step(int(what), _OF_SLOT, port=_GUESTS, number=int(bit))


# -- the operations --------------------------------------------------------------------------


def _alloc(slot: int, owner: int = DOMID_SELF, remote: int = OTHER_DOMAIN) -> Step:
    return Step(int(What.ALLOC_UNBOUND), slot=slot, port=owner, value=remote)


def _bind(slot: int, port: int) -> Step:
    return Step(int(What.BIND_INTERDOMAIN), _OF_SLOT, slot=slot, port=port, value=OTHER_DOMAIN)


def _fixed(step: Step) -> _Make:
    return lambda chance: step


def _on(what: What, own: int, new: int) -> _Make:
    """An operation on one of the own ports: on the one that was there before, most often."""
    return lambda chance: Step(int(what), _OF_SLOT, port=own if chance.randrange(4) else new)


def _bind_vcpu(own: int) -> _Make:
    return lambda chance: Step(int(What.BIND_VCPU), _OF_SLOT, port=own, value=chance.getrandbits(1))


def _mask(chance: Random) -> Step:
    return _bit(What.SET_BIT if chance.getrandbits(1) else What.CLEAR_BIT, Bit.MASKED)


def _set_priority(chance: Random) -> Step:
    return Step(int(What.SET_PRIORITY), _OF_SLOT, port=_GUESTS, value=chance.getrandbits(4))


_POLL = Step(int(What.POLL), int(Flag.PORT_OF_SLOT | Flag.PAST), port=_GUESTS, number=1)
_GUEST_CLOSES = _on(What.CLOSE, _GUESTS, _GUESTS_NEW)
_DOM0_CLOSES = _on(What.CLOSE, _DOM0S, _DOM0S_NEW)
_GUEST_BINDS = _fixed(_bind(_GUESTS_NEW, _DOM0S))
_DOM0_BINDS = _fixed(_bind(_DOM0S_NEW, _GUESTS))
_BY_GUEST: tuple[_Make, ...] = (
    *(_on(What.SEND, _GUESTS, _GUESTS_NEW),) * 5,
    *(_on(What.UNMASK, _GUESTS, _GUESTS_NEW),) * 4,
    *(_GUEST_CLOSES,) * 3,
    *(_GUEST_BINDS,) * 2,
    _fixed(_bind(_GUESTS_NEW, _DOM0S_NEW)),
    _fixed(_alloc(_GUESTS_NEW)),
    _bind_vcpu(_GUESTS),
    _fixed(_POLL),
    _fixed(_status(_GUESTS)),
    _mask,
    _set_priority,
)
_BY_DOM0: tuple[_Make, ...] = (
    *(_on(What.SEND, _DOM0S, _DOM0S_NEW),) * 7,
    *(_on(What.UNMASK, _DOM0S, _DOM0S_NEW),) * 2,
    *(_DOM0_CLOSES,) * 3,
    *(_DOM0_BINDS,) * 3,
    _fixed(_bind(_DOM0S_NEW, _GUESTS_NEW)),
    _fixed(_alloc(_DOM0S_NEW)),
    _fixed(_alloc(_GUESTS_NEW, OTHER_DOMAIN, DOMID_SELF)),
    _bind_vcpu(_DOM0S),
    _fixed(_status(_DOM0S)),
    _fixed(_status(_GUESTS, OTHER_DOMAIN)),
)
_CLOSERS = (_GUEST_CLOSES,), (_DOM0_CLOSES,)
# What there is before: opened by the guest, then by dom0, then by the guest; and the writers of
# each side that change it.
_SETUPS: tuple[tuple[_Steps, _Steps, _Steps, tuple[Sequence[_Make], Sequence[_Make]]], ...] = (
    *(([_alloc(_GUESTS)], [_bind(_DOM0S, _GUESTS)], [], _CLOSERS),) * 2,
    *(([], [_alloc(_DOM0S)], [_bind(_GUESTS, _DOM0S)], _CLOSERS),) * 2,
    ([], [_alloc(_GUESTS, OTHER_DOMAIN, DOMID_SELF), _bind(_DOM0S, _GUESTS)], [], _CLOSERS),
    # dom0 binds to it, and the guest closes it; and the other way round.
    ([_alloc(_GUESTS)], [], [], ((_GUEST_CLOSES,), (_DOM0_BINDS,))),
    ([], [_alloc(_DOM0S)], [], ((_GUEST_BINDS,), (_DOM0_CLOSES,))),
)
