# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything that the model proves and refutes, as the sections of a report, in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.domain import Domain, Vcpu, World
from harness.model.evtchn.invariants import WRITER_RULE, explore_worlds
from harness.model.evtchn.operations import (
    AllocUnbound,
    BindInterdomain,
    BindIpi,
    BindVirq,
    Close,
    Operation,
    Reset,
    Send,
)
from harness.model.explore.induction import entry_conditions
from harness.model.explore.litmus import LITMUS_TESTS, is_observable
from harness.model.explore.memory_model import MemoryModel
from harness.model.explore.trace import trace_lines
from harness.model.lock.check import FlavourCheck, check
from harness.model.lock.flavours import MAX_VIRT_CPUS
from harness.model.lock.lock_order import NEW_TREE, OLD_TREE, XenTree, deadlocks, edges
from harness.model.lock.locks import LOCKS
from harness.model.lock.mutants import MUTANTS, judge
from harness.model.lock.predictions import (
    Starvation,
    predictions,
    starvations,
    weak_memory,
)
from harness.model.lock.scenarios import Bounds, lock_scenario


@dataclass(frozen=True)
class ReportTrace:
    """A trace as text, under a title."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class ReportSection:
    """One section of the report: a text, a table, and traces."""

    title: str
    words: str
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    traces: tuple[ReportTrace, ...] = ()


Notice = Callable[[str], None]

_SMALL = Bounds(3, 2)
_WEAK = Bounds(2, 1)
_LARGE = (
    ("counter", Bounds(128, 1)),
    ("counter", Bounds(128, 2)),
    ("spinlock", Bounds(128, 2)),
    ("rwlock", Bounds(32, 2)),
)


def build_report(notice: Notice) -> tuple[ReportSection, ...]:
    """Explore everything; ``notice`` is called with the title of each section before it is made."""
    sections = []
    for title, make in _PARTS:
        notice(title)
        sections.append(make())
    return tuple(sections)


def _flavours() -> ReportSection:
    rows, traces, invariants = [], [], {}
    for flavour in LOCKS:
        for memory in MemoryModel:
            bounds = _SMALL if memory is MemoryModel.SC else _WEAK
            done = check(flavour, bounds, memory, unreduced=memory is MemoryModel.SC)
            rows.append(_row(done))
            for one in done.violations:
                only = ", model only" if one.model_only else ""
                title = f"{flavour}: {one.name}: NOT {one.property} ({memory.value}{only})"
                traces.append(ReportTrace(title, trace_lines(one.trace)))
            if memory is MemoryModel.SC:
                invariants[flavour] = done.explored[0].invariants
    rows += [_row(check(flavour, bounds)) for flavour, bounds in _LARGE]
    words = (
        "Under sc every interleaving is explored; under tso and arm every reordering, where each "
        "thread makes one operation. Two states that differ only in which of several threads of "
        'one program is where are counted once; "told apart" counts them all. Invariants that '
        "hold for any number of threads: "
        + "; ".join(f"{name}: {', '.join(found)}" for name, found in invariants.items())
        + "."
    )
    head = ("flavour", "memory", "readers", "writers", "W", "verdict", "states", "told apart")
    return ReportSection("The four flavours", words, head, tuple(rows), tuple(traces))


def _row(done: FlavourCheck) -> tuple[str, ...]:
    names = sorted({violation.name for violation in done.violations})
    verdict = f"{done.verdict}: {', '.join(names)}" if names else done.verdict
    bounds, apart = done.bounds, done.states_unreduced
    return (
        done.flavour,
        done.memory.value,
        str(bounds.readers),
        str(bounds.writers),
        str(MAX_VIRT_CPUS[bounds.arch]),
        verdict,
        str(done.states),
        "" if apart is None else str(apart),
    )


def _any_number() -> ReportSection:
    rows = []
    for flavour, word in (("counter", "L"), ("spinlock", "lock")):
        system = lock_scenario(flavour, _SMALL)
        for one, other in (("writing", "reading"), ("reading", "writing"), ("writing", "writing")):
            for entry in entry_conditions(system, word, one, other):
                verdict = "proved" if entry.excluded else "refuted"
                where = f"{entry.thread} at {entry.step}"
                bound = f"{word} <= {entry.bound}"
                rows.append((flavour, where, bound, f"{word} >= {entry.least}", other, verdict))
    words = (
        "Mutual exclusion for any number of readers and writers (below 2^31, where the word would "
        "overflow), proved by induction. The condition of each step that enters the lock bounds "
        "the word from above. With a thread on the other side, the invariant bounds the word from "
        "below. The lower bound is beyond the upper one, so the step cannot be taken. The proof "
        "assumes neither fewer than W readers nor the event_lock: those are needed so that nobody "
        "is refused or stuck. The rwlock's word has two fields; it is proved by exploration only."
    )
    head = ("flavour", "way in", "condition", "with one inside", "inside", "verdict")
    return ReportSection("Any number of threads", words, head, tuple(rows))


def _predictions() -> ReportSection:
    rows, traces = [], []
    for one in predictions():
        rows.append((one.name, one.flavour, one.question, one.answer, str(one.states)))
        if one.trace:
            traces.append(ReportTrace(f"{one.flavour}: {one.question}", trace_lines(one.trace)))
    words = (
        "What happens when a rule is broken or a bound is reached. W readers of one channel at the "
        "same time need W CPUs, or interrupts that are nested: possible with the 128 of arm64, "
        "not with the 8192 of x86-64."
    )
    head = ("name", "flavour", "situation", "what happens", "states")
    return ReportSection("Predictions", words, head, tuple(rows), tuple(traces))


def _starvation() -> ReportSection:
    rows = tuple((one.flavour, one.scenario, one.role, _demand(one)) for one in starvations())
    words = (
        "How fair the scheduler must be so that a thread does not starve, while readers never "
        "stop. Spinlocks are ticket locks here, as Xen's are. none: even an unfair scheduler "
        "cannot keep the thread waiting while others go on. weak: a thread that is able to go on "
        "all the time goes on at some time. strong: a thread that is able to go on again and again "
        "goes on at some time. A rwlock reader in the slow path needs a strongly fair scheduler: "
        "a writer that takes the lock again and again by its fast path may be inside whenever the "
        "reader looks. none helps: the unmask of counter tries until it is in, and each time "
        "another writer can come between its read and its increment. To take the event_lock "
        "there would help."
    )
    return ReportSection("Starvation", words, ("flavour", "scenario", "thread", "fairness"), rows)


def _demand(one: Starvation) -> str:
    return "none helps" if one.fairness is None else one.fairness.value


def _weak() -> ReportSection:
    rows, traces = [], []
    for one in weak_memory():
        verdict = "proved" if one.trace is None else "refuted"
        rows.append((one.lock, one.memory.value, one.property, verdict, str(one.states)))
        if one.trace is not None:
            title = f"{one.lock} under {one.memory.value}: NOT {one.property}"
            traces.append(ReportTrace(title, trace_lines(one.trace)))
    words = (
        "A writer of counter-v2 that had to spin is let in by a plain atomic read; only its first "
        "add is a barrier. Is that enough? On x86 it is: loads are performed in order (proved "
        "under x86-TSO). On Armv8 it is not: a load in the write section may be performed before "
        "the read that lets the writer in, and so see memory as it was while a reader was inside "
        "(refuted, with a trace). Stores of the section are safe: they wait for the branch. "
        "counter has one read barrier after the spin (dmb ishld), which is enough (proved). rwlock "
        "and spinlock have a full barrier after the access that lets a thread in (proved). This is "
        "a finding of the model only: an emulator on an x86 host does not reorder loads. And "
        "today's write sections load nothing that a reader stores, except by atomic bit "
        "operations, which also store."
    )
    head = ("lock", "memory", "property", "verdict", "states")
    return ReportSection("The weak-memory question", words, head, tuple(rows), tuple(traces))


def _mutants() -> ReportSection:
    rows, traces = [], []
    for mutant in MUTANTS:
        judged = judge(mutant)
        fate = "equivalent" if judged.by is None else f"refuted by {judged.by.value}"
        why = mutant.argument if judged.by is None else f"NOT {judged.property}"
        rows.append((mutant.name, mutant.what, fate, why, str(judged.states)))
        if judged.trace:
            traces.append(
                ReportTrace(f"{mutant.name}: NOT {judged.property}", trace_lines(judged.trace))
            )
        if judged.lasso is not None:
            lines = (*judged.lasso.stem, "and then for ever:", *judged.lasso.cycle)
            traces.append(ReportTrace(f"{mutant.name}: {judged.lasso.thread} starves", lines))
    words = (
        "Each mutant is the counter with one edit. Interleavings: 3 readers and 2 writers with "
        "W = 8192, then 66 readers and 1 writer with W = 128. Starvation: 2 readers and 1 writer, "
        "with a weakly fair scheduler; there the counter itself does not starve. Memory models: 2 "
        "readers and 1 writer, each making one operation. Under x86-TSO no missing barrier makes a "
        "difference: a locked instruction is a full barrier."
    )
    head = ("mutant", "change", "fate", "why", "states")
    return ReportSection("Mutants of counter", words, head, tuple(rows), tuple(traces))


def _lock_order() -> ReportSection:
    rows = []
    trees = (
        ("since 1376ef90d31c", NEW_TREE),
        ("before 1376ef90d31c", OLD_TREE),
        ("two locks of a kind in any order", XenTree(False, by_address=False)),
        ("spinlock with interrupts on", XenTree(False, irqs_off=False)),
    )
    for flavour in LOCKS:
        for name, tree in trees:
            if not tree.irqs_off and flavour != "spinlock":
                continue
            cycles = deadlocks(edges(flavour, tree))
            told = "; ".join(" -> ".join(e.held for e in (*c, c[0])) for c in cycles)
            rows.append((flavour, name, told or "no cycle in which every lock is waited for"))
    words = (
        "An edge is: a CPU that holds one lock takes another. A cycle of edges that all wait can "
        "deadlock; a CPU that only tries does not wait, and so breaks the cycle."
    )
    return ReportSection("Lock order", words, ("flavour", "tree", "cycles"), tuple(rows))


def _litmus() -> ReportSection:
    rows = []
    for test in LITMUS_TESTS:
        seen = {memory for memory in MemoryModel if is_observable(test, memory)}
        agree = "as expected" if seen == test.allowed else "DIFFERS"
        allowed = [m.value for m in MemoryModel if m in test.allowed]
        rows.append((test.name, test.outcome, ", ".join(allowed) or "nowhere", agree, test.source))
    words = "The memory models against the literature: which of them allow the outcome."
    head = ("test", "outcome", "allowed by", "model", "source")
    return ReportSection("Litmus tests", words, head, tuple(rows))


def _channels() -> ReportSection:
    world = World((Domain(0, privileged=True, max_port=2), Domain(1, max_port=1, vcpus=(Vcpu(),))))
    visited = explore_worlds(world, channel_operations(), 20000)
    rows = (
        (WRITER_RULE, "proved" if not visited.violations and visited.exhausted else "refuted"),
        ("peers point at each other; FREE ports are reset; failures change nothing", "proved"),
    )
    words = (
        f"Every operation in all {visited.states} states of two domains, of which one has two "
        f"ports and the other has one ({visited.steps} steps). Because of the first rule it is "
        "safe to drop a send."
    )
    assert not visited.violations, visited.violations[0]
    return ReportSection("Channels", words, ("rule", "verdict"), rows)


def channel_operations() -> tuple[Operation, ...]:
    """Return the operations that ``_channels`` tries in every state."""
    operations: list[Operation] = []
    for caller, other, ports in ((0, 1, (1, 2)), (1, 0, (1,))):
        operations += [AllocUnbound(caller, DOMID_SELF, other), BindIpi(caller, 0)]
        operations += [BindVirq(caller, 1), Reset(caller, DOMID_SELF)]
        operations += [Close(caller, port) for port in ports]
        operations += [Send(caller, port) for port in ports]
        operations += [BindInterdomain(caller, DOMID_SELF, port) for port in ports]
    operations += [BindInterdomain(0, 1, 1), BindInterdomain(1, 0, 1), BindInterdomain(1, 0, 2)]
    return tuple(operations)


_PARTS: tuple[tuple[str, Callable[[], ReportSection]], ...] = (
    ("The four flavours", _flavours),
    ("Any number of threads", _any_number),
    ("Predictions", _predictions),
    ("The weak-memory question", _weak),
    ("Starvation", _starvation),
    ("Mutants of counter", _mutants),
    ("Lock order", _lock_order),
    ("Litmus tests", _litmus),
    ("Channels", _channels),
)


def text_lines(sections: tuple[ReportSection, ...]) -> Iterator[str]:
    """Yield the report as lines of plain text."""
    for section in sections:
        yield from ("", section.title, "=" * len(section.title), section.words, "")
        if section.head:
            yield " | ".join(section.head)
            yield from (" | ".join(row) for row in section.rows)
        for trace in section.traces:
            yield from ("", trace.title, *trace.lines)
