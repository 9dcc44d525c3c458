"""The catalogue: row of docs/spec/evtchn.md x guest x ABI x release, and what keeps a cell from
being reached.

The rows are the model's (harness.model.rows), in the order in which Xen checks.  A cell that
nothing can reach says why; the others are to be tested.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.model.releases import Errno, Release
from harness.model.rows import coverage

GUESTS = (
    "x86_64 dom0",
    "x86_64 pv",
    "x86_64 pvh",
    "x86_64 hvm",
    "arm64 dom0",
    "arm64 domU",
)
ABIS = ("2L", "FIFO")
RELEASES = (Release(4, 14), Release(4, 17), Release(4, 20))

# Rows of the model that no real Xen can show: they are about partial knowledge.
_MODEL_ONLY = frozenset({"alloc: any free port of a partial domain"})
# Rows that no test can aim at where the catalogue says so, though any may meet them (in dom0, an
# event that Linux has not yet taken keeps a port from being given anew: seen in an hour's run).
BY_CHANCE = frozenset({"poll: 0 at once, upcall deliverable", "alloc: busy port skipped"})


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a row can be met: a kind of guest, its ABI, and Xen's release."""

    guest: str
    abi: str
    release: Release

    @property
    def dom0(self) -> bool:
        """Whether it is dom0: privileged, and Linux."""
        return self.guest.endswith("dom0")

    @property
    def arm(self) -> bool:
        """Whether it is an Arm guest."""
        return self.guest.startswith("arm64")

    @property
    def fifo(self) -> bool:
        """Whether its ABI is FIFO."""
        return self.abi == "FIFO"


@dataclass(frozen=True, slots=True)
class Cell:
    """One row in one scope; ``why_not`` is empty if it can be reached."""

    row: str
    scope: Scope
    why_not: str


@dataclass(frozen=True, slots=True)
class _Limit:
    rows: str  # regular expression of the whole row
    when: Callable[[Scope], bool]
    why: str


def _always(_scope: Scope) -> bool:
    return True


_LIMITS = (
    _Limit(
        r".*writer inside",
        _always,
        "needs a writer at that instant: test_duel.py and test_load.py make it",
    ),
    _Limit(r".*ENOMEM.*", _always, "needs Xen's heap to be used up, which ends the machine too"),
    _Limit(
        r"bind_virq: EBUSY.*",
        lambda s: not s.release.virq_wants_handler,
        "Xen 4.21 and later",
    ),
    _Limit(
        r"init_control: EOPNOTSUPP.*",
        _always,
        "needs a Xen built without CONFIG_EVTCHN_FIFO, which 4.21 and later can be",
    ),
    _Limit(
        r"poll: EINVAL not usable",
        lambda s: not s.release.poll_rejects_unusable,
        "Xen 4.15 and later",
    ),
    _Limit(
        r"status: EACCES Xen-bound",
        lambda s: not s.release.status_hides_xen_bound,
        "Xen 4.15 to 4.18",
    ),
    _Limit(
        r"(xen: .*|.*Xen-bound)",
        lambda s: s.guest == "x86_64 pv",
        "Xen has no channel of its own in such a domain",
    ),
    _Limit(
        r"(xen: .*|(?!status:).*Xen-bound)",
        lambda s: s.dom0,
        "Xen has no channel of its own in such a domain; it may ask for another's",
    ),
    _Limit(
        r"send: Xen consumer called",
        lambda s: not s.dom0,
        "only the domain that has Xen watch another may bind to Xen's channel: dom0",
    ),
    _Limit(
        r"xen: (freed nothing|notify: domain dying).*",
        _always,
        "happens while a domain is torn down, where nobody sees it",
    ),
    _Limit(
        r"bind_pirq: EINVAL pirq out of range",
        lambda s: s.arm and s.release.arm_bind_pirq is Errno.EOPNOTSUPP,
        "Arm has no PIRQs, which comes first there",
    ),
    _Limit(r"bind_pirq: no PIRQs on Arm", lambda s: not s.arm, "Arm only"),
    _Limit(
        r"(bind_pirq: (EEXIST|PIRQ on vcpu 0|error from the host irq)|raise_pirq: .*)",
        lambda s: s.arm,
        "Arm has no PIRQs",
    ),
    _Limit(
        r"bind_pirq: (EPERM no access|error from the host irq)",
        lambda s: s.arm or s.guest in ("x86_64 pvh", "x86_64 hvm"),
        "checked for PV guests only",
    ),
    _Limit(
        r"(bind_pirq: (EEXIST|PIRQ on vcpu 0|error from the host irq)|raise_pirq: .*)",
        lambda s: s.guest == "x86_64 pv",
        "a PV domU has no access to a physical interrupt",
    ),
    _Limit(
        r"raise_pirq: .*",
        lambda s: not s.dom0,
        "needs a device that is passed through to a domU",
    ),
    _Limit(
        r"raise_pirq: .*",
        lambda s: s.dom0,
        "needs an interrupt of a device that Linux in dom0 leaves alone",
    ),
    _Limit(
        r"poll: 0 at once, upcall deliverable",
        _always,
        "between an event and the interrupt that takes it: a moment that a test cannot choose",
    ),
    _Limit(
        r"guest: .*",
        lambda s: s.dom0,
        "Linux in dom0 takes its events itself, at once",
    ),
    _Limit(
        r"(reset: (EBUSY|all closed.*)|init_control: (switched.*|control block.*)"
        r"|expand_array: (ENOSPC|1024 more.*)|alloc: busy port skipped)",
        lambda s: s.dom0,
        "Linux in dom0 would not survive it",
    ),
    _Limit(r"set_priority: ENOSYS 2L", lambda s: s.fifo, "2L only"),
    _Limit(
        r"set_priority: (EACCES.*|EINVAL priority|priority.*)", lambda s: not s.fifo, "FIFO only"
    ),
    _Limit(r"expand_array: EOPNOTSUPP not FIFO", lambda s: s.fifo, "2L only"),
    _Limit(r"expand_array: (ENOSPC|EINVAL.*|1024.*)", lambda s: not s.fifo, "FIFO only"),
    _Limit(r"init_control: switched to FIFO", lambda s: s.fifo, "leaves 2L: counted there"),
    _Limit(
        r"init_control: (EINVAL already mapped|control block mapped)",
        lambda s: not s.fifo,
        "FIFO only",
    ),
    _Limit(
        r"init_control: EINVAL bad page",
        lambda s: s.fifo and s.dom0,
        "every vCPU has its control block already",
    ),
    _Limit(r"alloc: busy port skipped", lambda s: not s.fifo, "FIFO only"),
    _Limit(
        r"alloc: ENOSPC.*",
        lambda s: s.dom0 and s.fifo,
        "131071 allocations, each a walk over all ports before it: hours under emulation",
    ),
    _Limit(
        r"(alloc_unbound|status|reset): EPERM.*",
        lambda s: s.dom0,
        "dom0 may act on every domain",
    ),
    _Limit(
        r"reset: EINVAL other domain not paused",
        lambda s: not s.dom0,
        "EPERM comes first",
    ),
)


def rows() -> tuple[str, ...]:
    """Return the rows of the catalogue, operation by operation, in Xen's order of checks."""
    return tuple(line.row for line in coverage(()) if line.row not in _MODEL_ONLY)


def why_not(row: str, scope: Scope) -> str:
    """Return what keeps ``row`` from being met in ``scope``; "" if nothing does."""
    for limit in _LIMITS:
        if limit.when(scope) and re.fullmatch(limit.rows, row):
            return limit.why
    return ""


def catalogue() -> Iterator[Cell]:
    """Return every cell: row by row, then guest, ABI and release."""
    for row in rows():
        for guest in GUESTS:
            for abi in ABIS:
                for release in RELEASES:
                    scope = Scope(guest, abi, release)
                    yield Cell(row, scope, why_not(row, scope))
