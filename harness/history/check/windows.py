"""Which few operations go to the exact search together, and what comes of it.

A window holds answers that the vectorised rules left open, with every change and every
answer on their ports that overlaps them.  Small components are searched whole, on all
their ports at once; in a large one the window is cut out in time and looks at one port,
whose state before it is taken from the timeline, or not known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.history.check.answers import Claim, Reads
from harness.history.check.lives import Axis
from harness.history.check.scope import FOREIGN, PORT_BITS, Ports, Scope
from harness.history.check.search import Moves, Outcome, States, search
from harness.history.check.timeline import ANYTHING, INTERDOMAIN, Timeline
from harness.history.format.columns import NEVER, Columns, Int64
from harness.history.format.record import Op

WHOLE = 40  # moves: a component of up to this many is searched whole
WIDEST = 48  # moves in a window; more are not tried
_MANY = 4_096  # operations; beyond this, answers that tell next to nothing are left out
BUDGET = 4_000  # states visited for one window
_KEY = (1 << 48) - 1  # of a state: domid and port of the other end


@dataclass(frozen=True)
class Searched:
    """Rows that no order explains, and rows that could not be decided."""

    impossible: Int64
    undecided: Int64


def look_into(
    columns: Columns,
    ports: Ports,
    scope: Scope,
    made: Timeline,
    reads: Reads,
    open_: Int64,
    vague: Int64,
) -> Searched:
    """Search the windows around the operations ``open_`` and ``vague`` (indices).

    ``vague``: the state before them is not known, so only whole components are worth it.
    """
    impossible: list[int] = []
    undecided: list[int] = []
    touched, turned = _Touched(columns, ports, reads), Moves(columns, ports, scope, reads)
    small = touched.count(_key(ports, vague)) <= WHOLE
    undecided += vague[~small].tolist()
    open_ = np.union1d(np.setdiff1d(open_, vague[~small]), vague[small])
    before = _Before(made)
    due = np.zeros(len(columns), bool)
    due[open_] = True
    asked = due.copy()
    for index in open_.tolist():
        if not due[index]:
            continue
        window = _window(columns, ports, scope, before, touched, index)
        mine = np.array([index]) if window is None else window.which[asked[window.which]]
        due[mine] = False
        if window is None or len(window.which) > WIDEST:
            undecided += mine.tolist()
            continue
        moves = turned.of(window.which, window.keys, window.since)
        outcome = search(moves, window.start or (), BUDGET)
        if outcome is Outcome.IMPOSSIBLE:
            impossible.append(index)
        elif outcome is Outcome.UNDECIDED or window.start is None:
            undecided += mine.tolist()
    return Searched(np.array(impossible, np.int64), np.array(undecided, np.int64))


@dataclass(frozen=True)
class _Window:
    which: Int64  # operations
    keys: set[int]  # ports whose state the search follows
    start: States | None  # their states before; None: not certain, anything is assumed
    since: int  # what was called earlier may have happened before ``start``


class _Touched:
    """The operations that the search knows about, by the ports they act on, by call."""

    def __init__(self, columns: Columns, ports: Ports, reads: Reads) -> None:
        known = np.zeros(len(columns), bool)
        known[reads.operation] = True
        if len(columns) > _MANY:
            dull = np.isin(reads.claim, [Claim.PEER, Claim.MOVABLE])
            known[reads.operation[dull]] = False
        known |= ports.made != FOREIGN
        known |= np.isin(columns.op, [Op.CLOSE, Op.BIND_INTERDOMAIN])
        index = np.flatnonzero(known)
        every = [(side[index], index) for side in (ports.made, ports.local, ports.remote)]
        key = np.concatenate([k for k, _ in every])
        operation = np.concatenate([o for _, o in every])
        real = key != FOREIGN
        order = np.lexsort((operation[real], key[real]))
        self.key, self.operation = key[real][order], operation[real][order]
        self._ranges: dict[int, tuple[int, int]] = {}
        # Of each port, the latest return so far: what ends before a window is left out fast.
        _, group = np.unique(self.key, return_inverse=True)
        ret = columns.ret[self.operation]
        low = int(columns.call.min(initial=0))
        high = int(ret[ret != NEVER].max(initial=low))
        self.axis = Axis(low, max(high, int(columns.call.max(initial=low))), len(ret) + 1)
        self.latest = np.maximum.accumulate(self.axis.at(group, ret))
        self.call = self.axis.at(group, columns.call[self.operation])

    def of(self, key: int) -> Int64:
        """Return the operations on port ``key``, in the order of their calls."""
        low, high = self._range(key)
        return np.asarray(self.operation[low:high], np.int64)

    def count(self, keys: Int64) -> Int64:
        """Return how many operations there are on each of ``keys``."""
        upto = np.searchsorted(self.key, keys, side="right")
        return np.asarray(upto - np.searchsorted(self.key, keys), np.int64)

    def between(self, key: int, low: int, high: int) -> Int64:
        """Return those on port ``key`` that may overlap [low, high] (and perhaps others)."""
        begin, end = self._range(key)
        if begin == end:
            return np.zeros(0, np.int64)
        group = int(self.call[begin] // self.axis.span)
        first = self.latest[begin:end].searchsorted(self.axis.one(group, low))
        last = self.call[begin:end].searchsorted(self.axis.one(group, high), side="right")
        return np.asarray(self.operation[begin + first : begin + last], np.int64)

    def _range(self, key: int) -> tuple[int, int]:
        """Return where the rows of port ``key`` begin and end."""
        if key not in self._ranges:
            low, high = self.key.searchsorted([key, key + 1]).tolist()
            self._ranges[key] = (low, high)
        return self._ranges[key]


class _Before:
    """The state of a port at an instant, for many questions."""

    def __init__(self, made: Timeline) -> None:
        self._made = made
        self._low = made.lives.axis.at(made.group, made.low)
        self._high = made.lives.axis.at(made.group, made.high)
        self._groups = {key: group for group, key in enumerate(made.lives.keys.tolist())}

    def states(self, key: int, time: int) -> States | None:
        """Return the state of port ``key`` at ``time``; None if it is not certain."""
        group = self._groups.get(key)
        if group is None:
            return ()
        at = self._made.lives.axis.one(group, time)
        first = int(self._high.searchsorted(at))
        if first != self._low.searchsorted(at, side="right"):
            return None
        inside = first > 0 and self._made.group[first - 1] == group
        state = int(self._made.after[first - 1]) if inside else ANYTHING
        return () if state == ANYTHING else ((key, state),)


def _key(ports: Ports, operation: Int64) -> Int64:
    """Return the port that each operation is about: made, else local, else remote."""
    local, remote = ports.local[operation], ports.remote[operation]
    local = np.where(local == FOREIGN, remote, local)
    return np.where(ports.made[operation] == FOREIGN, local, ports.made[operation])


def _window(
    columns: Columns, ports: Ports, scope: Scope, before: _Before, touched: _Touched, index: int
) -> _Window | None:
    key = int(_key(ports, np.array([index]))[0])
    keys, which = _component(ports, touched, key)
    start: States | None = ()
    since = -NEVER
    margin = 2 * max(scope.error.values())
    if len(which) > WHOLE:
        which = _overlapping(columns, touched, key, index, margin)
        since = int(columns.call[which].min())
        keys, start = {key}, before.states(key, since - margin - 1)
        more = _releases(columns, ports, touched, which, start, margin)
        which = np.union1d(which, more) if len(more) else np.sort(which)
    if _outlives(columns, ports, scope, which, keys, margin):
        return None
    return _Window(which, keys, start, since)


def _outlives(
    columns: Columns, ports: Ports, scope: Scope, which: Int64, keys: set[int], margin: int
) -> bool:
    """Say whether a domain of the window may be gone before another one's last operation.

    Then its ports were closed by nobody we know.
    """
    ret, caller = columns.ret[which], ports.caller[which]
    ended = np.where(ret == NEVER, columns.call[which], ret)
    remote = ports.remote[which][ports.remote[which] != FOREIGN]
    domids = {key >> PORT_BITS for key in keys} | set((remote >> PORT_BITS).tolist())
    return any(
        int(ended[caller != domid].max(initial=-NEVER)) > scope.end.get(domid, NEVER) - margin
        for domid in domids
    )


def _overlapping(columns: Columns, touched: _Touched, key: int, index: int, margin: int) -> Int64:
    """Return the operations on ``key`` that overlap ``index``, and what overlaps those."""
    low, high = int(columns.call[index]) - margin, int(columns.ret[index]) + margin
    while True:
        mine = touched.between(key, low, high)
        call, ret = columns.call[mine], columns.ret[mine]
        which = (call <= high) & (ret >= low)
        short = ret[which & (ret != NEVER)]
        wider = int(call[which].min()) - margin, int(max(short.max(initial=0) + margin, high))
        if wider == (low, high) or int(which.sum()) > WIDEST:
            return mine[which]
        low, high = wider


def _releases(
    columns: Columns,
    ports: Ports,
    touched: _Touched,
    which: Int64,
    start: States | None,
    margin: int,
) -> Int64:
    """Return closes of the other ends that can fall into the window.

    What overlaps them in turn does not matter: those that the window does not hold as a whole
    can happen before it or last.
    """
    peers = set(ports.made[which].tolist()) | set(ports.remote[which].tolist())
    peers |= {state & _KEY for _, state in start or () if state >> 48 == INTERDOMAIN}
    low = int(columns.call[which].min()) - margin
    ret = columns.ret[which]
    high = int(max(ret[ret != NEVER].max(initial=low), columns.call[which].max())) + margin
    found = [np.zeros(0, np.int64)]
    for peer in sorted(peers - {FOREIGN}):
        mine = touched.between(peer, low, high)
        mine = mine[columns.op[mine] == Op.CLOSE]
        if len(mine):
            found.append(mine[(columns.call[mine] <= high) & (columns.ret[mine] >= low)])
    return np.concatenate(found)


def _component(ports: Ports, touched: _Touched, key: int) -> tuple[set[int], Int64]:
    """Return the ports ever connected with ``key``, and all operations on them; stop if many."""
    keys, fresh = {key}, [key]
    found: set[int] = set()
    if len(touched.of(key)) > WHOLE:
        return keys, touched.of(key)
    while fresh and len(found) <= WHOLE:
        mine = touched.of(fresh.pop())
        found.update(mine[: WHOLE + 1].tolist())
        for side in (ports.made, ports.remote):
            new = set(side[mine[: WHOLE + 1]].tolist()) - keys - {FOREIGN}
            keys |= new
            fresh += sorted(new)
    return keys, np.array(sorted(found), np.int64)
