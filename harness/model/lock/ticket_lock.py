"""Xen's spinlocks are ticket locks: who waits is served in turn.

The flavours model a spinlock as "any waiter may be next", which allows every order a ticket lock
can produce and more, and so is right for safety.  For starvation the order matters: here a
system's spinlocks are replaced by ticket locks (xen/common/spinlock.c, spinlock_tickets_t).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from harness.model.explore.program import AccessKind, AtomicStep, Branch, Program, System, Variable


def ticketed(system: System, *locks: str) -> System:
    """Return ``system`` with the spinlock variables ``locks`` as ticket locks."""
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
    if dict(branch.adds).get(lock) == 1:
        yield from _take(step, branch, lock, tickets)
    else:
        yield replace(step, word=f"{lock}_head", branches=_next(branch, f"{lock}_head", tickets))


def _take(step: AtomicStep, branch: Branch, lock: str, tickets: int) -> Iterator[AtomicStep]:
    draws = tuple(
        Branch(
            f"{lock}_tail == {n}", f"{step.name} {n}", sets=((f"{lock}_tail", (n + 1) % tickets),)
        )
        for n in range(tickets)
    )
    yield replace(step, word=f"{lock}_tail", branches=draws)
    for n in range(tickets):
        served = replace(branch, when=f"{lock}_head == {n}", adds=())
        yield replace(
            step,
            name=f"{step.name} {n}",
            kind=AccessKind.LOAD,
            word=f"{lock}_head",
            branches=(served,),
        )


def _next(branch: Branch, head: str, tickets: int) -> tuple[Branch, ...]:
    return tuple(
        replace(branch, when=f"{head} == {n}", adds=(), sets=((head, (n + 1) % tickets),))
        for n in range(tickets)
    )
