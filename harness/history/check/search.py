"""Exact search: is there an order of a few operations that explains their answers?

The vectorised rules settle an operation when only one state of its port is possible
during it.  What they leave open comes here: all orders that the clocks allow are tried
(Wing and Gong), with visited states remembered (Lowe) and a budget.  Answers change
nothing, so an answer that holds is taken at once; only changes branch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np

from harness.history.check.answers import Claim, Reads, allowed
from harness.history.check.lives import may_have_happened
from harness.history.check.scope import FOREIGN, PORT_BITS, Ports, Scope
from harness.history.check.timeline import (
    ANYTHING,
    INTERDOMAIN,
    OWNED,
    UNBOUND,
    birth_state,
    encode,
)
from harness.history.format.columns import NEVER, Columns, Int64
from harness.history.format.record import Op


class Outcome(Enum):
    """What a search found."""

    EXPLAINED = "explained"
    IMPOSSIBLE = "impossible"
    UNDECIDED = "undecided"  # the budget was spent


@dataclass(frozen=True)
class Move:
    """One operation as the search sees it.  Keys are of ports; FOREIGN: there is none."""

    row: int
    kind: str  # "birth", "bind", "close", "read"
    optional: bool  # it may not have happened at all
    key: int  # the port made, closed or asked about
    tracked: bool = True  # the search follows the state of ``key``
    remote: int = FOREIGN  # bind: the other end if the search follows its state
    state: int = ANYTHING  # birth: the new port's; read: what was told
    claim: int = -1
    domids: tuple[int, int] = (0, 0)  # bind: the caller's, and the other end's
    before: int = 0  # mask of the moves that certainly came first


States = tuple[tuple[int, int], ...]  # (key, state) of ports that are not ANYTHING, sorted


def search(moves: list[Move], start: States, budget: int) -> Outcome:
    """Look for an order of ``moves`` that begins in ``start`` and explains every answer."""
    goal = sum(1 << i for i, move in enumerate(moves) if not move.optional)
    seen: set[tuple[int, States]] = set()
    stack = [_absorb(moves, 0, start)]
    while stack:
        done, states = stack.pop()
        if done & goal == goal:
            return Outcome.EXPLAINED
        if (done, states) in seen:
            continue
        seen.add((done, states))
        if len(seen) > budget:
            return Outcome.UNDECIDED
        for index, move in enumerate(moves):
            bit = 1 << index
            if done & bit or move.kind == "read" or move.before & goal & ~done:
                continue
            for after in _change(move, dict(states)):
                stack.append(_absorb(moves, done | bit, after))
    return Outcome.IMPOSSIBLE


def _absorb(moves: list[Move], done: int, states: States) -> tuple[int, States]:
    """Take every answer that may come now and holds."""
    now = dict(states)
    goal = sum(1 << i for i, move in enumerate(moves) if not move.optional)
    changed = True
    while changed:
        changed = False
        for index, move in enumerate(moves):
            bit = 1 << index
            ready = move.kind == "read" and not done & bit and not move.before & goal & ~done
            if ready and _holds(move.claim, move.state, now.get(move.key, ANYTHING)):
                done |= bit
                changed = True
    return done, states


def _holds(claim: int, told: int, state: int) -> bool:
    key = (claim, told, state)
    if key not in _HOLDS:
        one = np.array([[claim], [told], [state]], np.int64)
        _HOLDS[key] = bool(allowed(one[0], one[1], one[2])[0])
    return _HOLDS[key]


_HOLDS: dict[tuple[int, int, int], bool] = {}


def _change(move: Move, states: dict[int, int]) -> Iterator[States]:
    """Yield the states after ``move``; nothing when it cannot happen now."""
    if move.kind == "close":
        _close(move.key, states)
    elif move.tracked and move.key in states:
        return  # the port is not free
    elif move.kind == "birth":
        states[move.key] = move.state
    elif not _bind(move, states):
        return
    yield _packed(states)


def _bind(move: Move, states: dict[int, int]) -> bool:
    """Connect the two ends; False when the other end is not unbound for the caller."""
    caller, other = move.domids
    peer = states.get(move.remote, ANYTHING)
    waiting = peer == int(encode(UNBOUND, caller, 0))
    if not waiting and peer != ANYTHING and peer >> 48 != OWNED:
        return False
    if peer != ANYTHING:
        known = waiting and move.key != FOREIGN
        connected = encode(INTERDOMAIN, 0, move.key) if known else encode(OWNED, caller, 0)
        states[move.remote] = int(connected)
    if move.tracked and move.key != FOREIGN:
        connected = encode(INTERDOMAIN, 0, move.remote) if waiting else encode(OWNED, other, 0)
        states[move.key] = int(connected)
    return True


def _close(key: int, states: dict[int, int]) -> None:
    """The port is gone, and the port connected to it is unbound again."""
    states.pop(key, None)
    mine = int(encode(INTERDOMAIN, 0, key))
    for other, state in list(states.items()):
        if state == mine:
            states[other] = int(encode(UNBOUND, key >> PORT_BITS, 0))


def _packed(states: dict[int, int]) -> States:
    return tuple(sorted(states.items()))


# -- from columns to moves -----------------------------------------------------------------


_BITS = 63
_POWERS = np.left_shift(1, np.arange(_BITS))


class Moves:
    """Turns operations of one piece of a history into moves."""

    def __init__(self, columns: Columns, ports: Ports, scope: Scope, reads: Reads) -> None:
        self._columns, self._ports, self._scope, self._reads = columns, ports, scope, reads
        self._unknown = may_have_happened(columns)
        self._read = np.full(len(columns), -1)
        self._read[reads.operation] = np.arange(len(reads.operation))

    def of(self, which: Int64, keys: set[int], since: int) -> list[Move]:
        """Return the operations ``which`` (indices) as moves; ``keys``: the ports to follow.

        What was called before ``since`` may have happened before the search begins.
        """
        made = [(index, self._move(index, keys, since)) for index in which.tolist()]
        real = [(index, move) for index, move in made if move is not None]
        masks = self._before(np.array([index for index, _ in real], np.int64))
        for (_, move), mask in zip(real, masks, strict=True):
            object.__setattr__(move, "before", mask)  # ours alone so far
        return [move for _, move in real]

    def _move(self, index: int, keys: set[int], since: int) -> Move | None:
        columns, ports = self._columns, self._ports
        row, op = int(columns.row[index]), int(columns.op[index])
        mine, remote = int(ports.made[index]), int(ports.remote[index])
        unknown = bool(self._unknown[index])
        maybe = unknown or int(columns.call[index]) < since
        if self._read[index] >= 0:
            return self._answer(row, int(self._read[index]), index, keys)
        if op == Op.CLOSE and (unknown or columns.result[index] == 0):
            return Move(row, "close", maybe, int(ports.local[index]))
        if op == Op.BIND_INTERDOMAIN and (unknown or mine != FOREIGN):
            domids = int(ports.caller[index]), remote >> PORT_BITS
            there = remote if remote in keys else FOREIGN
            return Move(row, "bind", maybe, mine, mine in keys, there, domids=domids)
        if mine in keys:
            state = int(birth_state(columns, ports, np.array([index]))[0])
            return Move(row, "birth", False, mine, state=state)
        return None

    def _answer(self, row: int, read: int, index: int, keys: set[int]) -> Move | None:
        reads, ports = self._reads, self._ports
        claim, told = int(reads.claim[read]), int(reads.state[read])
        about = int((ports.remote if claim == Claim.NOT_FOR_ME else ports.local)[index])
        return Move(row, "read", False, about, state=told, claim=claim) if about in keys else None

    def _before(self, index: Int64) -> list[int]:
        """Return, by move, the mask of the moves that certainly came first."""
        columns, caller = self._columns, self._ports.caller[index]
        call, ret, log = columns.call[index], columns.ret[index], columns.log[index]
        count = len(index)
        over = np.where(ret == NEVER, NEVER, ret)[:, None]
        if (caller != caller[:1]).any():
            slack = self._scope.slack(np.repeat(caller, count), np.tile(caller, count))
            slack = slack.reshape(count, count)
            over = np.where(over == NEVER, NEVER, over + np.where(over == NEVER, 0, slack))
        first = over < call[None, :]
        first |= (log[:, None] == log[None, :]) & np.tri(count, k=-1, dtype=bool).T
        if count < _BITS:
            masks: list[int] = (_POWERS[:count] @ first).tolist()
            return masks
        return [sum(1 << i for i in np.flatnonzero(first[:, j]).tolist()) for j in range(count)]
