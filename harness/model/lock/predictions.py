"""What the model predicts where the lock is pushed: each a question, an answer, and a trace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.model.explore.liveness import Fairness, least_fairness
from harness.model.explore.memory_model import Memory
from harness.model.explore.program import Never, Program, System, Variable
from harness.model.explore.search import Exploration, Limits, Move, explore
from harness.model.explore.weak_memory import explore_weak
from harness.model.lock.critical_sections import reader_seen_whole, writer_seen_whole
from harness.model.lock.flavours import Site
from harness.model.lock.locks import DROPPED_ALONE, LOCKS, MUTUAL_EXCLUSION, WRITER
from harness.model.lock.mutants import SPIN_BARRIER, lock_of
from harness.model.lock.scenarios import (
    POLL_SLEEPS,
    XEN,
    Bounds,
    as_interrupt,
    interrupt,
    interruptible,
    leak,
    lock,
    mixed,
    poll_pending,
    system,
    unmask,
    xen_consumer,
)
from harness.model.lock.ticket_lock import ticketed

_W = WRITER["arm64"]
_FEW = Bounds(2, 1)


@dataclass(frozen=True)
class Prediction:
    """One thing the model says about the lock."""

    name: str
    flavour: str
    question: str
    answer: str
    holds: bool  # the good thing happens
    moves: tuple[Move, ...] = ()
    states: int = 0


def predictions() -> Iterator[Prediction]:
    """Yield every prediction, in a fixed order."""
    yield from many_readers()
    yield from two_writers()
    yield from same_cpu()
    yield from leaks()
    yield from callbacks()
    yield from polls()


def many_readers() -> Iterator[Prediction]:
    """W - 1, exactly W and W + 1 simultaneous readers, exhaustively with arm64's real W."""
    for name, readers in (("below-w", _W - 1), ("exactly-w", _W), ("above-w", _W + 1)):
        explored = explore(lock("counter", Bounds(readers, 1, "arm64")))
        dropped = _found(explored, DROPPED_ALONE)
        alone = explore(lock("counter", Bounds(readers, 0, "arm64")), Limits(first=True))
        enters = _found(explored, MUTUAL_EXCLUSION) is not None
        answer = (
            "nobody is refused but by a writer"
            if dropped is None
            else "the reader whose increment makes L = W is refused though no writer is there: its "
            "event is lost; whoever comes while L >= W is refused at the first read"
        )
        yield Prediction(
            name,
            "counter",
            f"{readers} simultaneous readers of one channel, W = {_W}",
            answer + ("" if not enters else "; and a writer gets in beside readers"),
            dropped is None,
            _found(alone, DROPPED_ALONE) or (),
            explored.states,
        )


def two_writers() -> Iterator[Prediction]:
    """Two writers of one channel without the event_lock."""
    for flavour in LOCKS:
        explored = explore(lock(flavour, Bounds(1, 2), event_lock=False))
        moves = _stuck(explored)
        yield Prediction(
            "two-writers",
            flavour,
            "two writers on one channel, event_lock not held",
            "both get in, one after the other"
            if moves is None
            else "deadlock: both have added W, both wait for L == W while L = 2W",
            moves is None,
            moves or (),
            explored.states,
        )


def same_cpu() -> Iterator[Prediction]:
    """A reader in interrupt context on the CPU that is in the writer's operation."""
    enters = Never(MUTUAL_EXCLUSION, "writing > 0 and reading > 0 and irq > 0")
    meets = Never("interrupts meet writers", "writing > 0 and irq > 0")
    for flavour in LOCKS:
        made = interrupt(flavour, Bounds(0, 1))
        explored = explore(replace(made, never=(*made.never, enters, meets)))
        inside = _found(explored, enters.name)
        answer = "it is refused while the writer is inside, and nothing hangs"
        if _found(explored, meets.name) is None:
            answer = "it cannot happen: interrupts are off from before the lock until after it"
        if inside is not None:
            answer = (
                "it gets in beside the write section it interrupts: the lock lets its own CPU in"
            )
        yield Prediction(
            "interrupt",
            flavour,
            "a VIRQ in an interrupt on the writer's CPU",
            answer,
            _stuck(explored) is None,
            inside or (),
            explored.states,
        )
    for flavour, why in (
        ("spinlock", "spinlock with interrupts on"),
        ("counter", "a reader that insists"),
    ):
        explored = explore(_blocking_interrupt(flavour))
        moves = _stuck(explored)
        yield Prediction(
            "interrupt-blocks",
            flavour,
            f"the same with {why}",
            "deadlock: the interrupt waits for the writer it interrupts",
            moves is None,
            moves or (),
            explored.states,
        )


def _blocking_interrupt(flavour: str) -> System:
    reader = LOCKS[flavour].read("virq", (), XEN[Site.VIRQ])
    writer = _irqs_on(LOCKS[flavour].write("writer", (), "evtchn_close", True))
    roles = ((as_interrupt(_irqs_on(reader)), 1), (interruptible(writer), 1))
    return system("interrupt blocks", flavour, _FEW, roles, (Variable("irq"),))


def _irqs_on(program: Program) -> Program:
    steps = (
        replace(step, tags=tuple(tag for tag in step.tags if tag != "irqs_off"))
        for step in program.steps
    )
    return replace(program, steps=tuple(steps))


def leaks() -> Iterator[Prediction]:
    """A reader that never leaves."""
    for flavour in LOCKS:
        explored = explore(leak(flavour, _FEW))
        moves = _stuck(explored)
        yield Prediction(
            "leak",
            flavour,
            "a reader that got in and never releases",
            "the next writer waits for ever, with the domain's event_lock held",
            moves is None,
            moves or (),
            explored.states,
        )


def callbacks() -> Iterator[Prediction]:
    """Xen consumers' callbacks under the channel's lock, and outside it."""
    for flavour in LOCKS:
        for under, tree in ((True, "before 1376ef90d31c"), (False, "since 1376ef90d31c")):
            explored = explore(xen_consumer(flavour, _FEW, under))
            moves = _stuck(explored)
            yield Prediction(
                "consumer-callback",
                flavour,
                f"a Xen consumer's callback takes vm_event's lock in a send, tree {tree}",
                "no deadlock"
                if moves is None
                else "ABBA deadlock: the send holds the channel and waits for vm_event's lock, "
                "whose holder waits to write-lock the channel; that senders only try is no help",
                moves is None,
                moves or (),
                explored.states,
            )


def polls() -> Iterator[Prediction]:
    """SCHEDOP_poll of a pending port that a writer is changing."""
    for flavour in ("spinlock", "counter", "rwlock"):
        explored = explore(poll_pending(flavour, _FEW))
        moves = _found(explored, POLL_SLEEPS)
        yield Prediction(
            "poll-pending",
            flavour,
            "SCHEDOP_poll of a port that is pending while a writer overlaps",
            "returns at once"
            if moves is None
            else 'the failed try counts as "not pending": the vCPU sleeps until its time-out '
            "though the event is there; only a new event would wake it",
            moves is None,
            moves or (),
            explored.states,
        )


@dataclass(frozen=True)
class Starvation:
    """The least a scheduler must promise so that no thread of ``role`` starves."""

    flavour: str
    scenario: str
    role: str
    fairness: Fairness | None  # None: not even strong fairness helps


def starvations() -> Iterator[Starvation]:
    """Yield who can starve: 2 readers that never stop, 1 writer; spinlocks are ticket locks."""
    for flavour in LOCKS:
        for made in (lock(flavour, _FEW), mixed(flavour, Bounds(1, 1)), unmask(flavour, _FEW)):
            real = ticketed(made, "lock", "qlock", "elock")
            for role in real.roles:
                yield Starvation(flavour, made.name, role.name, least_fairness(real, role.name))


@dataclass(frozen=True)
class WeakVerdict:
    """What a memory model does to a lock's sections."""

    lock: str
    memory: Memory
    property: str
    states: int
    moves: tuple[Move, ...] | None  # None: proved


def weak_memory() -> Iterator[WeakVerdict]:
    """Settle whether a counter writer's plain read is enough, and what cures it."""
    locks = (*LOCKS.values(), replace(lock_of(SPIN_BARRIER), name="counter + spin-barrier"))
    for flavour in locks:
        for memory in Memory:
            for made in (writer_seen_whole(flavour, 2, 1), reader_seen_whole(flavour, 2, 1)):
                explored = explore_weak(made, memory)
                moves = explored.found[0].moves if explored.found else None
                claim = made.never[0].name
                yield WeakVerdict(flavour.name, memory, claim, explored.states, moves)


def _found(explored: Exploration, name: str) -> tuple[Move, ...] | None:
    return next((found.moves for found in explored.found if found.property == name), None)


def _stuck(explored: Exploration) -> tuple[Move, ...] | None:
    return _found(explored, explored.system.rest_claim)
