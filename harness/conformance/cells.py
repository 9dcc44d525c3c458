# SPDX-License-Identifier: GPL-2.0-or-later
"""The catalogue: row of docs/spec/evtchn.md x guest x ABI x release.

The rows are the model's (harness.model.evtchn.spec_rows), in the order in which Xen checks.  A
cell that no test can reach says why; every other cell is to be tested.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.model.evtchn.changed_rules import Rule
from harness.model.evtchn.releases import Release
from harness.model.evtchn.rules import Rules, by_version
from harness.model.evtchn.spec_rows import coverage

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

# Rows that no real Xen can meet: the model uses them where it knows a domain only in part.
_MODEL_ONLY = frozenset({"alloc: any free port of a partial domain"})
# Rows that a test may meet by chance, even where the catalogue says that no test can reach them
# (measured in a run of an hour, in dom0: a port was still busy with an event that Linux had not yet
# taken, and so was not allocated).
BY_CHANCE = frozenset({"poll: 0 at once, upcall deliverable", "alloc: busy port skipped"})


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a row is met: in which guest, with which ABI, on which release of Xen."""

    guest: str
    abi: str
    release: Release
    rules: Rules | None = None  # None: those of the release

    def holds(self, rule: Rule) -> bool:
        """Whether ``rule`` holds in this Xen."""
        return (self.rules or by_version(self.release)).holds(rule)

    @property
    def dom0(self) -> bool:
        """Whether the guest is dom0, which is privileged and runs Linux."""
        return self.guest.endswith("dom0")

    @property
    def arm(self) -> bool:
        """Whether the guest is an Arm one."""
        return self.guest.startswith("arm64")

    @property
    def fifo(self) -> bool:
        """Whether the ABI is FIFO."""
        return self.abi == "FIFO"


def scope_of(guest: str, abi: str, rules: Rules) -> Scope:
    """Return the scope of a Xen with ``rules``: its release, if these are the release's own."""
    usual = str(rules) == str(rules.release)
    return Scope(guest, abi, rules.release, None if usual else rules)


@dataclass(frozen=True, slots=True)
class Cell:
    """One row in one scope; ``why_not`` says why no test can reach it ("": a test can)."""

    row: str
    scope: Scope
    why_not: str


@dataclass(frozen=True, slots=True)
class _Limit:
    rows: str  # a regular expression that matches whole rows
    when: Callable[[Scope], bool]
    why: str


def _always(_scope: Scope) -> bool:
    return True


_LIMITS = (
    _Limit(
        r".*",
        lambda s: s.guest == "x86_64 shim",
        "the shim is between such a guest and Xen: docs/conformance.md has what is tested there",
    ),
    _Limit(
        r".*writer inside",
        _always,
        "needs a writer at that instant: test_race.py and test_load.py make one",
    ),
    _Limit(
        r".*ENOMEM.*", _always, "needs Xen's heap to be used up, which would end the whole machine"
    ),
    _Limit(
        r"bind_virq: EBUSY.*",
        lambda s: not s.holds(Rule.VIRQ_WANTS_HANDLER),
        "Xen 4.21 and later",
    ),
    _Limit(
        r"bind_virq: EBUSY.*",
        lambda s: s.dom0,
        "dom0 is the handler of every global VIRQ",
    ),
    _Limit(
        r"reset: EBUSY",
        lambda s: not s.holds(Rule.RESET_CAN_BE_RESUMED),
        "Xen with the fix of XSA-344",
    ),
    _Limit(
        r"(unmask: no-op, not usable|set_priority: EACCES not usable)",
        lambda s: not s.holds(Rule.UNUSABLE_PORT_UNTOUCHED),
        "Xen with the fix of XSA-343",
    ),
    _Limit(
        r"init_control: EOPNOTSUPP.*",
        _always,
        "needs a Xen without CONFIG_EVTCHN_FIFO, which can be built since 4.21",
    ),
    _Limit(
        r"poll: EINVAL not usable",
        lambda s: not s.holds(Rule.POLL_REJECTS_UNUSABLE),
        "Xen 4.15 and later",
    ),
    _Limit(
        r"status: EACCES Xen-bound",
        lambda s: not s.holds(Rule.STATUS_HIDES_XEN_BOUND),
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
        "Xen has no channel of its own in dom0, which may only ask about one in another domain",
    ),
    _Limit(
        r"send: Xen consumer called",
        lambda s: not s.dom0,
        "only dom0 can bind to a channel of Xen's own, because it has Xen watch that domain",
    ),
    _Limit(
        r"xen: (freed nothing|notify: domain dying).*",
        _always,
        "happens while a domain is destroyed, when it can see nothing any more",
    ),
    _Limit(
        r"bind_pirq: EINVAL pirq out of range",
        lambda s: s.arm and s.holds(Rule.ARM_BIND_PIRQ),
        "Arm has no PIRQs, and checks that first",
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
        "needs an interrupt of a device that Linux in dom0 does not use",
    ),
    _Limit(
        r"poll: 0 at once, upcall deliverable",
        _always,
        "needs a poll between an event and its upcall: a test cannot choose that moment",
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
    _Limit(
        r"init_control: switched to FIFO", lambda s: s.fifo, "is an operation in 2L: counted there"
    ),
    _Limit(
        r"init_control: (EINVAL already mapped|control block mapped)",
        lambda s: not s.fifo,
        "FIFO only",
    ),
    _Limit(
        r"init_control: EINVAL bad page",
        lambda s: s.fifo and s.dom0,
        "Linux has given every vCPU its control block already, which is checked first",
    ),
    _Limit(r"alloc: busy port skipped", lambda s: not s.fifo, "FIFO only"),
    _Limit(
        r"alloc: ENOSPC.*",
        lambda s: s.dom0 and s.fifo,
        "needs 131071 allocations, each of which walks over all ports: hours under emulation",
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
    """Return the rows of the catalogue by operation, in the order in which Xen checks."""
    return tuple(line.row for line in coverage(()) if line.row not in _MODEL_ONLY)


def why_not(row: str, scope: Scope) -> str:
    """Return why no test can reach ``row`` in ``scope``; "" if one can."""
    for limit in _LIMITS:
        if limit.when(scope) and re.fullmatch(limit.rows, row):
            return limit.why
    return ""


def catalogue() -> Iterator[Cell]:
    """Yield every cell, by row, then guest, ABI and release."""
    for row in rows():
        for guest in GUESTS:
            for abi in ABIS:
                for release in RELEASES:
                    scope = Scope(guest, abi, release)
                    yield Cell(row, scope, why_not(row, scope))
