"""Programs of the lock, declaratively: steps of one atomic access each, and systems of threads.

A ``Program`` is what one call site does to the lock, as a list of ``Step``s.  A thread that is
at a step is about to make that step's access.  A step's branches say, by the value it finds,
what it writes and where it goes; when no branch applies, the thread waits there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum

DONE = "done"  # where a thread goes that runs once


class AccessKind(Enum):
    """What a step does to memory."""

    LOAD = "read"
    STORE = "write"
    RMW = "atomic"  # atomic read-modify-write
    LOCAL = "local"  # no shared access (taking an interrupt, a return)


class Fence(Enum):
    """A barrier beside an access."""

    NONE = "none"
    FULL = "full"  # smp_mb(): dmb ish; mfence or a locked access
    READ = "read"  # smp_rmb(): dmb ishld
    WRITE = "write"  # smp_wmb(): dmb ishst


@dataclass(frozen=True)
class Branch:
    """One way a step can go."""

    when: str  # formula over the value found; "" always
    then: str  # next step
    adds: tuple[tuple[str, int | str], ...] = ()  # (variable, what is added: number or constant)
    sets: tuple[tuple[str, int], ...] = ()  # (variable, its new value)
    requires: str = ""  # formula that must hold whenever this branch is taken
    claim: str = ""  # the property that ``requires`` states


@dataclass(frozen=True)
class AtomicStep:
    """One atomic access."""

    name: str
    kind: AccessKind
    word: str  # the shared variable it accesses; "" for LOCAL
    branches: tuple[Branch, ...]
    xen: str  # where it is in Xen
    tags: tuple[str, ...] = ()
    before: Fence = Fence.NONE
    after: Fence = Fence.NONE
    observe: str = ""  # register that keeps the value read
    after_value_of: tuple[str, ...] = ()  # steps whose value this one's address or data needs


@dataclass(frozen=True)
class Program:
    """What a thread runs, from its first step round to its first step again."""

    name: str
    steps: tuple[AtomicStep, ...]
    tags: tuple[str, ...] = ()  # carried by every step but the first

    def step(self, name: str) -> AtomicStep:
        """Return the step called ``name``."""
        return next(step for step in self.steps if step.name == name)

    def edit(self, name: str, change: Callable[[AtomicStep], AtomicStep]) -> Program:
        """Return a copy in which the step ``name`` is changed."""
        assert any(step.name == name for step in self.steps), f"{self.name} has no step {name}"
        steps = tuple(change(s) if s.name == name else s for s in self.steps)
        return replace(self, steps=steps)

    def once(self) -> Program:
        """Return a copy that ends instead of starting again."""
        first = self.steps[0].name

        def end(branch: Branch) -> Branch:
            return replace(branch, then=DONE) if branch.then == first else branch

        steps = (replace(s, branches=tuple(end(b) for b in s.branches)) for s in self.steps)
        return replace(self, steps=tuple(steps))

    @property
    def places(self) -> tuple[str, ...]:
        """Names of the steps a thread can be at, the first one first; DONE last if it can end."""
        names = [step.name for step in self.steps]
        ends = any(b.then == DONE for step in self.steps for b in step.branches)
        return (*names, DONE) if ends else tuple(names)

    def tags_of(self, place: str) -> tuple[str, ...]:
        """Return the tags a thread at ``place`` carries."""
        if place == DONE:
            return ()
        step = self.step(place)
        return step.tags if step is self.steps[0] else (*step.tags, *self.tags)


@dataclass(frozen=True)
class Variable:
    """A shared variable, with the range an explicit exploration has to provide for."""

    name: str
    initial: int = 0
    low: int = 0
    high: int = 1


@dataclass(frozen=True)
class Never:
    """A property: no reachable state may satisfy ``formula``."""

    name: str
    formula: str


@dataclass(frozen=True)
class Role:
    """``count`` threads that run the same program."""

    program: Program
    count: int

    @property
    def name(self) -> str:
        return self.program.name


@dataclass(frozen=True)
class System:
    """Threads, variables and what must never happen."""

    name: str
    roles: tuple[Role, ...]
    variables: tuple[Variable, ...]
    constants: tuple[tuple[str, int], ...] = ()
    never: tuple[Never, ...] = ()
    returns_to_rest: bool = (
        True  # every state must be able to reach one where all threads are at rest
    )
    rest: str = ""  # and where this holds
    rest_claim: str = "no stuck writer or reader"

    def constant(self, value: int | str) -> int:
        """Return a number for ``value``: a number, or a constant, maybe negated ("-W")."""
        if isinstance(value, int):
            return value
        names = dict(self.constants)
        return -names[value[1:]] if value.startswith("-") else names[value]

    def without_symmetry(self) -> System:
        """Return the same system with every thread a role of its own: nothing is symmetric."""
        roles = (
            Role(replace(role.program, name=f"{role.name} {number}"), 1)
            for role in self.roles
            for number in range(role.count)
        )
        return replace(self, roles=tuple(roles))


def on(when: str, then: str, *, requires: str = "", claim: str = "", **adds: int | str) -> Branch:
    """Write a branch: ``on("L < W", "inside", L=1)`` adds 1 to L."""
    return Branch(when, then, tuple(adds.items()), (), requires, claim)


def chain(steps: Iterable[AtomicStep]) -> tuple[AtomicStep, ...]:
    """Return the steps as a tuple, checked: unique names, every target exists."""
    listed = tuple(steps)
    names = [step.name for step in listed]
    assert len(set(names)) == len(names), f"two steps of one name: {names}"
    for step in listed:
        for branch in step.branches:
            assert branch.then in names or branch.then == DONE, f"{step.name} -> {branch.then}"
    return listed


class Order(Enum):
    """How an atomic read-modify-write is ordered against its neighbours, as Xen writes it."""

    RELAXED = (Fence.NONE, Fence.NONE)  # atomic_dec, atomic_sub
    RELEASE = (Fence.FULL, Fence.NONE)  # after arch_lock_release_barrier()
    FULL = (Fence.FULL, Fence.FULL)  # atomic_add_return, cmpxchg


def rmw(
    name: str,
    word: str,
    xen: str,
    *branches: Branch,
    order: Order = Order.FULL,
    tags: tuple[str, ...] = (),
) -> AtomicStep:
    """Write an atomic read-modify-write step."""
    before, after = order.value
    return AtomicStep(name, AccessKind.RMW, word, branches, xen, tags, before, after)


def load(
    name: str,
    word: str,
    xen: str,
    *branches: Branch,
    tags: tuple[str, ...] = (),
    after: Fence = Fence.NONE,
) -> AtomicStep:
    """Write a plain atomic read."""
    return AtomicStep(name, AccessKind.LOAD, word, branches, xen, tags, after=after)
