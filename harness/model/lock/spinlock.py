# SPDX-License-Identifier: GPL-2.0-or-later
"""The spinlock flavour's lock: exclusive for readers and writers, with interrupts off.

So it was before the rework of 2020: spin_lock_irqsave(&chn->lock, flags) at every call site, as
of e045199c7c9c54.  Here any thread that waits may be the next one: every order that a ticket
lock can produce, and more.  ``ticket_lock`` has the order that Xen's really produces.
"""

from __future__ import annotations

from dataclasses import replace

from harness.model.explore.program import Never, Order, Program, Variable, on, rmw
from harness.model.lock.lock_functions import (
    MUTUAL_EXCLUSION,
    CriticalSection,
    Lock,
    drop,
    first_step,
    splice,
    with_event_lock,
)


def _around(section: CriticalSection, xen: str, after: str, tag: str) -> CriticalSection:
    return (
        # spin_lock_irqsave(&chn->lock, flags);
        rmw(
            "take",
            "lock",
            f"{xen}: spin_lock_irqsave",
            on("lock == 0", first_step(section, "leave"), lock=1),
        ),
        *splice(section, "leave", tag, "irqs_off"),
        # spin_unlock_irqrestore(&chn->lock, flags);
        rmw(
            "leave",
            "lock",
            f"{xen}: spin_unlock_irqrestore",
            on("", after, lock=-1),
            order=Order.RELEASE,
            tags=(tag, "irqs_off"),
        ),
    )


def _write(name: str, section: CriticalSection, xen: str, event_lock: bool) -> Program:
    take, *rest = _around(section, xen, "unlock", "writing")
    body = (replace(take, tags=("spinning", "irqs_off")), *rest)
    return Program(name, with_event_lock(xen, "take", body, event_lock), tags=("writer",))


def _read(name: str, section: CriticalSection, xen: str) -> Program:
    return Program(name, _around(section, xen, "take", "reading"), tags=("reader",))


def try_spinlock(name: str, section: CriticalSection, xen: str) -> Program:
    """Return a caller of spin_trylock_irqsave(), which gives up: only debug key i is one."""
    take, *rest = _around(section, xen, "try", "reading")
    # if ( spin_trylock_irqsave(&chn->lock, flags) )
    refused = drop("lock != 0", "try")
    steps = (replace(take, name="try", branches=(*take.branches, refused)), *rest)
    return Program(name, steps, tags=("reader",))


SPINLOCK_LOCK = Lock(
    "spinlock",
    (Variable("lock", 0, -1, 3), Variable("elock")),
    "lock == 0",
    (
        Never(MUTUAL_EXCLUSION, "writing > 0 and reading > 0"),
        Never("at most one thread inside", "writing + reading > 1"),
    ),
    _write,
    _read,
    _read,  # nobody whose event could be lost tries: a reader waits
)
