# SPDX-License-Identifier: GPL-2.0-or-later
"""Which rows of docs/spec/evtchn.md two releases answer differently: data, to be held against Xen.

A conformance run also asks the models of the other releases about what the real Xen did.  What
one of them would not have allowed must be listed here.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.model.evtchn.releases import Release


@dataclass(frozen=True, slots=True)
class Difference:
    """A rule of ``Release``, and the rows whose answer or effect depends on it."""

    rule: str  # the property of Release
    rows: tuple[str, ...]
    commit: str = ""  # of xen.git, where it is known


_SENDS_EVENTS = (
    "bind_interdomain: both INTERDOMAIN, local pending",
    "send: peer pending",
    "send: own port pending (IPI)",
    "unmask: unmasked, redelivered",
    "raise_virq: pending on the notify vCPU",
    "raise_pirq: pending on the notify vCPU",
    "expand_array: 1024 more words, saved events raised",
    "xen: peer pending",
)
_BINDS_VIRQ = ("bind_virq: EBUSY not the handler", "bind_virq: EEXIST", "bind_virq: VIRQ")

DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "poll_rejects_unusable",
        ("poll: EINVAL not usable", "poll: blocks", "poll: 0 at once, pending"),
        "5f2df45ead7c",
    ),
    Difference("status_hides_xen_bound", ("status: EACCES Xen-bound", "status: reply")),
    Difference("virq_wants_handler", _BINDS_VIRQ),
    Difference("argo_is_per_domain", _BINDS_VIRQ),
    Difference(
        "arm_bind_pirq",
        ("bind_pirq: no PIRQs on Arm", "bind_pirq: EINVAL pirq out of range"),
    ),
    Difference("fifo_drop_sets_pending", _SENDS_EVENTS),
)


def differing_rows(one: Release, other: Release) -> frozenset[str]:
    """Return the rows whose answer or effect may differ between the two releases."""
    return frozenset(
        row
        for difference in DIFFERENCES
        if getattr(one, difference.rule) != getattr(other, difference.rule)
        for row in difference.rows
    )
