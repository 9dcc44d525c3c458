# SPDX-License-Identifier: GPL-2.0-or-later
"""Judge a history of any length piece by piece, in memory that does not grow with it.

What later operations can depend on is carried over from each piece to the next one: operations
that have not returned, ports that are open (with what they were connected to), and events that
may still be on their way.

A piece is judged up to its *horizon*, the last moment of which everything has been read.
Operations that return later count as in flight: the beginning of a history is itself a history.

    history     ...............|...............|...............
    piece 1     ===============
    piece 2        o  o   ooooo ===============                    o: carried over
    piece 3              o       o  o  oo  oooo ===============

What explains the answer of an operation is everything since its call.  One that is under way while
very many others are called is given up: it counts as one that never returned, and as undecided.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from harness.history.check.events import load_end
from harness.history.check.piece import Past
from harness.history.check.rules import JudgedPiece, judge
from harness.history.check.scope import Scope
from harness.history.format.columns import NEVER, Bool, Columns, Int64, concatenate
from harness.history.format.record import Op

_OVERLAP = 2_000  # operations looked at again, for contradictions across the border
_LONGEST = 1 << 19  # operations called while one is under way; with more, it is given up
_EVENTS = 64  # causes, deliveries and enables kept for each open port


def stream(pieces: Iterable[Columns], scope: Scope) -> Iterator[JudgedPiece]:
    """Judge ``pieces``, consecutive parts of one history in the order of its calls.

    What is yielded also holds the operations that were carried over: see ``Past.first_row``.
    """
    widest = scope.most_slack + scope.cpu_error + 1
    carried: Columns | None = None
    past = Past()
    for columns, final in _with_last_marked(pieces):
        if carried is not None:
            columns = concatenate([carried, columns])
        horizon = scope.horizon if final else min(scope.horizon, int(columns.call[-1]) - widest)
        # Rows that were carried are judged again, with the same result.
        judged = judge(columns, replace(scope, horizon=horizon), final=final, past=past)
        yield judged
        if not final:
            columns, given_up = _without_longest(columns, horizon)
            keep = _needed(judged, _since(columns, horizon))
            past = _left_behind(judged, keep, past, int(columns.row[-1]) + 1, horizon)
            past = replace(past, given_up=given_up)
            late = (columns.ret > horizon) | _recent(columns)
            carried = columns.take(np.isin(columns.row, judged.piece.columns.row[keep]) | late)


def _with_last_marked(pieces: Iterable[Columns]) -> Iterator[tuple[Columns, bool]]:
    """Yield each piece that is not empty, and whether it is the last one."""
    previous: Columns | None = None
    for columns in pieces:
        if not len(columns):
            continue
        if previous is not None:
            yield previous, False
        previous = columns
    if previous is not None:
        yield previous, True


def _left_behind(judged: JudgedPiece, keep: Bool, past: Past, first_row: int, horizon: int) -> Past:
    """Return what the next piece, which begins with ``first_row``, must know of the ones before."""
    columns, lifetimes = judged.piece.columns, judged.piece.lifetimes
    ended = lifetimes.keys[np.unique(lifetimes.channel[~keep[lifetimes.alloc]])]
    known = judged.timeline.connections.known
    unknown = lifetimes.keys[np.unique(lifetimes.channel[~known])]
    return Past(
        ports=np.union1d(past.ports, ended),
        unknown=np.union1d(past.unknown, unknown),
        first_row=first_row,
        judged=horizon,
        load_end=load_end(columns),
    )


def _without_longest(columns: Columns, horizon: int) -> tuple[Columns, Int64]:
    """Return ``columns`` in which what is under way for too long never returns, and its rows.

    All that was judged so far took it for under way, so this contradicts nothing.  A reader's RECV
    may wait as long as it likes: what explains it is kept with its port.
    """
    under_way = (columns.ret > horizon) & (columns.ret != NEVER) & (columns.op != Op.RECV)
    longest = under_way & (columns.row <= columns.row[-1] - _LONGEST)
    return replace(columns, ret=np.where(longest, NEVER, columns.ret)), columns.row[longest]


def _recent(columns: Columns) -> Bool:
    return np.asarray(columns.row > columns.row[-1] - _OVERLAP)


def _since(columns: Columns, horizon: int) -> int:
    """Return since when what happened can explain an answer that is still to be judged.

    That of an operation which began long ago and is under way counts, too: a vCPU that nobody runs
    holds one up for many others.  An operation that never returned has no answer.
    """
    under_way = (columns.ret > horizon) & (columns.ret != NEVER)
    open_ = (_recent(columns) | under_way) & (columns.op != Op.RECV)
    return int(min(columns.call[open_].min(initial=horizon), horizon))


def _needed(judged: JudgedPiece, since: int) -> Bool:
    """Say which operations (of the piece's columns) the next piece needs, to judge what ended
    after ``since``."""
    columns, lifetimes = judged.piece.columns, judged.piece.lifetimes
    keep = np.zeros(len(columns), bool)
    alive = (lifetimes.close_high >= since) | lifetimes.doubtful
    alive |= _recent(columns)[lifetimes.alloc]
    alive |= lifetimes.close_low > load_end(columns)  # what was lost there is told at the very end
    alive &= ~_succeeded(judged, since)
    _keep_events(judged, keep, alive)
    for _ in range(len(lifetimes.alloc)):
        servers = _servers(judged, alive)
        if alive[servers].all():
            break
        alive[servers] = True
    keep[lifetimes.alloc[alive]] = True
    closes = lifetimes.close[alive]
    keep[closes[closes >= 0]] = True
    _keep_closes(judged, keep, alive, since)
    keep |= (columns.ret == NEVER) & (columns.op != Op.RECV)
    return keep


def _succeeded(judged: JudgedPiece, since: int) -> Bool:
    """Say which lifetimes were followed by another one on the same port before ``since``.

    It has then ended, whichever close it was.  Of two allocations that overlap, of which the
    second is doubtful, the order is not known.
    """
    lifetimes, columns = judged.piece.lifetimes, judged.piece.columns
    call, ret = columns.call[lifetimes.alloc], columns.ret[lifetimes.alloc]
    in_order = ~lifetimes.doubtful[1:] | (call[1:] > ret[:-1])
    same = lifetimes.channel[1:] == lifetimes.channel[:-1]
    followed = same & in_order & (ret[1:] < since)
    return np.asarray(np.append(followed, False)[: len(call)], bool)


def _servers(judged: JudgedPiece, alive: Bool) -> Int64:
    """Return the lifetimes that the ports of ``alive`` ones were bound to when they were made."""
    timeline, lifetimes = judged.timeline, judged.piece.lifetimes
    made = np.flatnonzero(timeline.peer >= 0)
    own = lifetimes.alloc[timeline.lifetime[made]] == timeline.operation[made]
    made = made[own & alive[timeline.lifetime[made]]]
    return np.unique(timeline.peer[made])


def _keep_closes(judged: JudgedPiece, keep: Bool, alive: Bool, since: int) -> None:
    """Keep all closes of ports with kept lifetimes that could be theirs."""
    columns, lifetimes = judged.piece.columns, judged.piece.lifetimes
    closes = np.flatnonzero(columns.op == Op.CLOSE)
    channel = lifetimes.find(judged.piece.ports.local[closes])
    first = np.full(len(lifetimes.keys) + 1, NEVER)  # the last one: of FOREIGN
    np.minimum.at(first, lifetimes.channel[alive], columns.call[lifetimes.alloc[alive]])
    mine = closes[columns.ret[closes] >= np.minimum(first[channel], since)]
    # Without the lifetime it ended, a close would cast doubt on the next one.
    settled = lifetimes.close[~alive & ~lifetimes.doubtful]
    keep[np.setdiff1d(mine, settled)] = True


def _keep_events(judged: JudgedPiece, keep: Bool, alive: Bool) -> None:
    """Keep the last events of open ports, the first cause after the last delivery, and senders."""
    deliveries, causes = judged.events.deliveries, judged.events.causes
    for operation, of in (
        (deliveries.recv, deliveries.recv_of),
        (deliveries.enable, deliveries.enable_of),
        (deliveries.unmask, deliveries.unmask_of),
        (causes.operation, causes.lifetime),
    ):
        from_end = np.searchsorted(of, of, side="right") - np.arange(len(of))
        keep[operation[(from_end <= _EVENTS) & alive[of]]] = True
    last = np.full(len(alive), judged.events.axis.low)
    np.maximum.at(last, deliveries.recv_of, judged.piece.columns.ret[deliveries.recv])
    of = causes.lifetime
    index = np.flatnonzero(causes.certain & (causes.call > last[of]) & alive[of])
    _, first = np.unique(of[index], return_index=True)
    keep[causes.operation[index[first]]] = True
    alive[causes.sender[keep[causes.operation] & alive[of]]] = True
