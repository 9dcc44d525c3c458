# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs and the systems of threads that run them: what the explorer explores.

A ``Program`` is what one call site of Xen does to the lock, as a list of steps.  A step makes
one atomic access.  A thread that is at a step has not made the step's access yet.  The branches
of the step say, by the values that the access finds, what it writes and which step comes next;
when no branch applies, the thread waits at the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum

from harness.model.explore.formula import FormulaError, check

DONE = "done"  # where a thread ends that runs its program only once
BUSY = "busy"  # tag of every thread that is neither at its first step nor at DONE


class ProgramError(Exception):
    """A program or a system is written wrongly.  The message says what, and at which step."""


class AccessKind(Enum):
    """What a step does to memory."""

    LOAD = "read"
    STORE = "write"
    RMW = "atomic"  # atomic read-modify-write
    LOCAL = "local"  # no access to memory: an interrupt is taken, a function returns, a barrier


class Fence(Enum):
    """A barrier beside an access."""

    NONE = "none"
    FULL = "full"  # smp_mb(): dmb ish; mfence or a locked access
    READ = "read"  # smp_rmb(): dmb ishld
    WRITE = "write"  # smp_wmb(): dmb ishst
    STORES = "stores"  # dsb ishst: earlier stores come before all that is later
    INSTRUCTIONS = "instructions"  # isb(): what is later waits until the way here is decided


@dataclass(frozen=True)
class Branch:
    """One way a step can go."""

    when: str  # the branch is taken where this formula holds; "": always
    then: str  # the next step
    adds: tuple[tuple[str, int | str], ...] = ()  # (variable, what is added: number or constant)
    sets: tuple[tuple[str, int], ...] = ()  # (variable, its new value)
    requires: str = ""  # formula: a property that must hold whenever the branch is taken
    claim: str = ""  # that property in words


@dataclass(frozen=True)
class AtomicStep:
    """One atomic access, and the barriers beside it."""

    name: str
    kind: AccessKind
    word: str  # the word of memory that it accesses; "" for LOCAL
    branches: tuple[Branch, ...]
    xen: str  # the function in Xen, and the operation in it
    tags: tuple[str, ...] = ()
    before: Fence = Fence.NONE
    after: Fence = Fence.NONE
    observe: str = ""  # the register that keeps the value read
    after_value_of: tuple[str, ...] = ()  # the steps whose values its address or data is made of
    depends: Dependencies | None = None  # the same and more, exactly; None: see Dependencies


@dataclass(frozen=True)
class Dependencies:
    """The steps, by name, on whose values a step depends.

    A step without it depends on ``after_value_of`` (its address if it only reads, otherwise its
    data), and its way is decided by each earlier step that has a branch with a condition.
    """

    address: frozenset[str] = frozenset()
    data: frozenset[str] = frozenset()
    way: frozenset[str] = frozenset()  # a branch before it looks at them
    # Those that only chose between values (csel, a compare-and-swap that succeeded): on Arm, a
    # store and an isb wait for them, a load does not ("pick dependencies").
    picked: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Program:
    """What a thread runs: from the first step on, and again from the first step."""

    name: str
    steps: tuple[AtomicStep, ...]
    tags: tuple[str, ...] = ()  # every step but the first has them

    def step(self, name: str) -> AtomicStep:
        """Return the step called ``name``."""
        return next(step for step in self.steps if step.name == name)

    def edit(self, name: str, change: Callable[[AtomicStep], AtomicStep]) -> Program:
        """Return a copy in which the step ``name`` is changed."""
        if all(step.name != name for step in self.steps):
            names = ", ".join(step.name for step in self.steps)
            raise ProgramError(f"program {self.name!r}: no step {name!r} to change; it has {names}")
        steps = tuple(change(s) if s.name == name else s for s in self.steps)
        return replace(self, steps=steps)

    def once(self) -> Program:
        """Return a copy that ends where this one starts again."""
        first = self.steps[0].name

        def end(branch: Branch) -> Branch:
            return replace(branch, then=DONE) if branch.then == first else branch

        steps = (replace(s, branches=tuple(end(b) for b in s.branches)) for s in self.steps)
        return replace(self, steps=tuple(steps))

    @property
    def places(self) -> tuple[str, ...]:
        """The steps at which a thread can be, the first one first; DONE last if it can end."""
        names = [step.name for step in self.steps]
        ends = any(b.then == DONE for step in self.steps for b in step.branches)
        return (*names, DONE) if ends else tuple(names)

    def tags_of(self, place: str) -> tuple[str, ...]:
        """Return the tags of a thread that is at ``place``."""
        if place == DONE:
            return ()
        step = self.step(place)
        return step.tags if step is self.steps[0] else (*step.tags, *self.tags)


@dataclass(frozen=True)
class Variable:
    """A variable in shared memory, and the range in which the explorer follows it."""

    name: str
    initial: int = 0
    low: int = 0
    high: int = 1


@dataclass(frozen=True)
class Never:
    """A property: no state that can be reached satisfies ``formula``."""

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
    """Threads, the variables that they share, and what must hold of them.

    A state is at rest when every thread is at its first step or DONE, and the formula ``rest``
    holds.  Raises ProgramError when a program goes to a step that does not exist, or when a
    formula cannot be read or names something that is not declared.
    """

    name: str
    roles: tuple[Role, ...]
    variables: tuple[Variable, ...]
    constants: tuple[tuple[str, int], ...] = ()
    never: tuple[Never, ...] = ()
    returns_to_rest: bool = True  # the property: from every state, a state at rest can be reached
    rest: str = ""
    rest_claim: str = "no stuck writer or reader"  # that property in words
    tags: tuple[str, ...] = ()  # that a formula may name though no program here has them

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise ProgramError(f"{self.name}: {problem}")

    def constant(self, value: int | str) -> int:
        """Return a number for ``value``: a number, or the name of a constant, maybe with "-"."""
        if isinstance(value, int):
            return value
        names = dict(self.constants)
        return -names[value[1:]] if value.startswith("-") else names[value]

    def without_symmetry(self) -> System:
        """Return the same system in which every thread has a role of its own.

        The explorer then takes no two threads for interchangeable.
        """
        roles = (
            Role(replace(role.program, name=f"{role.name} {number}"), 1)
            for role in self.roles
            for number in range(role.count)
        )
        return replace(self, roles=tuple(roles))


# -- checking what was written -------------------------------------------------------------


def _problems(system: System) -> Iterator[str]:
    """Yield what is wrong with ``system``: where and what."""
    programs = [role.program for role in system.roles]
    steps = [step for program in programs for step in program.steps]
    variables = {variable.name for variable in system.variables}
    constants = {name for name, _ in system.constants}
    tags = {BUSY, *system.tags}
    tags.update(tag for program in programs for tag in program.tags)
    tags.update(tag for step in steps for tag in step.tags)
    declared = variables | constants | tags
    for program in programs:
        for problem in _program_problems(program, variables, constants, declared):
            yield f"program {program.name!r}, {problem}"
    registers = {step.observe for step in steps if step.observe}
    for never in system.never:
        yield from _formula_problems(f"never {never.name!r}", never.formula, declared | registers)
    yield from _formula_problems("rest", system.rest, declared)


def _program_problems(
    program: Program, variables: set[str], constants: set[str], declared: set[str]
) -> Iterator[str]:
    names = [step.name for step in program.steps]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"step {name!r}: there is another step of this name"
    for step in program.steps:
        where = f"step {step.name!r}"
        for branch in step.branches:
            yield from _formula_problems(where, branch.when, declared)
            yield from _formula_problems(where, branch.requires, declared)
            if branch.then not in (*names, DONE):
                yield f"{where}: goes to {branch.then!r}; the steps are {', '.join(names)}"
            for name, _ in (*branch.adds, *branch.sets):
                if name not in variables:
                    yield f"{where}: writes {name!r}, which is no variable of the system"
            for _, value in branch.adds:
                if isinstance(value, str) and value.removeprefix("-") not in constants:
                    yield f"{where}: adds {value!r}, which is no constant of the system"


def _formula_problems(where: str, formula: str, declared: set[str]) -> Iterator[str]:
    try:
        check(formula, declared)
    except FormulaError as error:
        yield f"{where}: {error}"


# -- writing programs ----------------------------------------------------------------------


class Order(Enum):
    """How an atomic read-modify-write is ordered against its neighbours, as Xen writes it."""

    RELAXED = (Fence.NONE, Fence.NONE)  # atomic_dec, atomic_sub
    RELEASE = (Fence.FULL, Fence.NONE)  # after arch_lock_release_barrier()
    FULL = (Fence.FULL, Fence.FULL)  # atomic_add_return, cmpxchg


def on(when: str, then: str, *, requires: str = "", claim: str = "", **adds: int | str) -> Branch:
    """Write a branch that adds: ``on("L < W", "inside", L=1)`` adds 1 to L."""
    return Branch(when, then, tuple(adds.items()), (), requires, claim)


def assign(then: str, **values: int) -> Branch:
    """Write a branch that is always taken and sets variables: ``assign("out", mask=0)``."""
    return Branch("", then, sets=tuple(values.items()))


def rmw(
    name: str,
    word: str,
    xen: str,
    *branches: Branch,
    order: Order = Order.FULL,
    tags: tuple[str, ...] = (),
) -> AtomicStep:
    """Write an atomic read-modify-write."""
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


def store(name: str, word: str, xen: str, *branches: Branch) -> AtomicStep:
    """Write a plain atomic write."""
    return AtomicStep(name, AccessKind.STORE, word, branches, xen)


def local(name: str, xen: str, *branches: Branch) -> AtomicStep:
    """Write a step without an access to memory."""
    return AtomicStep(name, AccessKind.LOCAL, "", branches, xen)
