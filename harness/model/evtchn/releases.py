# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen releases, and the rules of event channels that changed between them.

Each rule is a property of ``Release``; nothing else in the model looks at a version number.
Source: docs/spec/evtchn.md, "Differences between releases", read from
xen/common/event_channel.c, event_fifo.c and sched/core.c of each release.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.model.evtchn.abi import Errno


@dataclass(frozen=True, order=True, slots=True)
class Release:
    """A release of Xen; later ones compare greater."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @property
    def poll_rejects_unusable(self) -> bool:
        """SCHEDOP_poll answers EINVAL for a port that is valid but not usable.

        evtchn_port_poll() does, which 4.14 does not have: to 4.14.6 such a port is not pending.
        """
        return self > Release(4, 14)

    @property
    def status_hides_xen_bound(self) -> bool:
        """EVTCHNOP_status answers EACCES for a port whose consumer is Xen (4.15 to 4.18)."""
        return Release(4, 15) <= self <= Release(4, 18)

    @property
    def virq_wants_handler(self) -> bool:
        """A global VIRQ can be bound only by its handler domain: EBUSY for others."""
        return self >= Release(4, 21)

    @property
    def argo_is_per_domain(self) -> bool:
        """VIRQ_ARGO is a per-domain VIRQ: any domain may bind it."""
        return self >= Release(4, 21)

    @property
    def arm_bind_pirq(self) -> Errno:
        """What EVTCHNOP_bind_pirq answers on Arm, which has no PIRQs.

        ENOMEM: after all checks and after the allocation.  EOPNOTSUPP: before any (seen on 4.20).
        """
        return Errno.EOPNOTSUPP if self >= Release(4, 19) else Errno.ENOMEM

    @property
    def fifo_drop_sets_pending(self) -> bool:
        """An event for a vCPU without a control block is dropped, but PENDING is set before."""
        return self < Release(4, 17)


BASE = Release(4, 15)  # master of October 2020, where the lock rework was posted
NEWEST = Release(4, 21)
RELEASES: tuple[Release, ...] = (Release(4, 14), BASE, Release(4, 17), Release(4, 20), NEWEST)
