"""Judge a history of any length piece by piece, in memory that does not grow with it.

Of each piece, what later operations can still depend on is carried over: operations that
had not returned, ports that are open (with what they were connected to) and the events
that may still be on their way.  In each piece, operations that return after the last
moment that has been read for certain count as in flight: a prefix of a history is a history.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from harness.history.check.events import working
from harness.history.check.rules import Piece, judge
from harness.history.check.scope import Past, Scope
from harness.history.format.columns import NEVER, Bool, Columns, Int64, concatenate
from harness.history.format.record import Op

_OVERLAP = 2_000  # operations looked at again, for contradictions across the border
_EVENTS = 64  # causes, deliveries and enables kept for each open port


@dataclass(frozen=True)
class Step:
    """One piece, judged."""

    columns: Columns  # with what was carried over, not widened
    past: Past
    piece: Piece
    fresh: int  # first row that was not in an earlier piece


def stream(pieces: Iterable[Columns], about: Scope) -> Iterator[Step]:
    """Judge ``pieces``, consecutive parts of one history in the order of its calls."""
    widest = 2 * max(about.error.values(), default=0) + about.cpu_error + 1
    carried: Columns | None = None
    past = Past()
    for columns, final in _lookahead(pieces):
        fresh = int(columns.row[0])
        if carried is not None:
            columns = concatenate([carried, columns])
        horizon = about.horizon if final else min(about.horizon, int(columns.call[-1]) - widest)
        # Rows that were carried are judged again, with the same result.
        piece = judge(columns, replace(about, horizon=horizon), final=final, past=past)
        yield Step(columns, past, piece, fresh)
        if not final:
            keep = _needed(piece, horizon)
            ended = np.union1d(past.keys, _ended(piece, keep))
            vague = np.union1d(past.vague, _vague(piece))
            last = int(columns.row[-1]) + 1
            past = Past(ended, vague, last, horizon, working(piece.columns))
            rows = piece.columns.row[keep]
            late = (columns.ret > horizon) | (columns.row > columns.row[-1] - _OVERLAP)
            carried = columns.take(np.isin(columns.row, rows) | late)


def _lookahead(pieces: Iterable[Columns]) -> Iterator[tuple[Columns, bool]]:
    previous: Columns | None = None
    for columns in pieces:
        if not len(columns):
            continue
        if previous is not None:
            yield previous, False
        previous = columns
    if previous is not None:
        yield previous, True


def _needed(piece: Piece, horizon: int) -> Bool:
    """Say which operations (of ``piece.columns``) the next piece needs."""
    columns, lives = piece.columns, piece.timeline.lives
    keep = np.zeros(len(columns), bool)
    recent = columns.row > columns.row[-1] - _OVERLAP
    pending = recent & (columns.op != Op.RECV)
    since = int(min(columns.call[pending].min(initial=horizon), horizon))
    alive = (lives.end_high >= since) | lives.doubtful
    alive |= columns.row[lives.born] > columns.row[-1] - _OVERLAP
    alive |= lives.end_low > working(columns)  # what was lost there is told at the very end
    alive &= ~_succeeded(piece, since)
    _keep_events(piece, keep, alive)
    for _ in range(len(lives.born)):
        servers = _servers(piece, alive)
        if alive[servers].all():
            break
        alive[servers] = True
    keep[lives.born[alive]] = True
    ends = lives.end[alive]
    keep[ends[ends >= 0]] = True
    _keep_closes(piece, keep, alive)
    keep |= (columns.ret == NEVER) & (columns.op != Op.RECV)
    return keep


def _succeeded(piece: Piece, since: int) -> Bool:
    """Say which lives were followed by a certain one on the same port before ``since``."""
    lives, columns = piece.timeline.lives, piece.columns
    count = len(lives.born)
    certain = ~lives.doubtful & (columns.ret[lives.born] < since)
    following = np.append(certain[1:] & (lives.group[1:] == lives.group[:-1]), False)[:count]
    return np.asarray(following, bool)


def _servers(piece: Piece, alive: Bool) -> Int64:
    """Return the lives that the births of ``alive`` ones connected to."""
    made = piece.timeline
    births = np.flatnonzero(made.peer >= 0)
    own = made.lives.born[made.life[births]] == made.operation[births]
    births = births[own & alive[made.life[births]]]
    return np.unique(made.peer[births])


def _keep_closes(piece: Piece, keep: Bool, alive: Bool) -> None:
    """Keep all closes of ports with kept lives that could be theirs."""
    columns, lives = piece.columns, piece.timeline.lives
    closes = np.flatnonzero(columns.op == Op.CLOSE)
    group = lives.find(piece.ports.local[closes])
    first = np.full(len(lives.keys) + 1, NEVER)
    np.minimum.at(first, lives.group[alive], columns.call[lives.born[alive]])
    mine = closes[columns.ret[closes] >= first[group]]
    # Without the life it ended, a close would cast doubt on the next one.
    settled = lives.end[~alive & ~lives.doubtful]
    keep[np.setdiff1d(mine, settled)] = True


def _keep_events(piece: Piece, keep: Bool, alive: Bool) -> None:
    """Keep the last events of open ports, the first cause after the last delivery, and senders."""
    flow = piece.flow
    of = flow.cause_of
    for operation, by in (
        (flow.received, flow.received_by),
        (flow.enabled, flow.enabled_by),
        (flow.unmasking, flow.unmasked),
        (flow.cause, of),
    ):
        from_end = np.searchsorted(by, by, side="right") - np.arange(len(by))
        keep[operation[(from_end <= _EVENTS) & alive[by]]] = True
    last = np.full(len(alive), flow.axis.low)
    np.maximum.at(last, flow.received_by, piece.columns.ret[flow.received])
    index = np.flatnonzero(flow.sure & (flow.cause_call > last[of]) & alive[of])
    _, first = np.unique(of[index], return_index=True)
    keep[flow.cause[index[first]]] = True
    alive[flow.cause_from[keep[flow.cause] & alive[of]]] = True


def _vague(piece: Piece) -> Int64:
    """Return the ports with a life whose connections are not all known."""
    lives = piece.timeline.lives
    return lives.keys[np.unique(lives.group[~piece.timeline.linked])]


def _ended(piece: Piece, keep: Bool) -> Int64:
    """Return the ports of which a life is left behind."""
    lives = piece.timeline.lives
    return lives.keys[np.unique(lives.group[~keep[lives.born]])]
