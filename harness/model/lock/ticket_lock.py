# SPDX-License-Identifier: GPL-2.0-or-later
"""Spinlocks as Xen has them: ticket locks, in which threads get in in the order they came.

``spinlock`` models a lock in which any waiting thread may be the next.  That allows every order
that a ticket lock can produce, and more, and so is right for safety.  For starvation the order
matters: here the spinlocks of a system are replaced by ticket locks.  The C that is quoted is
from xen/common/spinlock.c of 4.17.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from harness.model.explore.program import (
    AccessKind,
    AtomicStep,
    Branch,
    Program,
    System,
    Variable,
)


def ticketed(system: System, *locks: str) -> System:
    """Return ``system`` with the spinlock variables ``locks`` as ticket locks.

    Names of ``locks`` that are no variable of the system are passed over.
    """
    for lock in locks:
        if any(variable.name == lock for variable in system.variables):
            system = _ticketed(system, lock)
    return system


def _ticketed(system: System, lock: str) -> System:
    tickets = sum(role.count for role in system.roles) + 1  # as many as can be out at once
    roles = tuple(
        replace(role, program=_program(role.program, lock, tickets)) for role in system.roles
    )
    others = tuple(v for v in system.variables if v.name != lock)
    added = tuple(Variable(f"{lock}_{end}", 0, 0, tickets - 1) for end in ("head", "tail"))
    rest = system.rest.replace(f"{lock} == 0", f"{lock}_head == {lock}_tail")
    return replace(system, roles=roles, variables=others + added, rest=rest)


def _program(program: Program, lock: str, tickets: int) -> Program:
    steps = [new for step in program.steps for new in _steps(step, lock, tickets)]
    return replace(program, steps=tuple(steps))


def _steps(step: AtomicStep, lock: str, tickets: int) -> Iterator[AtomicStep]:
    if step.word != lock:
        yield step
        return
    branch = step.branches[0]
    if len(step.branches) > 1:
        yield _try(step, lock, tickets)
    elif dict(branch.adds).get(lock) == 1:
        yield from _lock(step, branch, lock, tickets)
    else:
        yield _unlock(step, branch, lock, tickets)


def _lock(step: AtomicStep, branch: Branch, lock: str, tickets: int) -> Iterator[AtomicStep]:
    """Yield the step that draws a ticket, and one step for each ticket that waits for its turn."""
    tail, head = f"{lock}_tail", f"{lock}_head"
    # tickets.head_tail = arch_fetch_and_add(&lock->tickets.head_tail,
    #                                        tickets.head_tail);
    draws = tuple(
        Branch(f"{tail} == {n}", f"{step.name} {n}", sets=((tail, (n + 1) % tickets),))
        for n in range(tickets)
    )
    yield replace(step, word=tail, branches=draws)
    # while ( tickets.tail != observe_head(&lock->tickets) )
    #     arch_lock_relax();
    for n in range(tickets):
        served = (replace(branch, when=f"{head} == {n}", adds=()),)
        name = f"{step.name} {n}"
        yield replace(step, name=name, kind=AccessKind.LOAD, word=head, branches=served)


def _try(step: AtomicStep, lock: str, tickets: int) -> AtomicStep:
    """Return the step that draws a ticket if it is served at once, and else gives up."""
    tail, head = f"{lock}_tail", f"{lock}_head"
    taken, refused = step.branches
    # if ( old.tail != old.head )
    #     return 0;
    # new.tail++;
    # if ( cmpxchg(&lock->tickets.head_tail, old.head_tail, new.head_tail) != old.head_tail )
    draws = tuple(
        replace(
            taken,
            when=f"{head} == {tail} and {tail} == {n}",
            adds=(),
            sets=((tail, (n + 1) % tickets),),
        )
        for n in range(tickets)
    )
    return replace(step, word=tail, branches=(*draws, replace(refused, when=f"{head} != {tail}")))


def _unlock(step: AtomicStep, branch: Branch, lock: str, tickets: int) -> AtomicStep:
    head = f"{lock}_head"
    # add_sized(&lock->tickets.head, 1);
    also = f"({branch.when}) and " if branch.when else ""
    others = tuple(add for add in branch.adds if add[0] != lock)
    branches = tuple(
        replace(
            branch,
            when=f"{also}{head} == {n}",
            adds=others,
            sets=((head, (n + 1) % tickets),),
        )
        for n in range(tickets)
    )
    return replace(step, word=head, branches=branches)
