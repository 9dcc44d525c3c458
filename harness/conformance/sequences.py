# SPDX-License-Identifier: GPL-2.0-or-later
"""Random sequences of operations on a real Xen, judged by the model.

A step is five small numbers.  Which operation they stand for depends on the state at that moment:
"the third port of that domain", for example.  So when steps are left out, to find a shorter
sequence with the same disagreement, the others still stand for an operation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from harness.conformance.bare import Bare, Take
from harness.conformance.guest import Guest
from harness.conformance.planned import NotAsPlanned, Plan
from harness.conformance.polls import Undecided
from harness.conformance.reference_model import Disagreement
from harness.conformance.shortest import shortest
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.domain import NR_VIRQS, Domain
from harness.model.evtchn.operations import (
    AllocUnbound,
    BindInterdomain,
    BindIpi,
    BindVcpu,
    BindVirq,
    Close,
    ExpandArray,
    Fault,
    InitControl,
    Mask,
    Operation,
    Poll,
    Reset,
    Send,
    SetPriority,
    Status,
    Unmask,
)

_LONGEST_ALONE = 120  # operations of a sequence of the bare guest
_LONGEST = 16  # operations of a sequence in which other guests take part,
_TO_ONE = 16  # which is one of so many
_LINUX_VIRQS = (7, 13, 15)  # neither Xen raises them nor Linux binds them
_NOBODY = 0x7FEF


@dataclass(frozen=True)
class RandomStep:
    """One step: numbers that choose a guest, an operation, and its arguments."""

    guest: int
    what: int
    a: int
    b: int
    c: int


@dataclass
class SequenceCounts:
    """How much was run, and with what result."""

    sequences: int = 0
    operations: int = 0
    undecided: int = 0  # sequences that ended at a poll whose time did not tell whether it slept
    disagreements: list[Disagreement] = field(default_factory=list)  # of the shortest sequence
    seconds: float = 0.0


_Make = Callable[[Guest, RandomStep], Operation]


def _port(guest: Guest, choice: int) -> int:
    """Return a port of ``guest``: most often one that the sequence has opened."""
    domain, before = guest.now, guest.domains.before
    then = before.domain(guest.domid) if before else None
    known = {p for p, c in then.ports if c.state} if then else ()
    opened = [p for p, c in domain.ports if c.state and p not in known]
    others = [0, _free(domain), domain.valid - 1, domain.valid, 0xFFFFFFFF]
    if opened and choice < 2 * len(opened):
        return opened[choice % len(opened)]
    return others[choice % len(others)]


def _free(domain: Domain) -> int:
    return next((p for p in range(1, domain.valid) if not domain.port(p).state), 1)


def _peer(guest: Guest, choice: int) -> Guest:
    everyone = list(guest.domains.guests.values())
    return everyone[choice % len(everyone)]


def _vcpu(guest: Guest, choice: int) -> int:
    return choice % (len(guest.now.vcpus) + 1)


def _bind_interdomain(guest: Guest, step: RandomStep) -> Operation:
    peer = _peer(guest, step.a)
    return BindInterdomain(guest.domid, peer.domid, _port(peer, step.b))


def _alloc(guest: Guest, step: RandomStep) -> Operation:
    fault = Fault.OUT if step.c == 7 else Fault.NONE
    remote = _peer(guest, step.a).domid
    owner = _peer(guest, step.c).domid if step.b == 7 else DOMID_SELF
    return AllocUnbound(guest.domid, owner, remote, fault)


def _virq(guest: Guest, step: RandomStep) -> Operation:
    virq = _LINUX_VIRQS[step.a % 3] if guest.linux else (step.a * 3 + step.b) % (NR_VIRQS + 1)
    return BindVirq(guest.domid, virq, _vcpu(guest, step.c))


def _status(guest: Guest, step: RandomStep) -> Operation:
    peer = _peer(guest, step.b)
    dom = _NOBODY if step.c == 7 else peer.domid
    return Status(guest.domid, dom, _port(peer, step.a))


_ANYWHERE: tuple[_Make, ...] = (
    _alloc,
    _alloc,
    _bind_interdomain,
    _bind_interdomain,
    lambda g, s: BindIpi(g.domid, _vcpu(g, s.a)),
    _virq,
    lambda g, s: Close(g.domid, _port(g, s.a)),
    lambda g, s: Send(g.domid, _port(g, s.a)),
    lambda g, s: Send(g.domid, _port(g, s.b)),
    lambda g, s: BindVcpu(g.domid, _port(g, s.a), _vcpu(g, s.b)),
    lambda g, s: SetPriority(g.domid, _port(g, s.a), s.b * 3 + s.c),
    _status,
    lambda g, s: Poll(g.domid, tuple(_port(g, s.a + i) for i in range(s.b % 3)), s.c % 2),
    lambda g, s: Unmask(g.domid, _port(g, s.a)),
)
_BARE_ONLY: tuple[_Make, ...] = (
    lambda g, s: InitControl(g.domid, _vcpu(g, s.a), (s.b % 3) * 4, page_ok=s.c != 7),
    lambda g, s: InitControl(g.domid, s.a % 2),
    lambda g, s: ExpandArray(g.domid, page_ok=s.a != 7),
    lambda g, s: Reset(g.domid, DOMID_SELF, resume=s.a == 7),
)
_EVERY = 60.0  # seconds between two reports
_MEMORY = 2  # mask and take, which are no hypercalls


def chosen(guest: Guest, step: RandomStep) -> Operation | Take | None:
    """Return what ``step`` stands for in ``guest`` now; None: nothing."""
    if not isinstance(guest, Bare):
        return _ANYWHERE[step.what % len(_ANYWHERE)](guest, step)
    choice = step.what % (len(_ANYWHERE) + len(_BARE_ONLY) + _MEMORY)
    if choice < len(_ANYWHERE):
        return _ANYWHERE[choice](guest, step)
    if choice < len(_ANYWHERE) + len(_BARE_ONLY):
        return _BARE_ONLY[choice - len(_ANYWHERE)](guest, step)
    if step.a % 2:
        return Take(step.b % 2)
    port = _port(guest, step.b)
    words = guest.now.array_pages * 1024 if guest.now.fifo else 4096
    return Mask(guest.domid, port) if port < words else None


def make(guest: Guest, step: RandomStep) -> None:
    """Have ``guest`` make the operation that ``step`` stands for now; raises as ``do`` does."""
    operation = chosen(guest, step)
    if isinstance(guest, Bare) and isinstance(operation, Take):
        guest.take(operation.vcpu)
    elif isinstance(guest, Bare) and isinstance(operation, Mask):
        guest.mask(operation.port)
    elif operation is not None and not isinstance(operation, Take):
        guest.domains.do(guest, operation)


def make_all(guests: Sequence[Guest], found: Sequence[RandomStep]) -> None:
    """Have ``guests`` make a sequence; the bare one, the first, begins anew.

    What the bare guest makes in a row goes in one message, where that is possible.  Raises as
    ``do`` does.
    """
    bare = guests[0]
    assert isinstance(bare, Bare)
    try:
        _make_planned(bare, guests, found)
    except NotAsPlanned:
        bare.domains.close_opened()
        bare.begin()
        for step in found:
            make(guests[step.guest % len(guests)], step)


def _make_planned(bare: Bare, guests: Sequence[Guest], found: Sequence[RandomStep]) -> None:
    plan = Plan(bare)
    if not plan.begin():
        bare.begin()
    for step in found:
        guest = guests[step.guest % len(guests)]
        operation = chosen(guest, step)
        if operation is None or (guest is bare and plan.add(operation)):
            continue
        plan.run()
        make(guest, step)
    plan.run()


def random_steps(chance: Random, guests: int) -> list[RandomStep]:
    """Return a sequence: most are of the first guest alone, which is quick."""
    together = chance.randrange(_TO_ONE) == 0
    taking_part, longest = (guests, _LONGEST) if together else (1, _LONGEST_ALONE)
    ranges = (taking_part, len(_ANYWHERE) + len(_BARE_ONLY) + _MEMORY, 8, 8, 8)
    return [
        RandomStep(*(int(chance.random() * each) for each in ranges))
        for _ in range(chance.randint(1, longest))
    ]


def run_random(
    guests: Sequence[Guest],
    begin: Callable[[], None],
    seconds: float,
    seed: int,
    report: Callable[[SequenceCounts], None] = lambda counts: None,
) -> SequenceCounts:
    """Run random sequences in ``guests`` for ``seconds``; the first is the bare one.

    ``begin`` is called before each: it closes what is open in the others.  ``report`` is called
    every minute and at the end, also when that is an exception.

    The first disagreement ends the run, when a shorter sequence that shows it has been looked for
    (until twice ``seconds`` are over).  If it does not show again, it is returned with the sequence
    that has shown it.  Any other error ends the run at once and is raised.
    """
    counts = SequenceCounts()
    chance = Random(seed)
    began = time.monotonic()
    reported = 0.0

    def over(limit: float) -> bool:
        counts.seconds = time.monotonic() - began
        return counts.seconds > limit

    def disagrees(found: Sequence[RandomStep]) -> bool:
        model = guests[0].domains.model
        before = model.operations
        try:
            begin()
            counts.sequences += 1
            make_all(guests, found)
        except Disagreement as error:
            counts.disagreements[:] = [error]
            return True
        except Undecided:
            counts.undecided += 1
        finally:
            counts.operations += model.operations - before
        return False

    try:
        while not over(seconds):
            if counts.seconds - reported > _EVERY:
                report(counts)
                reported = counts.seconds
            found = random_steps(chance, len(guests))
            if disagrees(found):
                shortest(found, disagrees, _simpler, lambda: over(2 * seconds))
                break
    finally:
        counts.seconds = time.monotonic() - began
        report(counts)
    return counts


def _simpler(step: RandomStep) -> list[RandomStep]:
    """Return ``step`` with smaller numbers, the smallest first."""
    return [
        replace(step, **{name: number})
        for name in ("guest", "c", "b", "a")
        for number in range(getattr(step, name))
    ]
