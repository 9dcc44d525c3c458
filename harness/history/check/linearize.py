# SPDX-License-Identifier: GPL-2.0-or-later
"""Linearizability: is there an order of a few operations that explains all their answers?

All orders that the clocks allow are tried (Wing and Gong 1993), with visited states remembered
(Lowe 2017) and a budget.  An answer changes nothing, so one that holds is taken at once; only
changes branch.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache

import numpy as np

from harness.history.check.answers import Answers, Claim, allowed
from harness.history.check.axis import later
from harness.history.check.changes import state_allocated
from harness.history.check.piece import Piece
from harness.history.check.ports import FOREIGN, PORT_BITS
from harness.history.check.scope import effect_unknown
from harness.history.check.states import ANYTHING, OPEN, UNBOUND, connected_to, encode, stat_of
from harness.history.format.columns import Int64
from harness.history.format.record import Op


class Linearizable(Enum):
    """Whether an order explains all answers."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"  # the budget was spent


class Kind(Enum):
    """What an operation does to the ports that are followed."""

    ALLOC = "alloc"
    BIND = "bind"  # allocates, and connects
    CLOSE = "close"
    ANSWER = "answer"  # says something about a port, and changes nothing


@dataclass(frozen=True)
class Candidate:
    """One operation as the search sees it.  Keys are of ports; FOREIGN: there is none."""

    kind: Kind
    optional: bool  # it may not have taken effect, or before the search begins
    key: int  # the port allocated, closed or asked about
    followed: bool = True  # the search follows the state of ``key``
    remote: int = FOREIGN  # BIND: the other end if the search follows its state
    state: int = ANYTHING  # ALLOC: the new port's; ANSWER: what was told
    claim: int = -1  # ANSWER
    domids: tuple[int, int] = (0, 0)  # BIND: the caller's, and the other end's


States = tuple[tuple[int, int], ...]  # (key, state) of ports that are not ANYTHING, sorted


def linearize(
    candidates: list[Candidate], before: list[int], start: States, budget: int
) -> Linearizable:
    """Look for an order of ``candidates`` from ``start`` that explains every answer.

    ``before``: by candidate, the mask (of 1 << index) of those that certainly came first.
    ``budget``: how many states are visited at most.
    """
    goal = sum(1 << i for i, candidate in enumerate(candidates) if not candidate.optional)
    visited: set[tuple[int, States]] = set()
    stack = [_with_answers(candidates, before, goal, 0, start)]
    while stack:
        done, states = stack.pop()
        if done & goal == goal:
            return Linearizable.YES
        if (done, states) in visited:
            continue
        visited.add((done, states))
        if len(visited) > budget:
            return Linearizable.UNKNOWN
        for index, candidate in enumerate(candidates):
            bit = 1 << index
            if done & bit or candidate.kind is Kind.ANSWER or before[index] & goal & ~done:
                continue
            after = _effect(candidate, states)
            if after is not None:
                stack.append(_with_answers(candidates, before, goal, done | bit, after))
    return Linearizable.NO


def _with_answers(
    candidates: list[Candidate], before: list[int], goal: int, done: int, states: States
) -> tuple[int, States]:
    """Take every answer that may come now and holds."""
    now = dict(states)
    changed = True
    while changed:
        changed = False
        for index, candidate in enumerate(candidates):
            bit = 1 << index
            if candidate.kind is not Kind.ANSWER or done & bit or before[index] & goal & ~done:
                continue
            if _holds(candidate.claim, candidate.state, now.get(candidate.key, ANYTHING)):
                done |= bit
                changed = True
    return done, states


@cache
def _holds(claim: int, told: int, state: int) -> bool:
    one = np.array([[claim], [told], [state]], np.int64)
    return bool(allowed(one[0], one[1], one[2])[0])


def _effect(candidate: Candidate, before: States) -> States | None:
    """Return the states after ``candidate``; None when it cannot happen now."""
    states = dict(before)
    if candidate.kind is Kind.CLOSE:
        _close(candidate.key, states)
    elif candidate.followed and candidate.key in states:
        return None  # the port is not free
    elif candidate.kind is Kind.ALLOC:
        states[candidate.key] = candidate.state
    elif not _bind(candidate, states):
        return None
    return tuple(sorted(states.items()))


def _bind(bind: Candidate, states: dict[int, int]) -> bool:
    """Connect the two ends; False when the other end is not unbound for the caller."""
    caller, other = bind.domids
    remote = states.get(bind.remote, ANYTHING)
    waiting = remote == int(encode(UNBOUND, caller, 0))
    if not waiting and remote != ANYTHING and stat_of(remote) != OPEN:
        return False
    if remote != ANYTHING:
        known = waiting and bind.key != FOREIGN
        states[bind.remote] = int(connected_to(bind.key) if known else encode(OPEN, caller, 0))
    if bind.followed and bind.key != FOREIGN:
        states[bind.key] = int(connected_to(bind.remote) if waiting else encode(OPEN, other, 0))
    return True


def _close(key: int, states: dict[int, int]) -> None:
    """The port is free, and the port connected to it is unbound again."""
    states.pop(key, None)
    connected = int(connected_to(key))
    for other, state in list(states.items()):
        if state == connected:
            states[other] = int(encode(UNBOUND, key >> PORT_BITS, 0))


# -- from operations to candidates ---------------------------------------------------------


_BITS = 63
_POWERS = np.left_shift(1, np.arange(_BITS))


class Candidates:
    """Makes candidates for the search out of the operations of a piece."""

    def __init__(self, piece: Piece, answers: Answers) -> None:
        self._piece, self._answers = piece, answers
        self._unknown = effect_unknown(piece.columns)
        self._answer_of = np.full(len(piece.columns), -1)
        self._answer_of[answers.operation] = np.arange(len(answers.operation))

    def of(self, which: Int64, keys: set[int], since: int) -> tuple[list[Candidate], list[int]]:
        """Return those of ``which`` (indices) that matter, and ``linearize``'s ``before``.

        ``keys``: the ports to follow.  What was called before ``since`` may have happened before
        the search begins.
        """
        made = [(index, self._candidate(index, keys, since)) for index in which.tolist()]
        real = [(index, candidate) for index, candidate in made if candidate is not None]
        before = self._before(np.array([index for index, _ in real], np.int64))
        return [candidate for _, candidate in real], before

    def _candidate(self, index: int, keys: set[int], since: int) -> Candidate | None:
        columns, ports = self._piece.columns, self._piece.ports
        op = int(columns.op[index])
        mine, remote = int(ports.made[index]), int(ports.remote[index])
        unknown = bool(self._unknown[index])
        optional = unknown or int(columns.call[index]) < since
        if self._answer_of[index] >= 0:
            return self._answer(int(self._answer_of[index]), index, keys)
        if op == Op.CLOSE and (unknown or columns.result[index] == 0):
            return Candidate(Kind.CLOSE, optional, int(ports.local[index]))
        if op == Op.BIND_INTERDOMAIN and (unknown or mine != FOREIGN):
            return Candidate(
                Kind.BIND,
                optional,
                mine,
                followed=mine in keys,
                remote=remote if remote in keys else FOREIGN,
                domids=(int(ports.caller[index]), remote >> PORT_BITS),
            )
        if mine in keys:
            state = int(state_allocated(self._piece, np.array([index]))[0])
            return Candidate(Kind.ALLOC, False, mine, state=state)
        return None

    def _answer(self, answer: int, index: int, keys: set[int]) -> Candidate | None:
        answers, ports = self._answers, self._piece.ports
        claim, told = int(answers.claim[answer]), int(answers.state[answer])
        key = int((ports.remote if claim == Claim.NOT_FOR_ME else ports.local)[index])
        if key not in keys:
            return None
        return Candidate(Kind.ANSWER, False, key, state=told, claim=claim)

    def _before(self, index: Int64) -> list[int]:
        """Return ``linearize``'s ``before`` for the operations ``index``."""
        columns, caller = self._piece.columns, self._piece.ports.caller[index]
        call, ret, log = columns.call[index], columns.ret[index], columns.log[index]
        count = len(index)
        over = ret[:, None]
        if (caller != caller[:1]).any():
            slack = self._piece.scope.slack(np.repeat(caller, count), np.tile(caller, count))
            over = later(over, slack.reshape(count, count))
        first = over < call[None, :]
        first |= (log[:, None] == log[None, :]) & np.tri(count, k=-1, dtype=bool).T
        if count < _BITS:
            masks: list[int] = (_POWERS[:count] @ first).tolist()
            return masks
        return [sum(1 << i for i in np.flatnonzero(first[:, j]).tolist()) for j in range(count)]
