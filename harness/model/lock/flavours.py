# SPDX-License-Identifier: GPL-2.0-or-later
"""The four lock flavours: which call sites wait for the lock, and which only try to get it.

Source: docs/spec/lock.md, from "[PATCH v2 2/2] xen/evtchn: rework per event channel lock"
(20201012092740.1617-3-jgross@suse.com) and from commit 5f2df45ead7c.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

# By architecture, as Xen names it.  A writer of the counter flavours adds so much: W.
MAX_VIRT_CPUS: dict[str, int] = {"x86_64": 8192, "arm64": 128}


class Site(StrEnum):
    """Call sites of the per-channel lock, by what the caller does."""

    WRITER = "writer"  # alloc_unbound, bind_*, close
    SEND = "send"  # EVTCHNOP_send
    VIRQ = "virq"  # send_guest_vcpu_virq, send_guest_global_virq
    PIRQ = "pirq"  # send_guest_pirq
    XEN_NOTIFY = "xen-notify"  # notify_via_xen_event_channel
    UNMASK = "unmask"  # EVTCHNOP_unmask
    SET_PRIORITY = "set-priority"
    MASKED = "masked"  # evtchn_is_masked, PHYSDEVOP_IRQ_UNMASK_NOTIFY
    POLL = "poll"  # SCHEDOP_poll
    DUMP = "dump"  # dump_irqs, debug key i


class Acquire(Enum):
    """How a call site takes the lock."""

    EXCLUSIVE = "exclusive"  # waits until it is alone
    SHARED = "shared"  # waits until no writer is there
    TRY = "try"  # never waits: when it fails, the operation does nothing and returns 0


@dataclass(frozen=True)
class Flavour:
    """One lock flavour as a table of call sites."""

    name: str
    sites: dict[Site, Acquire]

    def may_drop(self, site: Site) -> bool:
        """Say whether ``site`` may do nothing, and return success, while a writer is inside."""
        return self.sites[site] is Acquire.TRY


def _table(default: Acquire, **others: Acquire) -> dict[Site, Acquire]:
    named = {Site[name]: how for name, how in others.items()}
    return {site: named.get(site, default) for site in Site}


SPINLOCK = Flavour("spinlock", _table(Acquire.EXCLUSIVE, DUMP=Acquire.TRY))
# In counter-v2 an unmask that meets a writer does nothing.  In counter it tries until it is in,
# and set_priority uses the event_lock: neither may do nothing.
COUNTER_V2 = Flavour("counter-v2", _table(Acquire.TRY, WRITER=Acquire.EXCLUSIVE))
COUNTER = Flavour(
    "counter",
    _table(
        Acquire.TRY,
        WRITER=Acquire.EXCLUSIVE,
        UNMASK=Acquire.SHARED,
        SET_PRIORITY=Acquire.SHARED,
    ),
)
RWLOCK = Flavour(
    "rwlock",
    _table(
        Acquire.SHARED,
        WRITER=Acquire.EXCLUSIVE,
        VIRQ=Acquire.TRY,
        PIRQ=Acquire.TRY,
        XEN_NOTIFY=Acquire.TRY,
        DUMP=Acquire.TRY,
    ),
)

FLAVOURS: dict[str, Flavour] = {f.name: f for f in (SPINLOCK, COUNTER_V2, COUNTER, RWLOCK)}
