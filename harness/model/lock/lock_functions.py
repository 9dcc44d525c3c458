# SPDX-License-Identifier: GPL-2.0-or-later
"""What a lock consists of: its functions as programs, and what has to hold of them.

A critical section is what runs under the lock.  It is spliced into the lock's program, between
the step that lets the thread in and the step that lets it out.

Tags: ``reading`` and ``writing`` are inside the lock; ``reader`` and ``writer`` are anywhere in
such an operation after its first access; ``spinning`` waits to be let in; ``irqs_off`` cannot be
interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.model.explore.program import (
    AtomicStep,
    Branch,
    Never,
    Order,
    Program,
    Role,
    System,
    Variable,
    on,
    rmw,
)

CriticalSection = tuple[AtomicStep, ...]

TAGS = ("reading", "writing", "reader", "writer", "spinning", "irqs_off")

DROPPED_WITHOUT_WRITER = "an event is dropped only while a writer overlaps"
MUTUAL_EXCLUSION = "mutual exclusion of writer and readers"
ONE_WRITER = "at most one writer inside"
COUNTER_RANGE = "counter never under- or overflows"


@dataclass(frozen=True)
class Lock:
    """The functions of one lock.

    Each function makes a program from its name, the critical section and the caller in Xen.
    The programs are built and checked when the lock is defined, so that a mistake in a formula
    raises ProgramError when the module is imported.
    """

    name: str
    variables: tuple[Variable, ...]
    rest: str  # formula: what holds of the variables when no thread is active
    never: tuple[Never, ...]
    # The last argument: whether the domain's event_lock is taken around it, as every caller does.
    write: Callable[[str, CriticalSection, str, bool], Program]
    read: Callable[[str, CriticalSection, str], Program]  # waits until it is in
    tryread: Callable[[str, CriticalSection, str], Program]  # gives up: the operation does nothing
    constants: tuple[str, ...] = ("W",)  # of which the formulas make use

    def __post_init__(self) -> None:
        programs = (
            self.write("write", (), "", True),
            self.read("read", (), ""),
            self.tryread("tryread", (), ""),
        )
        System(
            f"lock {self.name}",
            tuple(Role(program, 1) for program in programs),
            self.variables,
            tuple((name, 1) for name in self.constants),
            self.never,
            rest=self.rest,
            tags=TAGS,
        )


def splice(section: CriticalSection, last: str, *tags: str) -> CriticalSection:
    """Link the steps of a section one after the other, the last one to ``last``, and tag them."""
    following = [*(step.name for step in section[1:]), last][: len(section)]
    linked = []
    for step, then in zip(section, following, strict=True):
        branches = tuple(replace(b, then=b.then or then) for b in step.branches)
        linked.append(replace(step, branches=branches, tags=(*step.tags, *tags)))
    return tuple(linked)


def first_step(section: CriticalSection, last: str) -> str:
    """Return the name of the first step of a section that goes to ``last`` at its end."""
    return section[0].name if section else last


def drop(when: str, then: str, **adds: int | str) -> Branch:
    """Write a branch that gives up: only a writer may be the reason."""
    return on(when, then, requires="writer > 0", claim=DROPPED_WITHOUT_WRITER, **adds)


def with_event_lock(
    xen: str, start: str, body: CriticalSection, event_lock: bool
) -> CriticalSection:
    """Put a writer's ``body``, which goes to "unlock" at its end, inside the event_lock.

    Without ``event_lock`` it goes to its own ``start`` instead.
    """
    if not event_lock:
        straight = []
        for step in body:
            branches = (
                replace(b, then=start if b.then == "unlock" else b.then) for b in step.branches
            )
            straight.append(replace(step, branches=tuple(branches)))
        return tuple(straight)
    # spin_lock(&d->event_lock); since 4.17 write_lock(&d->event_lock)
    lock = rmw("lock", "elock", f"{xen}, event_lock", on("elock == 0", start, elock=1))
    unlock = rmw(
        "unlock", "elock", f"{xen}, event_lock", on("", "lock", elock=-1), order=Order.RELEASE
    )
    return (lock, *body, unlock)
