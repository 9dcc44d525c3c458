"""Random sequences of operations on a real Xen, the model as the judge, disagreements shrunk.

A step is a handful of small numbers; what it means depends on the world at that moment (the
third port of that domain, say), so a sequence stays meaningful when hypothesis cuts it down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from harness.conformance.bare import Bare
from harness.conformance.guest import Guest, Undecided
from harness.conformance.oracle import Disagreement
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
_LINUX_VIRQS = (7, 13, 15)  # nobody raises them, and no Linux binds them
_NOBODY = 0x7FEF


@dataclass(frozen=True)
class Step:
    """One step: who, what, and three choices that the operation makes of."""

    guest: int
    what: int
    a: int
    b: int
    c: int


@dataclass
class Tally:
    """What was run, and what came of it."""

    sequences: int = 0
    operations: int = 0
    undecided: int = 0  # sequences given up at a poll of which nobody can tell whether it slept
    disagreements: list[Disagreement] = field(default_factory=list)  # each as small as it gets
    seconds: float = 0.0


_Make = Callable[[Guest, Step], Operation]


def _port(guest: Guest, choice: int) -> int:
    """Return a port of the guest's: mostly one that a sequence has opened."""
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


def _bind_interdomain(guest: Guest, step: Step) -> Operation:
    peer = _peer(guest, step.a)
    return BindInterdomain(guest.domid, peer.domid, _port(peer, step.b))


def _alloc(guest: Guest, step: Step) -> Operation:
    fault = Fault.OUT if step.c == 7 else Fault.NONE
    remote = _peer(guest, step.a).domid
    owner = _peer(guest, step.c).domid if step.b == 7 else DOMID_SELF
    return AllocUnbound(guest.domid, owner, remote, fault)


def _virq(guest: Guest, step: Step) -> Operation:
    virq = _LINUX_VIRQS[step.a % 3] if guest.linux else (step.a * 3 + step.b) % (NR_VIRQS + 1)
    return BindVirq(guest.domid, virq, _vcpu(guest, step.c))


def _status(guest: Guest, step: Step) -> Operation:
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
_EVERY = 60.0  # seconds
_MEMORY = 2  # mask, take: the bare guest's own doing


def make(guest: Guest, step: Step) -> None:
    """Make what ``step`` means for ``guest`` now; Disagreement as ever."""
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


def steps() -> st.SearchStrategy[list[Step]]:
    """Return the strategy of all sequences."""
    small = st.integers(0, 7)
    what = st.integers(0, len(_ANYWHERE) + len(_BARE_ONLY) + _MEMORY - 1)
    step = st.builds(Step, st.integers(0, 5), what, small, small, small)
    return st.lists(step, min_size=1, max_size=_LONGEST)


def run_random(
    guests: Sequence[Guest],
    begin: Callable[[], None],
    seconds: float,
    seed_: int,
    told: Callable[[Tally], None] = lambda _tally: None,
) -> Tally:
    """Run random sequences in ``guests`` for ``seconds``; ``begin`` restores the state before.

    ``told`` hears every minute, and at the end whatever that is, how far it has come.

    The first disagreement ends it, once it has been cut down to what is needed (which takes its
    own time: at most as long again).  A disagreement that does not come back is told as it was.
    Whatever else goes wrong ends it at once, and is raised as it is.
    """
    tally = Tally()
    lost: list[Exception] = []
    began = heard = time.monotonic()

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
    def sequence(found: list[Step]) -> None:
        nonlocal heard
        now = time.monotonic()
        elapsed = tally.seconds = now - began
        if now - heard > _EVERY:
            told(tally)
            heard = now
        if lost or elapsed > (2 * seconds if tally.disagreements else seconds):
            raise _TimeIsUp
        oracle = guests[0].domains.oracle
        before = oracle.operations
        try:
            begin()
            tally.sequences += 1
            for step in found:
                make(guests[step.guest % len(guests)], step)
        except Disagreement as error:
            tally.disagreements[:] = [error]
            raise
        except Undecided:
            tally.undecided += 1
        except Exception as error:
            lost.append(error)
            raise
        finally:
            tally.operations += oracle.operations - before

    try:
        sequence()
    except Exception as end:
        if lost:
            raise lost[0] from None
        if not _expected(end) and not (isinstance(end, Flaky) and tally.disagreements):
            raise
    finally:
        tally.seconds = time.monotonic() - began
        told(tally)
    return tally


class _TimeIsUp(Exception):
    """The time for random sequences is over."""


def _expected(end: BaseException) -> bool:
    if isinstance(end, BaseExceptionGroup):
        return all(_expected(each) for each in end.exceptions)
    return isinstance(end, _TimeIsUp | Disagreement)
