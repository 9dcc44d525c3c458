# SPDX-License-Identifier: GPL-2.0-or-later
"""Random sequences of operations on a real Xen, judged by the model.

A step is five small numbers.  Which operation they stand for depends on the state at that moment:
"the third port of that domain", for example.  So when hypothesis leaves out steps, to find a
shorter sequence with the same disagreement, the others still stand for an operation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from harness.conformance.bare import Bare
from harness.conformance.guest import Guest
from harness.conformance.polls import Undecided
from harness.conformance.reference_model import Disagreement
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
    Operation,
    Poll,
    Reset,
    Send,
    SetPriority,
    Status,
    Unmask,
)

_LONGEST = 40  # operations of one sequence
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
    known = before.domain(guest.domid) if before else None
    opened = [p for p, c in domain.ports if c.state and not (known and known.port(p).state)]
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


def make(guest: Guest, step: RandomStep) -> None:
    """Have ``guest`` make the operation that ``step`` stands for now; raises as ``do`` does."""
    if not isinstance(guest, Bare):
        guest.domains.do(guest, _ANYWHERE[step.what % len(_ANYWHERE)](guest, step))
        return
    choice = step.what % (len(_ANYWHERE) + len(_BARE_ONLY) + _MEMORY)
    if choice < len(_ANYWHERE):
        guest.domains.do(guest, _ANYWHERE[choice](guest, step))
    elif choice < len(_ANYWHERE) + len(_BARE_ONLY):
        guest.domains.do(guest, _BARE_ONLY[choice - len(_ANYWHERE)](guest, step))
    elif step.a % 2:
        guest.take(step.b % 2)
    else:
        port = _port(guest, step.b)
        if port < (guest.now.array_pages * 1024 if guest.now.fifo else 4096):
            guest.mask(port)


def steps() -> st.SearchStrategy[list[RandomStep]]:
    """Return hypothesis' strategy for sequences."""
    small = st.integers(0, 7)
    what = st.integers(0, len(_ANYWHERE) + len(_BARE_ONLY) + _MEMORY - 1)
    step = st.builds(RandomStep, st.integers(0, 5), what, small, small, small)
    return st.lists(step, min_size=1, max_size=_LONGEST)


def run_random(
    guests: Sequence[Guest],
    begin: Callable[[], None],
    seconds: float,
    seed_: int,
    report: Callable[[SequenceCounts], None] = lambda counts: None,
) -> SequenceCounts:
    """Run random sequences in ``guests`` for ``seconds``; ``begin`` restores the state before each.

    ``report`` is called every minute and at the end, also when that is an exception.

    The first disagreement ends the run, when a shorter sequence that shows it has been looked for
    (for at most ``seconds`` more).  If it does not show again, it is returned with the sequence
    that has shown it.  Any other error ends the run at once and is raised.
    """
    counts = SequenceCounts()
    lost: list[Exception] = []
    began = reported = time.monotonic()

    @seed(seed_)
    @settings(
        max_examples=1_000_000,
        deadline=None,
        database=None,
        print_blob=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(steps())
    def sequence(found: list[RandomStep]) -> None:
        nonlocal reported
        now = time.monotonic()
        elapsed = counts.seconds = now - began
        if now - reported > _EVERY:
            report(counts)
            reported = now
        if lost or elapsed > (2 * seconds if counts.disagreements else seconds):
            raise _TimeIsUp
        model = guests[0].domains.model
        before = model.operations
        try:
            begin()
            counts.sequences += 1
            for step in found:
                make(guests[step.guest % len(guests)], step)
        except Disagreement as error:
            counts.disagreements[:] = [error]
            raise
        except Undecided:
            counts.undecided += 1
        except Exception as error:
            lost.append(error)
            raise
        finally:
            counts.operations += model.operations - before

    try:
        sequence()
    except Exception as end:
        if lost:
            raise lost[0] from None
        if not _expected(end) and not (isinstance(end, Flaky) and counts.disagreements):
            raise
    finally:
        counts.seconds = time.monotonic() - began
        report(counts)
    return counts


class _TimeIsUp(Exception):
    """The time for random sequences is over."""


def _expected(end: BaseException) -> bool:
    if isinstance(end, BaseExceptionGroup):
        return all(_expected(each) for each in end.exceptions)
    return isinstance(end, _TimeIsUp | Disagreement)
