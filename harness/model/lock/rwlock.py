# SPDX-License-Identifier: GPL-2.0-or-later
"""The rwlock flavour's lock: Xen's queue rwlock, as merged in 5f2df45ead7c and released since.

The C that is quoted here is from xen/include/xen/rwlock.h and xen/common/rwlock.c of 4.17.

``cnts`` is one word with two fields: ``readers`` counts the readers (_QR_BIAS each), ``wmode``
is cnts & _QW_WMASK: 0 no writer, 1 one is waiting (_QW_WAITING), 3 one holds it (_QW_LOCKED).
``qlock`` is the spinlock rwlock_t.lock, on which the slow paths queue.  Where the C reads cnts
and then makes a cmpxchg that succeeds only if nothing has changed, the model has one step.
"""

from __future__ import annotations

from dataclasses import replace

from harness.model.explore.program import (
    AtomicStep,
    Fence,
    Never,
    Order,
    Program,
    Variable,
    load,
    on,
    rmw,
)
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

_FREE = "wmode == 0 and readers == 0"  # cnts == 0


def _write(name: str, section: CriticalSection, xen: str, event_lock: bool) -> Program:
    start = first_step(section, "leave")
    slow = f"{xen}: queue_write_lock_slowpath"
    taken = on("wmode != 0 or readers != 0", "queue")
    body = (
        # _write_lock():
        #     if ( atomic_cmpxchg(&lock->cnts, 0, _write_lock_val()) == 0 )
        #         return;
        rmw("claim", "cnts", f"{xen}: write_lock, cmpxchg", on(_FREE, start, wmode=3), taken),
        # queue_write_lock_slowpath():
        #     spin_lock(&lock->lock);
        rmw("queue", "qlock", f"{slow}, spin_lock", on("qlock == 0", "again", qlock=1)),
        #     if ( !atomic_read(&lock->cnts) &&
        #          (atomic_cmpxchg(&lock->cnts, 0, _write_lock_val()) == 0) )
        #         goto unlock;
        rmw(
            "again",
            "cnts",
            f"{slow}, cmpxchg",
            on(_FREE, "unqueue", wmode=3),
            replace(taken, then="mark"),
        ),
        #     if ( !(cnts & _QW_WMASK) &&
        #          (atomic_cmpxchg(&lock->cnts, cnts, cnts | _QW_WAITING) == cnts) )
        #         break;
        rmw(
            "mark",
            "cnts",
            f"{slow}, cmpxchg to waiting",
            on("wmode == 0", "drain", wmode=1),
            tags=("spinning",),
        ),
        #     if ( (cnts == _QW_WAITING) &&
        #          (atomic_cmpxchg(&lock->cnts, _QW_WAITING,
        #                          _write_lock_val()) == _QW_WAITING) )
        #         break;
        rmw(
            "drain",
            "cnts",
            f"{slow}, cmpxchg waiting to locked",
            on("wmode == 1 and readers == 0", "unqueue", wmode=2),
            tags=("spinning",),
        ),
        #  unlock:
        #     spin_unlock(&lock->lock);
        rmw("unqueue", "qlock", f"{slow}, spin_unlock", on("", start, qlock=-1)),
        *splice(section, "leave", "writing"),
        # _write_unlock():
        #     arch_lock_release_barrier();
        #     atomic_and(~(_QW_CPUMASK | _QW_WMASK), &lock->cnts);
        rmw(
            "leave",
            "cnts",
            f"{xen}: write_unlock",
            on("", "unlock", wmode=-3),
            order=Order.RELEASE,
            tags=("writing",),
        ),
    )
    return Program(name, with_event_lock(xen, "claim", body, event_lock), tags=("writer",))


def _read_unlock(xen: str) -> AtomicStep:
    # _read_unlock():
    #     arch_lock_release_barrier();
    #     atomic_sub(_QR_BIAS, &lock->cnts);
    return rmw(
        "leave",
        "cnts",
        f"{xen}: read_unlock",
        on("", "read", readers=-1),
        order=Order.RELEASE,
        tags=("reading",),
    )


def _read(name: str, section: CriticalSection, xen: str) -> Program:
    start = first_step(section, "leave")
    slow = f"{xen}: queue_read_lock_slowpath"
    steps = (
        # _read_lock():
        #     cnts = atomic_add_return(_QR_BIAS, &lock->cnts);
        #     if ( likely(_can_read_lock(cnts)) )
        #         return;
        rmw(
            "read",
            "cnts",
            f"{xen}: read_lock, atomic_add_return",
            on("wmode == 0", start, readers=1),
            on("wmode != 0", "undo", readers=1),
        ),
        # queue_read_lock_slowpath():
        #     atomic_sub(_QR_BIAS, &lock->cnts);
        rmw(
            "undo", "cnts", f"{slow}, atomic_sub", on("", "queue", readers=-1), order=Order.RELAXED
        ),
        #     spin_lock(&lock->lock);
        rmw("queue", "qlock", f"{slow}, spin_lock", on("qlock == 0", "look", qlock=1)),
        #     while ( atomic_read(&lock->cnts) & _QW_WMASK )
        #         cpu_relax();
        load("look", "cnts", f"{slow}, atomic_read", on("wmode == 0", "again")),
        #     cnts = atomic_add_return(_QR_BIAS, &lock->cnts);
        rmw(
            "again",
            "cnts",
            f"{slow}, atomic_add_return",
            on("wmode != 3", "unqueue", readers=1),
            on("wmode == 3", "wait", readers=1),
        ),
        # rspin_until_writer_unlock():
        #     while ( (cnts & _QW_WMASK) == _QW_LOCKED )
        #     {
        #         cpu_relax();
        #         smp_rmb();
        #         cnts = atomic_read(&lock->cnts);
        #     }
        load(
            "wait",
            "cnts",
            f"{slow}, rspin_until_writer_unlock",
            on("wmode != 3", "unqueue"),
            after=Fence.FULL,
        ),
        #     spin_unlock(&lock->lock);
        rmw("unqueue", "qlock", f"{slow}, spin_unlock", on("", start, qlock=-1)),
        *splice(section, "leave", "reading"),
        _read_unlock(xen),
    )
    return Program(name, steps, tags=("reader",))


def _tryread(name: str, section: CriticalSection, xen: str) -> Program:
    start = first_step(section, "leave")
    at = f"{xen}: read_trylock"
    steps = (
        # _read_trylock():
        #     cnts = atomic_read(&lock->cnts);
        #     if ( likely(_can_read_lock(cnts)) )
        load(
            "read",
            "cnts",
            f"{at}, atomic_read",
            on("wmode == 0", "add"),
            drop("wmode != 0", "read"),
        ),
        #         cnts = (u32)atomic_add_return(_QR_BIAS, &lock->cnts);
        #         if ( likely(_can_read_lock(cnts)) )
        #             return 1;
        rmw(
            "add",
            "cnts",
            f"{at}, atomic_add_return",
            on("wmode == 0", start, readers=1),
            drop("wmode != 0", "undo", readers=1),
        ),
        #         atomic_sub(_QR_BIAS, &lock->cnts);
        #     return 0;
        rmw("undo", "cnts", f"{at}, atomic_sub", on("", "read", readers=-1), order=Order.RELAXED),
        *splice(section, "leave", "reading"),
        _read_unlock(xen),
    )
    return Program(name, steps, tags=("reader",))


RWLOCK_LOCK = Lock(
    "rwlock",
    (
        Variable("readers", 0, -2, 255),
        Variable("wmode", 0, 0, 6),
        Variable("qlock"),
        Variable("elock"),
    ),
    "readers == 0 and wmode == 0",
    (
        Never(MUTUAL_EXCLUSION, "writing > 0 and reading > 0"),
        Never(ONE_WRITER, "writing > 1"),
        Never(COUNTER_RANGE, "readers < 0"),
    ),
    _write,
    _read,
    _tryread,
)
