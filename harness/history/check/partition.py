# SPDX-License-Identifier: GPL-2.0-or-later
"""Partitions: which few operations are linearized together, and what comes of it.

An order of all operations exists if one exists for each part that shares no port with the rest
(the partition of Horn and Kroening, 2015).  A part is made for each answer that the rules left
open:

- the ports that were ever connected to the answer's port, and all operations on them, if these
  are few;
- else a window in time: the operations on one port that overlap the answer, or overlap those.
  The state before it is taken from the timeline, or is not known:

      port P    [op]   [op]      [--- op ---]             [op]
                              [--------- op ----------]           [op]
                                     [answer]
                             |------- window ---------|
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.history.check.answers import Answers, Claim
from harness.history.check.axis import Axis
from harness.history.check.linearize import Candidates, Linearizable, States, linearize
from harness.history.check.piece import Piece
from harness.history.check.ports import FOREIGN, PORT_BITS, Ports
from harness.history.check.states import ANYTHING, INTERDOMAIN, other_end, stat_of
from harness.history.check.timeline import Timeline
from harness.history.format.columns import NEVER, Columns, Int64
from harness.history.format.record import Op

WHOLE = 40  # operations on connected ports: up to so many are searched together
WIDEST = 48  # operations in a window; more are not tried
BUDGET = 4_000  # states visited for one part
_MANY = 4_096  # operations of a piece; beyond this, answers that tell next to nothing are left out


@dataclass(frozen=True)
class Linearized:
    """Operations (indices) that no order explains, and those that could not be decided."""

    impossible: Int64
    undecided: Int64


def linearize_parts(
    piece: Piece, timeline: Timeline, answers: Answers, ambiguous: Int64, unknown: Int64
) -> Linearized:
    """Linearize the parts around the operations ``ambiguous`` and ``unknown`` (indices).

    ``unknown``: the state before them is not known, so a window in time would decide nothing.
    """
    impossible: list[int] = []
    undecided: list[int] = []
    parts, candidates = _Parts(piece, timeline, answers), Candidates(piece, answers)
    few = parts.touching.count(_key(piece.ports, unknown)) <= WHOLE
    undecided += unknown[~few].tolist()
    asked_for = np.union1d(np.setdiff1d(ambiguous, unknown[~few]), unknown[few])
    due = np.zeros(len(piece.columns), bool)
    due[asked_for] = True
    asked = due.copy()
    for index in asked_for.tolist():
        if not due[index]:
            continue
        part = parts.around(index)
        mine = np.array([index]) if part is None else part.which[asked[part.which]]
        due[mine] = False
        if part is None or len(part.which) > WIDEST:
            undecided += mine.tolist()
            continue
        chosen, before = candidates.of(part.which, part.keys, part.since)
        result = linearize(chosen, before, part.start or (), BUDGET)
        if result is Linearizable.NO:
            impossible.append(index)
        elif result is Linearizable.UNKNOWN or part.start is None:
            undecided += mine.tolist()
    return Linearized(np.array(impossible, np.int64), np.array(undecided, np.int64))


@dataclass(frozen=True)
class _Part:
    which: Int64  # operations
    keys: set[int]  # ports whose state the search follows
    start: States | None  # their states before; None: not certain, anything is assumed
    since: int  # what was called earlier may have happened before ``start``


class _Parts:
    """Makes the part around an operation."""

    def __init__(self, piece: Piece, timeline: Timeline, answers: Answers) -> None:
        self.piece = piece
        self.touching = _Touching(piece.columns, piece.ports, answers)
        self._states = _StatesBefore(timeline)
        self._margin = piece.scope.most_slack

    def around(self, index: int) -> _Part | None:
        """Return the part of operation ``index``; None if nothing certain would come of it."""
        key = int(_key(self.piece.ports, np.array([index]))[0])
        keys, which = self._connected(key)
        start: States | None = ()
        since = -NEVER
        if len(which) > WHOLE:
            which = self._overlapping(key, index)
            since = int(self.piece.columns.call[which].min())
            keys, start = {key}, self._states.at(key, since - self._margin - 1)
            closes = self._closes_of_peers(which, start)
            which = np.union1d(which, closes) if len(closes) else np.sort(which)
        if self._domain_may_be_gone(which, keys):
            return None
        return _Part(which, keys, start, since)

    def _connected(self, key: int) -> tuple[set[int], Int64]:
        """Return the ports ever connected with ``key``, and all operations on them, unless many."""
        ports, touching = self.piece.ports, self.touching
        keys, fresh = {key}, [key]
        found: set[int] = set()
        if len(touching.of(key)) > WHOLE:
            return keys, touching.of(key)
        while fresh and len(found) <= WHOLE:
            mine = touching.of(fresh.pop())[: WHOLE + 1]
            found.update(mine.tolist())
            for side in (ports.made, ports.remote):
                new = set(side[mine].tolist()) - keys - {FOREIGN}
                keys |= new
                fresh += sorted(new)
        return keys, np.array(sorted(found), np.int64)

    def _overlapping(self, key: int, index: int) -> Int64:
        """Return the operations on ``key`` that overlap ``index``, and what overlaps those."""
        columns, margin = self.piece.columns, self._margin
        low, high = int(columns.call[index]) - margin, int(columns.ret[index]) + margin
        while True:
            mine = self.touching.between(key, low, high)
            call, ret = columns.call[mine], columns.ret[mine]
            inside = (call <= high) & (ret >= low)
            returned = ret[inside & (ret != NEVER)]
            wider = (
                int(call[inside].min()) - margin,
                int(max(returned.max(initial=0) + margin, high)),
            )
            if wider == (low, high) or int(inside.sum()) > WIDEST:
                return mine[inside]
            low, high = wider

    def _closes_of_peers(self, which: Int64, start: States | None) -> Int64:
        """Return closes of the other ends that can fall into the window.

        What overlaps them in turn does not matter: those that the window does not hold as a
        whole can happen before it or last.
        """
        columns, ports = self.piece.columns, self.piece.ports
        peers = set(ports.made[which].tolist()) | set(ports.remote[which].tolist())
        peers |= {other_end(state) for _, state in start or () if stat_of(state) == INTERDOMAIN}
        low = int(columns.call[which].min()) - self._margin
        ret = columns.ret[which]
        last = max(ret[ret != NEVER].max(initial=low), columns.call[which].max())
        high = int(last) + self._margin
        found = [np.zeros(0, np.int64)]
        for peer in sorted(peers - {FOREIGN}):
            mine = self.touching.between(peer, low, high)
            mine = mine[columns.op[mine] == Op.CLOSE]
            if len(mine):
                found.append(mine[(columns.call[mine] <= high) & (columns.ret[mine] >= low)])
        return np.concatenate(found)

    def _domain_may_be_gone(self, which: Int64, keys: set[int]) -> bool:
        """Say whether a domain may be gone before the last operation of another one.

        Then its ports were closed without a record.
        """
        columns, ports = self.piece.columns, self.piece.ports
        ret, caller = columns.ret[which], ports.caller[which]
        ended = np.where(ret == NEVER, columns.call[which], ret)
        remote = ports.remote[which][ports.remote[which] != FOREIGN]
        domids = {key >> PORT_BITS for key in keys} | set((remote >> PORT_BITS).tolist())
        until = self.piece.scope.recorded_until
        return any(
            int(ended[caller != domid].max(initial=-NEVER)) > until.get(domid, NEVER) - self._margin
            for domid in domids
        )


class _Touching:
    """The operations that the search knows about, by the ports they name, by call."""

    def __init__(self, columns: Columns, ports: Ports, answers: Answers) -> None:
        known = np.zeros(len(columns), bool)
        known[answers.operation] = True
        if len(columns) > _MANY:
            dull = np.isin(answers.claim, [Claim.PEER, Claim.MOVABLE])
            known[answers.operation[dull]] = False
        known |= ports.made != FOREIGN
        known |= np.isin(columns.op, [Op.CLOSE, Op.BIND_INTERDOMAIN])
        index = np.flatnonzero(known)
        every = [(side[index], index) for side in (ports.made, ports.local, ports.remote)]
        key = np.concatenate([k for k, _ in every])
        operation = np.concatenate([o for _, o in every])
        real = key != FOREIGN
        order = np.lexsort((operation[real], key[real]))
        self._key, self._operation = key[real][order], operation[real][order]
        self._ranges: dict[int, tuple[int, int]] = {}
        # Of each port, the latest return so far: what ends before a window is left out fast.
        _, group = np.unique(self._key, return_inverse=True)
        ret = columns.ret[self._operation]
        low = int(columns.call.min(initial=0))
        high = int(ret[ret != NEVER].max(initial=low))
        self._axis = Axis(low, max(high, int(columns.call.max(initial=low))), len(ret) + 1)
        self._latest = np.maximum.accumulate(self._axis.at(group, ret))
        self._call = self._axis.at(group, columns.call[self._operation])

    def of(self, key: int) -> Int64:
        """Return the operations on port ``key``, in the order of their calls."""
        low, high = self._range(key)
        return np.asarray(self._operation[low:high], np.int64)

    def count(self, keys: Int64) -> Int64:
        """Return how many operations there are on each of ``keys``."""
        upto = np.searchsorted(self._key, keys, side="right")
        return np.asarray(upto - np.searchsorted(self._key, keys), np.int64)

    def between(self, key: int, low: int, high: int) -> Int64:
        """Return those on port ``key`` that may overlap [low, high] (and perhaps others)."""
        begin, end = self._range(key)
        if begin == end:
            return np.zeros(0, np.int64)
        group = int(self._call[begin] // self._axis.span)
        first = self._latest[begin:end].searchsorted(self._axis.one(group, low))
        last = self._call[begin:end].searchsorted(self._axis.one(group, high), side="right")
        return np.asarray(self._operation[begin + first : begin + last], np.int64)

    def _range(self, key: int) -> tuple[int, int]:
        """Return where the rows of port ``key`` begin and end."""
        if key not in self._ranges:
            low, high = self._key.searchsorted([key, key + 1]).tolist()
            self._ranges[key] = (low, high)
        return self._ranges[key]


class _StatesBefore:
    """The state of a port at an instant, for many questions."""

    def __init__(self, timeline: Timeline) -> None:
        axis = timeline.lifetimes.axis
        self._timeline = timeline
        self._low = axis.at(timeline.channel, timeline.low)
        self._high = axis.at(timeline.channel, timeline.high)
        self._channels = {key: i for i, key in enumerate(timeline.lifetimes.keys.tolist())}

    def at(self, key: int, time: int) -> States | None:
        """Return the state of port ``key`` at ``time``; None if it is not certain."""
        channel = self._channels.get(key)
        if channel is None:
            return ()
        timeline = self._timeline
        number = timeline.lifetimes.axis.one(channel, time)
        position = int(self._high.searchsorted(number))
        if position != self._low.searchsorted(number, side="right"):
            return None
        inside = position > 0 and timeline.channel[position - 1] == channel
        state = int(timeline.after[position - 1]) if inside else ANYTHING
        return () if state == ANYTHING else ((key, state),)


def _key(ports: Ports, operation: Int64) -> Int64:
    """Return the port that each operation is about: made, else local, else remote."""
    local, remote = ports.local[operation], ports.remote[operation]
    local = np.where(local == FOREIGN, remote, local)
    return np.where(ports.made[operation] == FOREIGN, local, ports.made[operation])
