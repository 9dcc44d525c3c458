# SPDX-License-Identifier: GPL-2.0-or-later
"""Single-fault mutants of ``counter``, each one short declarative piece, and their judgement.

A mutant must be refuted by a property, or be shown equivalent within bounds, with the argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from harness.model.explore.liveness import Fairness, Lasso, starvation
from harness.model.explore.memory_model import MemoryModel
from harness.model.explore.program import AtomicStep, Branch, Fence, Program, Role, System
from harness.model.explore.search import Limits, explore
from harness.model.explore.trace import TraceStep
from harness.model.explore.weak_memory import explore_weak
from harness.model.lock.counter import COUNTER_LOCK
from harness.model.lock.critical_sections import reader_seen_whole, writer_seen_whole
from harness.model.lock.flavours import MAX_VIRT_CPUS
from harness.model.lock.lock_functions import CriticalSection, Lock

INSIDE = "@inside"  # stands for the first step under the lock
Edit = tuple[str, Callable[[AtomicStep], AtomicStep]]  # (step, what becomes of it)


# -- words to write mutants in -------------------------------------------------------------


def goes(old: str, new: str) -> Callable[[AtomicStep], AtomicStep]:
    """Branches to ``old`` go to ``new``."""

    def change(step: AtomicStep) -> AtomicStep:
        moved = (replace(b, then=new) if b.then == old else b for b in step.branches)
        return replace(step, branches=tuple(moved))

    return change


def tests(old: str, new: str) -> Callable[[AtomicStep], AtomicStep]:
    """The text ``old`` in conditions becomes ``new``."""

    def change(step: AtomicStep) -> AtomicStep:
        changed = (replace(b, when=b.when.replace(old, new)) for b in step.branches)
        return replace(step, branches=tuple(changed))

    return change


def adds(value: int | str) -> Callable[[AtomicStep], AtomicStep]:
    """The step adds ``value`` to L."""

    def change(step: AtomicStep) -> AtomicStep:
        return replace(
            step, branches=tuple(replace(b, adds=(("L", value),)) for b in step.branches)
        )

    return change


def always(then: str) -> Callable[[AtomicStep], AtomicStep]:
    """The step does not look at the value: it adds what it adds and goes to ``then``."""

    def change(step: AtomicStep) -> AtomicStep:
        return replace(step, branches=(replace(step.branches[0], when="", then=then),))

    return change


def unordered(step: AtomicStep) -> AtomicStep:
    """The step's barriers are dropped."""
    return replace(step, before=Fence.NONE, after=Fence.NONE)


def halves(step: AtomicStep) -> AtomicStep:
    """The step works with H = W / 2 instead of W."""

    def half(branch: Branch) -> Branch:
        adds = tuple((n, v.replace("W", "H") if isinstance(v, str) else v) for n, v in branch.adds)
        return replace(branch, when=branch.when.replace("W", "H"), adds=adds)

    return replace(step, branches=tuple(half(branch) for branch in step.branches))


def off_by_one(step: AtomicStep) -> AtomicStep:
    """The step tests L > W where it should test L >= W."""
    return tests(">= W", "> W")(tests("< W", "<= W")(step))


@dataclass(frozen=True)
class Mutant:
    """One change of the counter: edits of the writer's and of the reader's steps."""

    name: str
    what: str
    write: tuple[Edit, ...] = ()
    read: tuple[Edit, ...] = ()
    argument: str = ""  # why nothing is lost, for a mutant that is equivalent
    halved: bool = False  # W itself is half of what it should be


MUTANTS: tuple[Mutant, ...] = (
    Mutant("no-wait", "the writer does not wait for readers", write=(("claim", always(INSIDE)),)),
    Mutant(
        "ge-for-eq",
        "the writer waits for L >= W instead of L == W",
        write=(("spin", tests("u(L) == W", "u(L) >= W")),),
    ),
    Mutant(
        "no-second-test",
        "the reader does not look at the result of its increment",
        read=(("add", always(INSIDE)),),
    ),
    Mutant(
        "increment-first",
        "the reader increments before it tests: no plain read of L first",
        read=(("read", always("add")),),
    ),
    Mutant("no-undo", "a failed try keeps its increment", read=(("undo", adds(0)),)),
    Mutant("unlock-twice", "read_unlock subtracts twice", read=(("leave", adds(-2)),)),
    Mutant("unlock-never", "read_unlock is missing", read=(("leave", adds(0)),)),
    Mutant(
        "write-unlock-one", "write_unlock subtracts 1 instead of W", write=(("leave", adds(-1)),)
    ),
    Mutant(
        "half-writer",
        "the writer adds, expects and subtracts half of W",
        write=(
            ("claim", halves),
            ("spin", halves),
            ("leave", halves),
        ),
    ),
    Mutant("half-w", "W is half of MAX_VIRT_CPUS everywhere", halved=True),
    Mutant(
        "gt-for-ge-read",
        "tryread's first test is L > W instead of L >= W",
        read=(("read", off_by_one),),
    ),
    Mutant(
        "gt-for-ge-add",
        "tryread's second test is L > W instead of L >= W",
        read=(("add", off_by_one),),
        argument="with a writer there L is at least W + 1 after the increment, so both tests fail; "
        "without one L == W only with W readers inside, and then the mutant lets the last one in "
        "where the original drops its event",
    ),
    Mutant(
        "le-for-eq",
        "the writer waits for L <= W instead of L == W",
        write=(("spin", tests("u(L) == W", "u(L) <= W")),),
        argument="while a writer waits, L = W + readers, never below W: <= and == agree",
    ),
    Mutant("write-lock-unordered", "the writer's add is no barrier", write=(("claim", unordered),)),
    Mutant(
        "spin-unordered",
        "no barrier after the writer's last read of L, as in the posting",
        write=(("spin", unordered),),
    ),
    Mutant(
        "write-unlock-unordered",
        "write_unlock has no release barrier",
        write=(("leave", unordered),),
    ),
    Mutant(
        "read-lock-unordered", "the reader's increment is no barrier", read=(("add", unordered),)
    ),
    Mutant(
        "read-unlock-unordered", "read_unlock has no release barrier", read=(("leave", unordered),)
    ),
)


def lock_of(mutant: Mutant) -> Lock:
    """Return the counter with the mutant's edits."""

    def write(name: str, inside: CriticalSection, xen: str, event_lock: bool) -> Program:
        program = COUNTER_LOCK.write(name, inside, xen, event_lock)
        return edited(program, mutant.write, program.step("spin").branches[0].then)

    def tryread(name: str, inside: CriticalSection, xen: str) -> Program:
        program = COUNTER_LOCK.tryread(name, inside, xen)
        return edited(program, mutant.read, program.step("add").branches[0].then)

    constants = ("W", "H")  # H = W / 2, see halves()
    return replace(
        COUNTER_LOCK, name=mutant.name, write=write, tryread=tryread, constants=constants
    )


def edited(program: Program, edits: tuple[Edit, ...], inside: str) -> Program:
    """Return the program with ``edits`` made; INSIDE means the step called ``inside``."""
    for step, change in edits:
        program = program.edit(step, change)
    steps = tuple(goes(INSIDE, inside)(step) for step in program.steps)
    return replace(program, steps=steps)


for _mutant in MUTANTS:
    lock_of(_mutant)  # a mistake in an edit raises ProgramError when this module is imported


# -- judging them --------------------------------------------------------------------------


class By(StrEnum):
    """What refuted a mutant."""

    INTERLEAVING = "interleaving"  # sequential consistency is enough
    STARVATION = "starvation"
    ARM = "arm"  # only Armv8's reordering shows it; x86 cannot
    TSO = "tso"


@dataclass(frozen=True)
class Judgement:
    """A mutant's fate: refuted ``by`` something, or equivalent within the bounds explored."""

    mutant: Mutant
    by: By | None
    property: str
    trace: tuple[TraceStep, ...] = ()
    lasso: Lasso | None = None
    states: int = 0  # explored in all


_FIRST = Limits(stop_at_first=True)
_SMALL = (3, 2, "x86_64")  # readers, writers, whose W
_MANY = (66, 1, "arm64")  # more than W / 2 = 64, below W = 128, where the counter is right


def judge(mutant: Mutant) -> Judgement:
    """Explore ``mutant`` until something refutes it, or everything that could is exhausted."""
    lock, states = lock_of(mutant), 0
    for readers, writers, arch in (_SMALL, _MANY):
        explored = explore(mutant_system(mutant, readers, writers, arch), _FIRST)
        states += explored.states
        if explored.counterexamples:
            found = explored.counterexamples[0]
            return Judgement(mutant, By.INTERLEAVING, found.property, found.trace, states=states)
    lasso = starvation(mutant_system(mutant, 2, 1, "x86_64"), "writer", Fairness.WEAK)
    if lasso is not None:
        name = "a writer gets in if every thread that can run does"
        return Judgement(mutant, By.STARVATION, name, lasso=lasso, states=states)
    for memory, by in ((MemoryModel.TSO, By.TSO), (MemoryModel.ARM, By.ARM)):
        for system in (writer_seen_whole(lock, 2, 1), reader_seen_whole(lock, 2, 1)):
            weak = explore_weak(system, memory)
            states += weak.states
            if weak.counterexamples:
                found = weak.counterexamples[0]
                return Judgement(mutant, by, found.property, found.trace, states=states)
    return Judgement(mutant, None, "", states=states)


def mutant_system(mutant: Mutant, readers: int, writers: int, arch: str) -> System:
    """Return the ``lock`` scenario of a mutant."""
    lock = lock_of(mutant)
    width = MAX_VIRT_CPUS[arch] // 2 if mutant.halved else MAX_VIRT_CPUS[arch]
    reader = lock.tryread("send", (), "evtchn_send")
    writer = lock.write("writer", (), "evtchn_close", True)
    return System(
        mutant.name,
        (Role(reader, readers), Role(writer, writers)),
        lock.variables,
        (("W", width), ("H", width // 2)),
        lock.never,
        rest=lock.rest,
    )
