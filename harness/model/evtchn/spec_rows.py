# SPDX-License-Identifier: GPL-2.0-or-later
"""The rows of docs/spec/evtchn.md, by name: what a prediction rests on.

A row is one answer that Xen gives for one reason, or one effect.  Every outcome that ``predict``
returns names its rows; a test run collects the names, and so knows which rows it has met.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_ROWS: dict[str, tuple[str, ...]] = {
    "any": ("EFAULT copy-in", "EFAULT copy-out after success", "ENOSYS unknown command"),
    "alloc": (
        "EINVAL domain dying",
        "ENOSPC no port below the limits",
        "ENOMEM no bucket",
        "first free port",
        "busy port skipped",
        "any free port of a partial domain",
    ),
    "alloc_unbound": ("ESRCH", "EPERM not privileged over dom", "UNBOUND"),
    "bind_interdomain": (
        "ESRCH",
        "EINVAL remote port not valid",
        "EINVAL remote port not unbound for the caller",
        "both INTERDOMAIN, local pending",
    ),
    "bind_virq": (
        "EINVAL virq out of range",
        "EINVAL global virq on vcpu != 0",
        "ENOENT vcpu",
        "EBUSY not the handler",
        "EEXIST",
        "ENOMEM domain states",
        "VIRQ",
    ),
    "bind_ipi": ("ENOENT vcpu", "IPI"),
    "bind_pirq": (
        "EINVAL pirq out of range",
        "EPERM no access",
        "EEXIST",
        "ENOMEM pirq info",
        "error from the host irq",
        "no PIRQs on Arm",
        "PIRQ on vcpu 0",
    ),
    "close": (
        "EINVAL not valid",
        "EINVAL Xen-bound",
        "EINVAL FREE or RESERVED",
        "FREE",
        "FREE, peer UNBOUND for the closer",
    ),
    "send": (
        "EINVAL not valid",
        "EINVAL Xen-bound",
        "EINVAL state has no peer",
        "peer pending",
        "Xen consumer called",
        "own port pending (IPI)",
        "dropped: UNBOUND",
        "dropped: writer inside",
    ),
    "status": ("ESRCH", "EINVAL not valid", "EACCES Xen-bound", "EPERM", "reply", "closed"),
    "bind_vcpu": (
        "ENOENT vcpu",
        "EINVAL not valid",
        "EINVAL Xen-bound",
        "EINVAL state or per-vCPU VIRQ",
        "notify vCPU moved, pending stays",
    ),
    "unmask": (
        "EINVAL not valid",
        "no-op, not usable",
        "unmasked, nothing pending",
        "unmasked, redelivered",
        "dropped: writer inside",
    ),
    "set_priority": (
        "EINVAL not valid",
        "ENOSYS 2L",
        "EACCES not usable",
        "EINVAL priority",
        "priority for future events",
        "dropped: writer inside",
    ),
    "reset": (
        "ESRCH",
        "EPERM",
        "EINVAL other domain not paused",
        "EBUSY",
        "all closed but Xen-bound, back to 2L",
    ),
    "init_control": (
        "EOPNOTSUPP no FIFO built",
        "ENOENT vcpu",
        "EINVAL offset",
        "ENOMEM",
        "EINVAL already mapped",
        "EINVAL bad page",
        "switched to FIFO",
        "control block mapped",
    ),
    "expand_array": (
        "EOPNOTSUPP not FIFO",
        "ENOSPC",
        "EINVAL bad page",
        "1024 more words, saved events raised",
    ),
    "poll": (
        "EINVAL more than 128 ports",
        "EINVAL not valid",
        "EINVAL not usable",
        "0 at once, upcall deliverable",
        "0 at once, pending",
        "blocks",
        "not pending: writer inside",
    ),
    "raise_virq": ("not bound", "pending on the notify vCPU", "dropped: writer inside"),
    "raise_pirq": ("not bound", "pending on the notify vCPU", "dropped: writer inside"),
    "xen": (
        "port allocated",
        "allocation failed",
        "port freed",
        "freed nothing, domain dying",
        "peer pending",
        "notify: no peer",
        "notify: domain dying",
        "notify dropped: writer inside",
    ),
    "guest": ("mask set", "event taken"),
}

SPEC_ROWS: frozenset[str] = frozenset(
    f"{op}: {text}" for op, texts in _ROWS.items() for text in texts
)


@dataclass(frozen=True, slots=True)
class RowCoverage:
    """How often a row was met."""

    row: str
    times: int


def coverage(seen: Mapping[str, int] | Iterable[str]) -> tuple[RowCoverage, ...]:
    """Return how often each row was met, in the order of the specification.

    ``seen``: names of rows, counted or one by one.  Raises ValueError for a name that is no row.
    """
    counts: dict[str, int] = {}
    if isinstance(seen, Mapping):
        counts.update(seen)
    else:
        for name in seen:
            counts[name] = counts.get(name, 0) + 1
    unknown = sorted(set(counts) - SPEC_ROWS)
    if unknown:
        raise ValueError(f"no such rows: {', '.join(unknown)}")
    names = (f"{op}: {text}" for op, texts in _ROWS.items() for text in texts)
    return tuple(RowCoverage(name, counts.get(name, 0)) for name in names)
