# SPDX-License-Identifier: GPL-2.0-or-later
"""The counter flavours' lock: one atomic integer L per channel, 0 when nobody uses it.

A reader inside adds 1, a writer adds W = MAX_VIRT_CPUS (EVENT_WRITE_LOCK_INC).  The C that is
quoted here is from "[PATCH v2 2/2] xen/evtchn: rework per event channel lock" (Juergen Gross,
Message-Id 20201012092740.1617-3-jgross@suse.com), xen/include/xen/event.h.  Our own ``counter``
(images/xen/4.17/counter/counter.patch) makes the same accesses, and has one barrier more: after
the loop of evtchn_write_lock().  See also docs/spec/lock.md.

L is a C int, and is compared with an unsigned W: u(L) in the formulas.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from harness.model.explore.program import Fence, Never, Order, Program, Variable, load, on, rmw
from harness.model.lock.flavours import MAX_VIRT_CPUS
from harness.model.lock.lock_functions import (
    COUNTER_RANGE,
    MUTUAL_EXCLUSION,
    ONE_WRITER,
    CriticalSection,
    Lock,
    drop,
    first_step,
    splice,
    with_event_lock,
)


def _write(
    name: str,
    section: CriticalSection,
    xen: str,
    event_lock: bool,
    after_spin: Fence = Fence.READ,
) -> Program:
    start = first_step(section, "leave")
    lock, unlock = f"{xen}: evtchn_write_lock", f"{xen}: evtchn_write_unlock"
    body = (
        # for ( val = atomic_add_return(EVENT_WRITE_LOCK_INC, &evtchn->lock);
        rmw(
            "claim",
            "L",
            f"{lock}, atomic_add_return",
            on("u(L + W) == W", start, L="W"),
            on("u(L + W) != W", "spin", L="W"),
        ),
        #       val != EVENT_WRITE_LOCK_INC;
        #       val = atomic_read(&evtchn->lock) )
        #     cpu_relax();
        # smp_rmb(); (counter; the posting has none)
        load(
            "spin",
            "L",
            f"{lock}, atomic_read",
            on("u(L) == W", start),
            tags=("spinning",),
            after=after_spin,
        ),
        *splice(section, "leave", "writing"),
        # arch_lock_release_barrier();
        # atomic_sub(EVENT_WRITE_LOCK_INC, &evtchn->lock);
        rmw(
            "leave",
            "L",
            unlock,
            on("", "unlock", L="-W"),
            order=Order.RELEASE,
            tags=("writing",),
        ),
    )
    return Program(name, with_event_lock(xen, "claim", body, event_lock), tags=("writer",))


def _reader(name: str, section: CriticalSection, xen: str, gives_up: bool) -> Program:
    """A caller of evtchn_tryread_lock(), which ``gives_up`` or tries again until it is in."""
    refuse = drop if gives_up else on
    lock, unlock = f"{xen}: evtchn_tryread_lock", f"{xen}: evtchn_read_unlock"
    found = [on("u(L) < W", "add")]
    again = load("again", "L", f"{lock}, atomic_read (again)", *found)
    if gives_up:
        found.append(drop("u(L) >= W", "read"))
    steps = (
        # if ( atomic_read(&evtchn->lock) >= EVENT_WRITE_LOCK_INC )
        #     return false;
        load("read", "L", f"{lock}, atomic_read", *found),
        # if ( atomic_inc_return(&evtchn->lock) < EVENT_WRITE_LOCK_INC )
        #     return true;
        rmw(
            "add",
            "L",
            f"{lock}, atomic_inc_return",
            on("u(L + 1) < W", first_step(section, "leave"), L=1),
            refuse("u(L + 1) >= W", "undo", L=1),
        ),
        # atomic_dec(&evtchn->lock);
        # return false;
        rmw(
            "undo",
            "L",
            f"{lock}, atomic_dec",
            on("", "read" if gives_up else "again", L=-1),
            order=Order.RELAXED,
        ),
        *(() if gives_up else (again,)),
        *splice(section, "leave", "reading"),
        # arch_lock_release_barrier();
        # atomic_dec(&evtchn->lock);
        rmw("leave", "L", unlock, on("", "read", L=-1), order=Order.RELEASE, tags=("reading",)),
    )
    return Program(name, steps, tags=("reader",))


def _read(name: str, section: CriticalSection, xen: str) -> Program:
    return _reader(name, section, xen, gives_up=False)


def _tryread(name: str, section: CriticalSection, xen: str) -> Program:
    return _reader(name, section, xen, gives_up=True)


COUNTER_LOCK = Lock(
    "counter",
    (Variable("L", 0, -8, 4 * MAX_VIRT_CPUS["x86_64"]), Variable("elock")),
    "L == 0",
    (
        Never(MUTUAL_EXCLUSION, "writing > 0 and reading > 0"),
        Never(ONE_WRITER, "writing > 1"),
        Never(COUNTER_RANGE, "L < 0 or L >= 2 * W"),
    ),
    _write,
    _read,
    _tryread,
)

# As posted: a writer that had to spin is let in by a plain read.
POSTED_COUNTER_LOCK = replace(
    COUNTER_LOCK, name="counter-v2", write=partial(_write, after_spin=Fence.NONE)
)
