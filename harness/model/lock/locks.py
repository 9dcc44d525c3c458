"""The four lock flavours as programs: the lock's own functions, one atomic access a step.

Read next to Xen's code: the counter is evtchn_write_lock() and friends of the posting
20201012092740.1617-3-jgross@suse.com, the rwlock xen/common/rwlock.c, the spinlock
xen/common/spinlock.c.  A section is what runs under the lock; it is spliced in between.

Tags: ``reading`` and ``writing`` are inside the lock; ``writer`` is anywhere in a writer's
operation after its first access; ``spinning`` waits to be let in; ``irqs_off`` cannot be
interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.model.explore.program import (
    AtomicStep,
    Branch,
    Fence,
    Never,
    Order,
    Program,
    Variable,
    chain,
    load,
    on,
    rmw,
)

MAX_VIRT_CPUS: dict[str, int] = {"x86_64": 8192, "arm64": 128}  # W = MAX_VIRT_CPUS

CriticalSection = tuple[AtomicStep, ...]

DROPPED_WITHOUT_WRITER = "an event is dropped only while a writer overlaps"
MUTUAL_EXCLUSION = "mutual exclusion of writer and readers"
ONE_WRITER = "at most one writer inside"
COUNTER_RANGE = "counter never under- or overflows"


@dataclass(frozen=True)
class Lock:
    """One flavour's lock functions.

    Each makes a program from a name, a section and the caller's name in Xen.  ``write`` takes
    the domain's event_lock first, as every caller does, unless told not to.
    """

    name: str
    variables: tuple[Variable, ...]
    rest: str  # what holds of the variables when no thread is active
    never: tuple[Never, ...]
    write: Callable[[str, CriticalSection, str, bool], Program]
    read: Callable[[str, CriticalSection, str], Program]  # blocks until it is in
    tryread: Callable[[str, CriticalSection, str], Program]  # gives up: the operation has no effect


def spliced(steps: CriticalSection, last: str, *tags: str) -> CriticalSection:
    """Link the steps of a section one after the other, the last one to ``last``, and tag them."""
    following = [*(step.name for step in steps[1:]), last][: len(steps)]
    linked = []
    for step, then in zip(steps, following, strict=True):
        branches = tuple(replace(b, then=b.then or then) for b in step.branches)
        linked.append(replace(step, branches=branches, tags=(*step.tags, *tags)))
    return tuple(linked)


def entry(steps: CriticalSection, last: str) -> str:
    """Return the name of the first step of a section that ends in ``last``."""
    return steps[0].name if steps else last


def _drop(when: str, then: str, **adds: int | str) -> Branch:
    return on(when, then, requires="writer > 0", claim=DROPPED_WITHOUT_WRITER, **adds)


def _with_event_lock(
    xen: str, start: str, body: CriticalSection, event_lock: bool
) -> CriticalSection:
    """Put a writer's ``body``, which ends by going to "unlock", inside the event_lock."""
    if not event_lock:
        straight = []
        for step in body:
            branches = (
                replace(b, then=start if b.then == "unlock" else b.then) for b in step.branches
            )
            straight.append(replace(step, branches=tuple(branches)))
        return chain(straight)
    lock = rmw("lock", "elock", f"{xen}, event_lock", on("elock == 0", start, elock=1))
    unlock = rmw(
        "unlock", "elock", f"{xen}, event_lock", on("", "lock", elock=-1), order=Order.RELEASE
    )
    return chain((lock, *body, unlock))


# -- counter -------------------------------------------------------------------------------


def _counter_write(name: str, inside: CriticalSection, xen: str, event_lock: bool) -> Program:
    start = entry(inside, "leave")
    at = f"{xen}: evtchn_write_lock"
    body = (
        rmw(
            "claim",
            "L",
            f"{at}, atomic_add_return",
            on("u(L + W) == W", start, L="W"),
            on("u(L + W) != W", "spin", L="W"),
        ),
        load("spin", "L", f"{at}, atomic_read", on("u(L) == W", start), tags=("spinning",)),
        *spliced(inside, "leave", "writing"),
        rmw(
            "leave",
            "L",
            f"{xen}: evtchn_write_unlock",
            on("", "unlock", L="-W"),
            order=Order.RELEASE,
            tags=("writing",),
        ),
    )
    return Program(name, _with_event_lock(xen, "claim", body, event_lock), tags=("writer",))


def _counter_reader(name: str, inside: CriticalSection, xen: str, gives_up: bool) -> Program:
    full = _drop if gives_up else on
    at = f"{xen}: evtchn_tryread_lock"
    test = [on("u(L) < W", "add")]
    again = load("again", "L", f"{at}, atomic_read (again)", *test)
    if gives_up:
        test.append(_drop("u(L) >= W", "read"))
    return Program(
        name,
        chain(
            (
                load("read", "L", f"{at}, atomic_read", *test),
                rmw(
                    "add",
                    "L",
                    f"{at}, atomic_inc_return",
                    on("u(L + 1) < W", entry(inside, "leave"), L=1),
                    full("u(L + 1) >= W", "undo", L=1),
                ),
                rmw(
                    "undo",
                    "L",
                    f"{at}, atomic_dec",
                    on("", "read" if gives_up else "again", L=-1),
                    order=Order.RELAXED,
                ),
                *(() if gives_up else (again,)),
                *spliced(inside, "leave", "reading"),
                rmw(
                    "leave",
                    "L",
                    f"{xen}: evtchn_read_unlock",
                    on("", "read", L=-1),
                    order=Order.RELEASE,
                    tags=("reading",),
                ),
            )
        ),
        tags=("reader",),
    )


COUNTER_LOCK = Lock(
    "counter",
    (Variable("L", 0, -8, 4 * MAX_VIRT_CPUS["x86_64"]), Variable("elock")),
    "L == 0",
    (
        Never(MUTUAL_EXCLUSION, "writing > 0 and reading > 0"),
        Never(ONE_WRITER, "writing > 1"),
        Never(COUNTER_RANGE, "L < 0 or L >= 2 * W"),
    ),
    _counter_write,
    lambda name, inside, xen: _counter_reader(name, inside, xen, False),
    lambda name, inside, xen: _counter_reader(name, inside, xen, True),
)

# -- rwlock --------------------------------------------------------------------------------
# cnts is one word with two fields: how many readers, and wmode = cnts & _QW_WMASK, which is
# 0 (none), 1 (waiting) or 3 (locked).  qlock is the spinlock its slow paths queue on.

_ALONE = "wmode == 0 and readers == 0"


def _rwlock_write(name: str, inside: CriticalSection, xen: str, event_lock: bool) -> Program:
    start = entry(inside, "leave")
    slow = f"{xen}: queue_write_lock_slowpath"
    taken = on("wmode != 0 or readers != 0", "queue")
    body = (
        rmw("claim", "cnts", f"{xen}: write_lock, cmpxchg", on(_ALONE, start, wmode=3), taken),
        rmw("queue", "qlock", f"{slow}, spin_lock", on("qlock == 0", "again", qlock=1)),
        rmw(
            "again",
            "cnts",
            f"{slow}, cmpxchg",
            on(_ALONE, "unqueue", wmode=3),
            replace(taken, then="mark"),
        ),
        rmw(
            "mark",
            "cnts",
            f"{slow}, cmpxchg to waiting",
            on("wmode == 0", "drain", wmode=1),
            tags=("spinning",),
        ),
        rmw(
            "drain",
            "cnts",
            f"{slow}, cmpxchg waiting to locked",
            on("wmode == 1 and readers == 0", "unqueue", wmode=2),
            tags=("spinning",),
        ),
        rmw("unqueue", "qlock", f"{slow}, spin_unlock", on("", start, qlock=-1)),
        *spliced(inside, "leave", "writing"),
        rmw(
            "leave",
            "cnts",
            f"{xen}: write_unlock",
            on("", "unlock", wmode=-3),
            order=Order.RELEASE,
            tags=("writing",),
        ),
    )
    return Program(name, _with_event_lock(xen, "claim", body, event_lock), tags=("writer",))


def _rwlock_leave(xen: str) -> AtomicStep:
    return rmw(
        "leave",
        "cnts",
        f"{xen}: read_unlock",
        on("", "read", readers=-1),
        order=Order.RELEASE,
        tags=("reading",),
    )


def _rwlock_read(name: str, inside: CriticalSection, xen: str) -> Program:
    start = entry(inside, "leave")
    slow = f"{xen}: queue_read_lock_slowpath"
    steps = (
        rmw(
            "read",
            "cnts",
            f"{xen}: read_lock, atomic_add_return",
            on("wmode == 0", start, readers=1),
            on("wmode != 0", "undo", readers=1),
        ),
        rmw(
            "undo", "cnts", f"{slow}, atomic_sub", on("", "queue", readers=-1), order=Order.RELAXED
        ),
        rmw("queue", "qlock", f"{slow}, spin_lock", on("qlock == 0", "look", qlock=1)),
        load("look", "cnts", f"{slow}, atomic_read", on("wmode == 0", "again")),
        rmw(
            "again",
            "cnts",
            f"{slow}, atomic_add_return",
            on("wmode != 3", "unqueue", readers=1),
            on("wmode == 3", "wait", readers=1),
        ),
        load(
            "wait",
            "cnts",
            f"{slow}, rspin_until_writer_unlock",
            on("wmode != 3", "unqueue"),
            after=Fence.FULL,
        ),
        rmw("unqueue", "qlock", f"{slow}, spin_unlock", on("", start, qlock=-1)),
        *spliced(inside, "leave", "reading"),
        _rwlock_leave(xen),
    )
    return Program(name, chain(steps), tags=("reader",))


def _rwlock_tryread(name: str, inside: CriticalSection, xen: str) -> Program:
    start = entry(inside, "leave")
    at = f"{xen}: read_trylock"
    steps = (
        load(
            "read",
            "cnts",
            f"{at}, atomic_read",
            on("wmode == 0", "add"),
            _drop("wmode != 0", "read"),
        ),
        rmw(
            "add",
            "cnts",
            f"{at}, atomic_add_return",
            on("wmode == 0", start, readers=1),
            _drop("wmode != 0", "undo", readers=1),
        ),
        rmw("undo", "cnts", f"{at}, atomic_sub", on("", "read", readers=-1), order=Order.RELAXED),
        *spliced(inside, "leave", "reading"),
        _rwlock_leave(xen),
    )
    return Program(name, chain(steps), tags=("reader",))


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
    _rwlock_write,
    _rwlock_read,
    _rwlock_tryread,
)

# -- spinlock ------------------------------------------------------------------------------
# Any waiter may be the next: every order a ticket lock can produce, and more.


def _spin(xen: str, inside: CriticalSection, after: str, tag: str) -> CriticalSection:
    return (
        rmw(
            "take",
            "lock",
            f"{xen}: spin_lock_irqsave",
            on("lock == 0", entry(inside, "leave"), lock=1),
        ),
        *spliced(inside, "leave", tag, "irqs_off"),
        rmw(
            "leave",
            "lock",
            f"{xen}: spin_unlock_irqrestore",
            on("", after, lock=-1),
            order=Order.RELEASE,
            tags=(tag, "irqs_off"),
        ),
    )


def _spin_write(name: str, inside: CriticalSection, xen: str, event_lock: bool) -> Program:
    take, *rest = _spin(xen, inside, "unlock", "writing")
    body = (replace(take, tags=("spinning", "irqs_off")), *rest)
    return Program(name, _with_event_lock(xen, "take", body, event_lock), tags=("writer",))


def _spin_read(name: str, inside: CriticalSection, xen: str) -> Program:
    return Program(name, chain(_spin(xen, inside, "take", "reading")), tags=("reader",))


SPINLOCK_LOCK = Lock(
    "spinlock",
    (Variable("lock", 0, -1, 3), Variable("elock")),
    "lock == 0",
    (
        Never(MUTUAL_EXCLUSION, "writing > 0 and reading > 0"),
        Never("at most one thread inside", "writing + reading > 1"),
    ),
    _spin_write,
    _spin_read,
    _spin_read,
)

LOCKS: dict[str, Lock] = {
    "spinlock": SPINLOCK_LOCK,
    "counter-v2": replace(COUNTER_LOCK, name="counter-v2"),
    "counter": COUNTER_LOCK,
    "rwlock": RWLOCK_LOCK,
}
