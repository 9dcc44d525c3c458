"""The four lock flavours: which call sites block, which only try, what a failed try does.

Source: docs/spec/lock.md (from "[PATCH v2 2/2] xen/evtchn: rework per event channel lock",
20201012092740.1617-3-jgross@suse.com, and 5f2df45ead7c).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum


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


class Acquire(Enum):
    """How a call site takes the lock."""

    EXCLUSIVE = "exclusive"  # blocks; alone
    SHARED = "shared"  # blocks; with other readers
    TRY = "try"  # shared, never blocks: on failure the effect is dropped and 0 returned


@dataclass(frozen=True)
class Flavour:
    """One lock flavour as a table of call sites."""

    name: str
    sites: dict[Site, Acquire]

    def may_drop(self, site: Site) -> bool:
        """Say whether ``site`` may do nothing, and report success, while a writer is inside."""
        return self.sites[site] is Acquire.TRY


def _table(default: Acquire, **others: Acquire) -> dict[Site, Acquire]:
    named = {Site[name]: how for name, how in others.items()}
    return {site: named.get(site, default) for site in Site}


SPINLOCK = Flavour("spinlock", _table(Acquire.EXCLUSIVE))
# As posted, an unmask that meets a writer is forgotten.  Corrected, it tries until it is in,
# and set_priority uses the event_lock: neither may be dropped.
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
    ),
)

FLAVOURS: dict[str, Flavour] = {f.name: f for f in (SPINLOCK, COUNTER_V2, COUNTER, RWLOCK)}
