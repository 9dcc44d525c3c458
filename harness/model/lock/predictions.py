# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens when a rule of the lock is broken or a bound is reached, as the model says.

Each prediction is a question, an answer, and a trace that shows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.model.explore.liveness import Fairness, least_fairness
from harness.model.explore.memory_model import MemoryModel
from harness.model.explore.program import Never, System, Variable
from harness.model.explore.search import Exploration, Limits, explore
from harness.model.explore.trace import TraceStep
from harness.model.explore.weak_memory import explore_weak
from harness.model.lock.call_sites import (
    XEN_FUNCTION,
    as_interrupt,
    interruptible,
    with_interrupts_on,
    writer_program,
)
from harness.model.lock.critical_sections import reader_seen_whole, writer_seen_whole
from harness.model.lock.flavours import MAX_VIRT_CPUS, Site
from harness.model.lock.lock_functions import DROPPED_WITHOUT_WRITER, MUTUAL_EXCLUSION
from harness.model.lock.locks import LOCKS
from harness.model.lock.scenarios import (
    POLL_SLEEPS,
    Bounds,
    build_system,
    checked,
    interrupt,
    leak,
    lock_scenario,
    mixed,
    poll_pending,
    unmask,
    xen_consumer,
)
from harness.model.lock.ticket_lock import ticketed

_W = MAX_VIRT_CPUS["arm64"]
_FEW = Bounds(2, 1)
_ENTERS = Never(MUTUAL_EXCLUSION, "writing > 0 and reading > 0 and irq > 0")
_MEETS = Never("interrupts meet writers", "writing > 0 and irq > 0")


@checked
def _watched_interrupt(flavour: str, bounds: Bounds) -> System:
    made = interrupt(flavour, bounds)
    return replace(made, never=(*made.never, _ENTERS, _MEETS))


@checked
def _blocking_interrupt(flavour: str, bounds: Bounds) -> System:
    reader = LOCKS[flavour].read("virq", (), XEN_FUNCTION[Site.VIRQ])
    roles = (
        (as_interrupt(with_interrupts_on(reader)), 1),
        (interruptible(with_interrupts_on(writer_program(flavour))), 1),
    )
    return build_system("interrupt blocks", flavour, bounds, roles, (Variable("irq"),))


@dataclass(frozen=True)
class Prediction:
    """One question about the lock, and the model's answer."""

    name: str
    flavour: str
    question: str
    answer: str
    holds: bool  # nothing bad happens
    trace: tuple[TraceStep, ...] = ()
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
    """W - 1, W and W + 1 readers at the same time, with the real W of arm64, exhaustively."""
    for name, readers in (("below-w", _W - 1), ("exactly-w", _W), ("above-w", _W + 1)):
        explored = explore(lock_scenario("counter", Bounds(readers, 1, "arm64")))
        dropped = _found(explored, DROPPED_WITHOUT_WRITER)
        alone = explore(
            lock_scenario("counter", Bounds(readers, 0, "arm64")), Limits(stop_at_first=True)
        )
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
            _found(alone, DROPPED_WITHOUT_WRITER) or (),
            explored.states,
        )


def two_writers() -> Iterator[Prediction]:
    """Two writers of one channel that do not hold the event_lock."""
    for flavour in LOCKS:
        explored = explore(lock_scenario(flavour, Bounds(1, 2), event_lock=False))
        trace = _stuck(explored)
        yield Prediction(
            "two-writers",
            flavour,
            "two writers on one channel, event_lock not held",
            "both get in, one after the other"
            if trace is None
            else "deadlock: both have added W, both wait for L == W while L = 2W",
            trace is None,
            trace or (),
            explored.states,
        )


def same_cpu() -> Iterator[Prediction]:
    """A reader in an interrupt on the CPU on which a writer is in its operation."""
    for flavour in LOCKS:
        explored = explore(_watched_interrupt(flavour, Bounds(0, 1)))
        inside = _found(explored, _ENTERS.name)
        answer = "it is refused while the writer is inside, and nothing hangs"
        if _found(explored, _MEETS.name) is None:
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
        explored = explore(_blocking_interrupt(flavour, _FEW))
        trace = _stuck(explored)
        yield Prediction(
            "interrupt-blocks",
            flavour,
            f"the same with {why}",
            "deadlock: the interrupt waits for the writer it interrupts",
            trace is None,
            trace or (),
            explored.states,
        )


def leaks() -> Iterator[Prediction]:
    """A reader that got in and never releases the lock."""
    for flavour in LOCKS:
        explored = explore(leak(flavour, _FEW))
        trace = _stuck(explored)
        yield Prediction(
            "leak",
            flavour,
            "a reader that got in and never releases",
            "the next writer waits for ever, with the domain's event_lock held",
            trace is None,
            trace or (),
            explored.states,
        )


def callbacks() -> Iterator[Prediction]:
    """Callbacks of Xen's own consumers, with the channel's lock held and without it."""
    for flavour in LOCKS:
        for under, tree in ((True, "before 1376ef90d31c"), (False, "since 1376ef90d31c")):
            explored = explore(xen_consumer(flavour, _FEW, under))
            trace = _stuck(explored)
            yield Prediction(
                "consumer-callback",
                flavour,
                f"a Xen consumer's callback takes vm_event's lock in a send, tree {tree}",
                "no deadlock"
                if trace is None
                else "ABBA deadlock: the send holds the channel and waits for vm_event's lock, "
                "whose holder waits to write-lock the channel; that senders only try is no help",
                trace is None,
                trace or (),
                explored.states,
            )


def polls() -> Iterator[Prediction]:
    """SCHEDOP_poll of a pending port while a writer has the channel's lock."""
    for flavour in ("spinlock", "counter", "rwlock"):
        explored = explore(poll_pending(flavour, _FEW))
        trace = _found(explored, POLL_SLEEPS)
        yield Prediction(
            "poll-pending",
            flavour,
            "SCHEDOP_poll of a port that is pending while a writer overlaps",
            "returns at once"
            if trace is None
            else 'the failed try counts as "not pending": the vCPU sleeps until its time-out '
            "though the event is there; only a new event would wake it",
            trace is None,
            trace or (),
            explored.states,
        )


@dataclass(frozen=True)
class Starvation:
    """The weakest fairness of the scheduler with which no thread of ``role`` starves."""

    flavour: str
    scenario: str
    role: str
    fairness: Fairness | None  # None: not even strong fairness helps


def starvations() -> Iterator[Starvation]:
    """Yield for each thread what keeps it from starving.

    There are 2 readers that never stop and 1 writer; spinlocks are ticket locks.
    """
    for flavour in LOCKS:
        for made in (
            lock_scenario(flavour, _FEW),
            mixed(flavour, Bounds(1, 1)),
            unmask(flavour, _FEW),
        ):
            real = ticketed(made, "lock", "qlock", "elock")
            for role in real.roles:
                yield Starvation(flavour, made.name, role.name, least_fairness(real, role.name))


@dataclass(frozen=True)
class WeakVerdict:
    """What a memory model does to a lock's critical sections."""

    lock: str
    memory: MemoryModel
    property: str
    states: int
    trace: tuple[TraceStep, ...] | None  # None: proved


def weak_memory() -> Iterator[WeakVerdict]:
    """Yield, for each lock and memory model, whether critical sections see each other whole.

    The question behind it: a posted counter's writer that had to spin is let in by a plain read.
    """
    for flavour in LOCKS.values():
        for memory in MemoryModel:
            for made in (writer_seen_whole(flavour, 2, 1), reader_seen_whole(flavour, 2, 1)):
                explored = explore_weak(made, memory)
                trace = explored.counterexamples[0].trace if explored.counterexamples else None
                claim = made.never[0].name
                yield WeakVerdict(flavour.name, memory, claim, explored.states, trace)


def _found(explored: Exploration, name: str) -> tuple[TraceStep, ...] | None:
    return next((found.trace for found in explored.counterexamples if found.property == name), None)


def _stuck(explored: Exploration) -> tuple[TraceStep, ...] | None:
    return _found(explored, explored.system.rest_claim)
