# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory models against independent definitions, on random small programs.

TSO: a machine with explicit store buffers.  Armv8: the axioms of aarch64.cat (Deacon; Pulte et
al., POPL 2018), by enumerating who reads from whom and in which order each word was written.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product

import pytest

from harness.model.explore.memory_model import MemoryModel
from harness.model.explore.program import (
    AccessKind,
    AtomicStep,
    Branch,
    Fence,
    Program,
    Role,
    System,
    Variable,
)
from harness.model.explore.weak_memory import explore_weak

WORDS = ("x", "y", "z")


@dataclass(frozen=True)
class Instruction:
    """One access of a random program, its barrier and its dependency."""

    kind: AccessKind
    word: str
    value: int  # stored; for a load, the number of its register
    after: Fence
    needs: int | None  # position of the load that its address (load) or data (store) needs
    decides: bool  # load: a branch depends on it
    ordered: bool  # load: acquire; store: release


Thread = tuple[Instruction, ...]
Outcome = tuple[tuple[tuple[str, int], ...], tuple[tuple[str, int], ...]]  # registers, memory


def random_program(seed: int) -> tuple[Thread, ...]:
    choose = random.Random(seed)
    values = iter(range(1, 100))
    threads: list[Thread] = []
    for _ in range(choose.choice((2, 2, 3))):
        thread: list[Instruction] = []
        for position in range(choose.choice((2, 3)) if len(threads) < 2 else 2):
            word = choose.choice(WORDS[:2] if choose.random() < 0.8 else WORDS)
            loads = choose.random() < 0.5
            earlier = [n for n in range(position) if thread[n].kind is AccessKind.LOAD]
            needs = choose.choice(earlier) if earlier and choose.random() < 0.4 else None
            fences = (Fence.NONE,) * 5 + (Fence.FULL, Fence.READ, Fence.WRITE)
            thread.append(
                Instruction(
                    AccessKind.LOAD if loads else AccessKind.STORE,
                    word,
                    next(values),
                    choose.choice(fences),
                    needs,
                    loads and choose.random() < 0.3,
                    choose.random() < 0.2,
                )
            )
        threads.append(tuple(thread))
    return tuple(threads)


# -- the model under test ------------------------------------------------------------------


def modelled(threads: tuple[Thread, ...], memory: MemoryModel) -> set[Outcome]:
    roles = tuple(Role(_program(number, thread), 1) for number, thread in enumerate(threads))
    variables = tuple(Variable(word) for word in WORDS)
    explored = explore_weak(System("random", roles, variables), memory)
    assert explored.exhausted
    found = set()
    for ending in explored.endings:
        registers = [item for _, some in ending.registers for item in some.items()]
        found.add((tuple(sorted(registers)), tuple(sorted(ending.memory.items()))))
    return found


def _program(number: int, thread: Thread) -> Program:
    names = [f"s{position}" for position in range(len(thread))]
    steps = []
    for position, one in enumerate(thread):
        then = names[(position + 1) % len(names)]
        loads = one.kind is AccessKind.LOAD
        if one.decides:
            branches: tuple[Branch, ...] = (
                Branch(f"{one.word} == 0", then),
                Branch(f"{one.word} != 0", then),
            )
        else:
            branches = (Branch("", then, sets=() if loads else ((one.word, one.value),)),)
        mark = ("acquire" if loads else "release",) if one.ordered else ()
        needs = () if one.needs is None else (names[one.needs],)
        observe = f"r{one.value}" if loads else ""
        steps.append(
            AtomicStep(
                names[position],
                one.kind,
                one.word,
                branches,
                "",
                mark,
                after=one.after,
                observe=observe,
                after_value_of=needs,
            )
        )
    return Program(f"P{number}", tuple(steps))


# -- store buffers -------------------------------------------------------------------------


def buffered(threads: tuple[Thread, ...], *, buffers: bool) -> set[Outcome]:
    """All outcomes of the x86-TSO machine; without ``buffers``, of plain interleaving."""
    found: set[Outcome] = set()
    start = ((0,) * len(threads), ((),) * len(threads), tuple((w, 0) for w in WORDS), ())
    known = {start}
    stack = [start]
    while stack:
        state = stack.pop()
        at, queues, memory, registers = state
        if all(n == len(t) for n, t in zip(at, threads, strict=True)) and not any(queues):
            found.add((tuple(sorted(registers)), tuple(sorted(memory))))
        for after in _tso_steps(threads, at, queues, memory, registers, buffers):
            if after not in known:
                known.add(after)
                stack.append(after)
    return found


def _tso_steps(threads, at, queues, memory, registers, buffers) -> Iterator:  # type: ignore[no-untyped-def, type-arg]
    for number, thread in enumerate(threads):
        queue = queues[number]
        if queue:
            word, value = queue[0]
            drained = (*queues[:number], queue[1:], *queues[number + 1 :])
            yield at, drained, tuple((w, value if w == word else v) for w, v in memory), registers
        if at[number] == len(thread):
            continue
        before = thread[at[number] - 1].after if at[number] else Fence.NONE
        if before is Fence.FULL and queue:
            continue  # an mfence waits for the buffer to empty
        one = thread[at[number]]
        moved = (*at[:number], at[number] + 1, *at[number + 1 :])
        if one.kind is AccessKind.LOAD:
            own = [value for word, value in queue if word == one.word]
            value = own[-1] if own else dict(memory)[one.word]
            yield moved, queues, memory, (*registers, (f"r{one.value}", value))
        elif buffers:
            longer = (*queues[:number], (*queue, (one.word, one.value)), *queues[number + 1 :])
            yield moved, longer, memory, registers
        else:
            stored = tuple((w, one.value if w == one.word else v) for w, v in memory)
            yield moved, queues, stored, registers


# -- the axioms of Armv8 -------------------------------------------------------------------

Event = tuple[int, int]  # thread, position
Pairs = set[tuple[Event, Event]]


def axiomatic(threads: tuple[Thread, ...]) -> set[Outcome]:
    events = {(t, n): one for t, thread in enumerate(threads) for n, one in enumerate(thread)}
    reads = [e for e, one in events.items() if one.kind is AccessKind.LOAD]
    writes = {
        w: [e for e, o in events.items() if o.kind is AccessKind.STORE and o.word == w]
        for w in WORDS
    }
    local = _local_order(events)
    found: set[Outcome] = set()
    orders = [list(permutations(writes[word])) for word in WORDS]
    sources = [[None, *writes[events[read].word]] for read in reads]
    for order in product(*orders):
        for chosen in product(*sources):
            read_from = dict(zip(reads, chosen, strict=True))
            if _consistent(events, local, dict(zip(WORDS, order, strict=True)), read_from):
                registers = tuple(
                    sorted(
                        (f"r{events[r].value}", 0 if w is None else events[w].value)
                        for r, w in read_from.items()
                    )
                )
                last = {
                    word: events[o[-1]].value if o else 0
                    for word, o in zip(WORDS, order, strict=True)
                }
                found.add((registers, tuple(sorted(last.items()))))
    return found


def _local_order(events: dict[Event, Instruction]) -> Pairs:
    """dob and bob, without the parts that depend on the execution."""
    pairs: Pairs = set()
    for a, b in product(events, events):
        if a[0] != b[0] or a[1] >= b[1]:
            continue
        first, second = events[a], events[b]
        between = [events[a[0], n].after for n in range(a[1], b[1])]
        loads, stores = first.kind is AccessKind.LOAD, second.kind is AccessKind.STORE
        ordered = Fence.FULL in between
        ordered |= loads and Fence.READ in between
        ordered |= first.kind is AccessKind.STORE and stores and Fence.WRITE in between
        ordered |= first.ordered and (loads or (second.kind is AccessKind.LOAD and second.ordered))
        ordered |= second.ordered and stores
        ordered |= second.needs == a[1]
        ordered |= first.decides and stores
        ordered |= stores and any(  # addr; po; [W]
            events[a[0], n].kind is AccessKind.LOAD and events[a[0], n].needs == a[1]
            for n in range(a[1] + 1, b[1])
        )
        ordered |= stores and any(  # po; [L]; coi and data; coi
            events[a[0], n].kind is AccessKind.STORE
            and (events[a[0], n].ordered or events[a[0], n].needs == a[1])
            and events[a[0], n].word == second.word
            for n in range(a[1] + 1, b[1])
        )
        if ordered:
            pairs.add((a, b))
    return pairs


def _consistent(
    events: dict[Event, Instruction],
    local: Pairs,
    order: dict[str, tuple[Event, ...]],
    read_from: dict[Event, Event | None],
) -> bool:
    rf = {(w, r) for r, w in read_from.items() if w is not None}
    co = {(o[i], o[j]) for o in order.values() for i in range(len(o)) for j in range(i + 1, len(o))}
    fr = set()
    for read, write in read_from.items():
        line = order[events[read].word]
        later = line if write is None else line[line.index(write) + 1 :]
        fr |= {(read, after) for after in later}
    same_word = {
        (a, b)
        for a, b in product(events, events)
        if a[0] == b[0] and a[1] < b[1] and events[a].word == events[b].word
    }
    if not _acyclic(same_word | rf | co | fr):
        return False
    external = {(a, b) for a, b in rf | co | fr if a[0] != b[0]}
    hazards = {  # an earlier load of the word comes before what overwrites what a later one read
        (first, after)
        for first, second in same_word
        if events[first].kind is AccessKind.LOAD and events[second].kind is AccessKind.LOAD
        for read, after in external
        if read == second and (read, after) in fr
    }
    forwarded = {  # data; rfi
        ((w[0], events[w].needs), r) for w, r in rf if w[0] == r[0] and events[w].needs is not None
    }
    return _acyclic(external | local | forwarded | hazards)  # type: ignore[arg-type]


def _acyclic(pairs: Pairs) -> bool:
    left = set(pairs)
    while left:
        entered = {b for _, b in left}
        free = {pair for pair in left if pair[0] not in entered}
        if not free:
            return False
        left -= free
    return True


# -- the comparison ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("block", range(8))
def test_random_programs(block: int) -> None:
    for seed in range(block * 25, block * 25 + 25):
        threads = random_program(seed)
        sc = modelled(threads, MemoryModel.SC)
        tso = modelled(threads, MemoryModel.TSO)
        arm = modelled(threads, MemoryModel.ARM)
        assert sc == buffered(threads, buffers=False), f"SC, seed {seed}: {threads}"
        if not any(one.ordered for thread in threads for one in thread):
            assert tso == buffered(threads, buffers=True), f"TSO, seed {seed}: {threads}"
        assert arm == axiomatic(threads), f"Armv8, seed {seed}: {threads}"
        assert sc <= tso <= arm or any(one.ordered for thread in threads for one in thread)
