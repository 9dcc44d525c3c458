# SPDX-License-Identifier: GPL-2.0-or-later
"""Starvation: can a thread be kept in its operation for ever, and under which scheduler?

A thread starves when there is an infinite run in which it never comes back to its first step.
Whether such a run is possible depends on how fair the scheduler is:

- NONE: it need not be; a thread may never run.
- WEAK: a thread that is able to take a step at every moment takes one at some time.
- STRONG: a thread that is able to take a step again and again takes one at some time.

This concerns only threads that are busy: no thread has to begin another operation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache

from harness.model.explore.program import System
from harness.model.explore.search import explore
from harness.model.explore.state_space import StateSpace, Transition


class Fairness(Enum):
    """What the scheduler guarantees, the weakest first."""

    NONE = "none"
    WEAK = "weak"
    STRONG = "strong"


@dataclass(frozen=True)
class Lasso:
    """How a thread starves: steps that lead into a cycle, and a cycle that can go on for ever."""

    thread: str
    fairness: Fairness
    stem: tuple[str, ...]
    cycle: tuple[str, ...]


@dataclass(frozen=True)
class _Edge:
    source: int
    target: int
    thread: int
    text: str


@dataclass
class _Graph:
    """Reachable states of a system of single threads, numbered breadth first."""

    names: list[str]
    out: list[list[_Edge]] = field(default_factory=list)
    busy: list[frozenset[int]] = field(default_factory=list)  # threads not at rest

    def enabled(self, state: int, thread: int) -> bool:
        return any(edge.thread == thread for edge in self.out[state])


def starvation(system: System, role: str, fairness: Fairness) -> Lasso | None:
    """Return how a thread of ``role`` can starve under a scheduler of this fairness, or None."""
    graph = _graph(system)
    for thread, name in enumerate(graph.names):
        if name.rsplit(" ", 1)[0] != role:
            continue
        kept = {state for state in range(len(graph.out)) if thread in graph.busy[state]}
        for component in _fair_components(graph, kept, fairness):
            return _lasso(graph, thread, component, fairness)
    return None


def least_fairness(system: System, role: str) -> Fairness | None:
    """Return the weakest fairness with which no thread of ``role`` starves; None if none does."""
    for fairness in Fairness:
        if starvation(system, role, fairness) is None:
            return fairness
    return None


@lru_cache(maxsize=2)
def _graph(system: System) -> _Graph:
    apart = system.without_symmetry()
    space = StateSpace(apart)
    explored = explore(apart)
    if not explored.exhausted:
        raise ValueError(f"{system.name}: not exhausted, so starvation cannot be decided")
    graph = _Graph([role.name for role in apart.roles])
    number: dict[int, int] = {}
    for keys in explored.levels:
        for key in keys.tolist():
            number[key] = len(number)
    for keys in explored.levels:
        view = space.view(keys)
        busy: list[set[int]] = [set() for _ in range(keys.size)]
        for column, place in enumerate(space.places):
            if space.is_busy(column):
                for row in (view.columns[column] > 0).nonzero()[0]:
                    busy[row].add(place.role)
        out: list[list[_Edge]] = [[] for _ in range(keys.size)]
        for transition in space.transitions:
            after, rows = space.successors(transition, keys, view, space.enabled(transition, view))
            for row, key in zip(rows.tolist(), after.tolist(), strict=True):
                out[row].append(_edge(graph, number[int(keys[row])], number[key], transition))
        graph.busy += [frozenset(threads) for threads in busy]
        graph.out += out
    return graph


def _edge(graph: _Graph, source: int, target: int, transition: Transition) -> _Edge:
    step = transition.step
    text = f"{graph.names[transition.role]}: {step.name} ({step.xen}) -> {transition.branch.then}"
    return _Edge(source, target, transition.role, text)


def _fair_components(graph: _Graph, kept: set[int], fairness: Fairness) -> Iterator[frozenset[int]]:
    """Yield strongly connected parts of ``kept`` in which a fair run can stay for ever."""
    for component in _components(graph, kept):
        edges = [e for s in component for e in graph.out[s] if e.target in component]
        if not edges:
            continue
        moving = {edge.thread for edge in edges}
        idle = [thread for thread in range(len(graph.names)) if thread not in moving]
        owed = {
            thread: {s for s in component if thread in graph.busy[s] and graph.enabled(s, thread)}
            for thread in idle
        }
        if fairness is Fairness.NONE:
            yield component
        elif fairness is Fairness.WEAK:
            if all(states != set(component) for states in owed.values()):
                yield component
        else:
            wanted: set[int] = set().union(*owed.values())
            if not wanted:
                yield component
            elif wanted != set(component):  # a fair run avoids the states that oblige it
                yield from _fair_components(graph, set(component) - wanted, fairness)


def _components(graph: _Graph, kept: set[int]) -> Iterator[frozenset[int]]:
    """Yield the strongly connected components of the subgraph ``kept`` (Tarjan, iterative)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    for root in sorted(kept):
        if root in index:
            continue
        work = [(root, iter(graph.out[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            state, edges = work[-1]
            for edge in edges:
                target = edge.target
                if target not in kept:
                    continue
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, iter(graph.out[target])))
                    break
                if target in on_stack:
                    low[state] = min(low[state], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[state])
                if low[state] == index[state]:
                    members = set()
                    while True:
                        member = stack.pop()
                        on_stack.discard(member)
                        members.add(member)
                        if member == state:
                            break
                    yield frozenset(members)


def _lasso(graph: _Graph, thread: int, component: frozenset[int], fairness: Fairness) -> Lasso:
    start = min(component)
    stem = _route(graph, 0, {start}, set(range(len(graph.out))))
    at, cycle = start, list[_Edge]()
    if fairness is not Fairness.NONE:
        for other in range(len(graph.names)):
            found = _visit(graph, component, at, other)
            cycle += found
            at = found[-1].target if found else at
    if at != start or not cycle:
        cycle += _around(graph, component, at, start)
    return Lasso(
        graph.names[thread],
        fairness,
        tuple(edge.text for edge in stem),
        tuple(edge.text for edge in cycle),
    )


def _visit(graph: _Graph, component: frozenset[int], at: int, thread: int) -> list[_Edge]:
    """Go, inside ``component``, to where ``thread`` takes a step, and take it.

    If it takes none there, go to a state in which fairness does not oblige it to.
    """
    steps = {
        e.source: e
        for s in component
        for e in graph.out[s]
        if e.thread == thread and e.target in component
    }
    if steps:
        way = _route(graph, at, set(steps), set(component))
        return [*way, steps[way[-1].target if way else at]]
    owes_none = {
        s for s in component if thread not in graph.busy[s] or not graph.enabled(s, thread)
    }
    return _route(graph, at, owes_none, set(component))


def _around(graph: _Graph, component: frozenset[int], at: int, start: int) -> list[_Edge]:
    if at != start:
        return _route(graph, at, {start}, set(component))
    first = next(edge for edge in graph.out[at] if edge.target in component)
    return [first, *_route(graph, first.target, {start}, set(component))]


def _route(graph: _Graph, start: int, goals: set[int], inside: set[int]) -> list[_Edge]:
    """Return a shortest path from ``start`` to one of ``goals`` through states of ``inside``."""
    came: dict[int, _Edge | None] = {start: None}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        if state in goals:
            way: list[_Edge] = []
            edge = came[state]
            while edge is not None:
                way.append(edge)
                edge = came[edge.source]
            return way[::-1]
        for edge in graph.out[state]:
            if edge.target in inside and edge.target not in came:
                came[edge.target] = edge
                queue.append(edge.target)
    raise AssertionError("no way inside a strongly connected component")
