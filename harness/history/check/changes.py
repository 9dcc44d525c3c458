# SPDX-License-Identifier: GPL-2.0-or-later
"""Lifetimes and connections become the timeline: which change can have come when.

A port is allocated once and closed once.  In between, what happens depends on its end of the
connection.  A *server* was allocated by ALLOC_UNBOUND (or lost its other end) and is bound to by
one client after the other; a *client* was made by BIND_INTERDOMAIN:

    server         [ALLOC]                                                         [CLOSE]
    its clients              [BIND 1]     [CLOSE 1]     [BIND 2]     [CLOSE 2]
    change            |          |            |             |            |             |
    slot              0          4            6             8           10           CLOSED
    leads to       UNBOUND  INTERDOMAIN    UNBOUND     INTERDOMAIN    UNBOUND      ANYTHING

    client         [BIND]                            [CLOSE]
    its server                  [CLOSE]
    change            |            |                    |
    slot              0            2                  CLOSED
    leads to     INTERDOMAIN    UNBOUND              ANYTHING

The slot is a change's place within its lifetime.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from harness.history.check.axis import later
from harness.history.check.connections import Connections, UnknownPeers, find_connections
from harness.history.check.lifetimes import Lifetimes
from harness.history.check.piece import Piece
from harness.history.check.ports import PORT_BITS
from harness.history.check.states import (
    ANYTHING,
    INTERDOMAIN,
    IPI,
    OPEN,
    UNBOUND,
    VIRQ,
    connected_to,
    domid_of,
    encode,
    stat_of,
)
from harness.history.check.timeline import Timeline
from harness.history.format.columns import NEVER, Bool, Int64
from harness.history.format.record import Op

_CLOSED_SLOT = 1 << 30


def find_timeline(piece: Piece) -> Timeline:
    """Return the timeline of ``piece``'s ports, with bounds narrowed by the order of changes."""
    lifetimes, connections = piece.lifetimes, find_connections(piece)
    closed = _closed_surely(piece)
    changes = _sorted(
        _allocations(piece, connections),
        _closes(lifetimes, closed),
        *_through_links(piece, connections, closed),
        _through_unknown_peers(piece, connections.unknown_peers, closed),
    )
    changes = _weakened(changes, connections.unknown_since)
    every = {field.name: getattr(changes, field.name) for field in fields(changes)}
    del every["slot"]
    return Timeline(
        lifetimes=lifetimes,
        connections=connections,
        channel=lifetimes.channel[changes.lifetime],
        **every,
    ).in_order()


@dataclass(frozen=True)
class _Changes:
    """Changes of one sort, one element each; the fields are those of ``Timeline``."""

    lifetime: Int64
    slot: Int64  # order within the lifetime; even, so that one more fits after each
    low: Int64
    high: Int64
    operation: Int64
    slack: Int64
    after: Int64
    peer: Int64
    lock_low: Int64
    lock_high: Int64


def _sorted(*parts: _Changes) -> _Changes:
    """Return the changes of all ``parts``, sorted by lifetime and slot."""
    names = [field.name for field in fields(_Changes)]
    every = _Changes(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))
    order = np.lexsort((every.slot, every.lifetime))
    return _Changes(*(getattr(every, name)[order] for name in names))


def _same(like: Int64, value: int) -> Int64:
    return np.full(len(like), value, np.int64)


def _allocations(piece: Piece, connections: Connections) -> _Changes:
    lifetimes, links = piece.lifetimes, connections.links
    lifetime = np.arange(len(lifetimes.alloc))
    after = state_allocated(piece, lifetimes.alloc)
    certain = connections.known | (stat_of(after) != INTERDOMAIN)
    certain[links.client] = True  # when it loses its other end is a change of its own
    after = np.where(certain, after, encode(OPEN, domid_of(after), 0))
    after = np.where(lifetimes.doubtful, ANYTHING, after)
    call, ret = piece.columns.call[lifetimes.alloc], piece.columns.ret[lifetimes.alloc]
    peer = _same(lifetime, -1)
    peer[links.client] = links.server
    return _Changes(
        lifetime=lifetime,
        slot=_same(lifetime, 0),
        low=call,
        high=ret,
        operation=np.where(lifetimes.doubtful, -1, lifetimes.alloc),
        slack=_same(lifetime, 0),
        after=after,
        peer=peer,
        lock_low=call,
        lock_high=ret,
    )


def state_allocated(piece: Piece, operation: Int64) -> Int64:
    """Return the states in which the allocations ``operation`` leave their new ports."""
    columns, ports = piece.columns, piece.ports
    op = columns.op[operation]
    states = {
        Op.ALLOC_UNBOUND: encode(UNBOUND, ports.peer_domid[operation], 0),
        Op.BIND_INTERDOMAIN: connected_to(ports.remote[operation]),
        Op.BIND_VIRQ: encode(VIRQ, 0, columns.port[operation].astype(np.int64)),
        Op.BIND_IPI: encode(IPI, 0, np.zeros(len(operation), np.int64)),
    }
    return np.select([op == which for which in states], list(states.values()), ANYTHING)


def _closes(lifetimes: Lifetimes, closed: Int64) -> _Changes:
    lifetime = np.flatnonzero(~lifetimes.doubtful)
    low, high = lifetimes.close_low[lifetime], lifetimes.close_high[lifetime]
    return _Changes(
        lifetime=lifetime,
        slot=_same(lifetime, _CLOSED_SLOT),
        low=low,
        high=high,
        operation=np.where(high == NEVER, -1, lifetimes.close[lifetime]),
        slack=_same(lifetime, 0),
        after=_same(lifetime, ANYTHING),
        peer=_same(lifetime, -1),
        lock_low=low,
        lock_high=closed[lifetime],
    )


def _closed_surely(piece: Piece) -> Int64:
    """Return, by lifetime, when its close had surely left the channel's lock; NEVER: not known.

    Whoever was given the port next came to its lock after the close had left it.
    """
    lifetimes = piece.lifetimes
    returned = np.where(lifetimes.close >= 0, piece.columns.ret[lifetimes.close], NEVER)
    return np.minimum(returned, lifetimes.next_ret)


def _through_links(
    piece: Piece, connections: Connections, closed: Int64
) -> tuple[_Changes, _Changes, _Changes]:
    """Return what links change: servers are bound, and each end is released by the other."""
    columns, links = piece.columns, connections.links
    server, client = links.server, links.client
    turn = np.arange(len(server)) - np.searchsorted(server, server)  # 0: its first client
    call = columns.call[links.bind] - links.slack
    ret = columns.ret[links.bind] + links.slack
    bound = _Changes(
        lifetime=server,
        slot=4 * turn + 4,
        low=call,
        high=ret,
        operation=links.bind,
        slack=links.slack,
        after=connected_to(piece.ports.made[links.bind]),
        peer=client,
        lock_low=call,
        lock_high=ret,
    )
    last = np.append(np.diff(server) != 0, True)[: len(server)]
    serves = np.zeros(len(piece.lifetimes.alloc), bool)
    serves[server] = True
    by_client = _released(piece, closed, server, client, 4 * turn + 6, links.slack, last)
    by_server = _released(piece, closed, client, server, 0 * turn + 2, links.slack, ~serves[client])
    return bound, by_client, by_server


def _released(
    piece: Piece,
    closed: Int64,
    lifetime: Int64,
    peer: Int64,
    slot: Int64,
    slack: Int64,
    last: Bool,
) -> _Changes:
    """Return the changes of ``lifetime`` to UNBOUND because ``peer`` is closed.

    Unless it is bound again after that (not ``last``), its own close may come first, and then it
    was never unbound:

        peer closed first       connected |peer's close| UNBOUND |own close| ANYTHING
        itself closed first     connected |own close| ANYTHING

    So the change happened at the earlier of the two closes.  Its bounds are those of the earlier
    one, and say nothing about the operation that closed the peer.
    """
    lifetimes = piece.lifetimes
    low, high = lifetimes.close_low[peer] - slack, later(lifetimes.close_high[peer], slack)
    lock_low, lock_high = low, later(closed[peer], slack)
    gone = lock_low > closed[lifetime]  # itself closed: the peer's close took no lock of it
    lock_low = np.where(gone, lifetimes.close_low[lifetime], lock_low)
    lock_high = np.where(gone, closed[lifetime], lock_high)
    separate = last | (lifetimes.close_high[peer] == NEVER)
    return _Changes(
        lifetime=lifetime,
        slot=slot,
        low=np.where(last, np.minimum(low, lifetimes.close_low[lifetime]), low),
        high=np.where(last, np.minimum(high, lifetimes.close_high[lifetime]), high),
        operation=np.where(separate, -1, lifetimes.close[peer]),
        slack=slack,
        after=encode(UNBOUND, lifetimes.keys[lifetimes.channel[peer]] >> PORT_BITS, 0),
        peer=_same(lifetime, -1),
        lock_low=lock_low,
        lock_high=lock_high,
    )


def _through_unknown_peers(piece: Piece, peers: UnknownPeers, closed: Int64) -> _Changes:
    """Return the changes to UNBOUND of ports whose other end, whichever it was, has been closed.

    As in ``_released`` the own close may come first.
    """
    client = peers.client
    low = piece.columns.call[piece.lifetimes.alloc[client]]
    return _Changes(
        lifetime=client,
        slot=_same(client, 2),
        low=low,
        high=np.minimum(peers.closed_high, piece.lifetimes.close_high[client]),
        operation=_same(client, -1),
        slack=_same(client, 0),
        after=encode(UNBOUND, peers.domid, 0),
        peer=_same(client, -1),
        lock_low=low,
        lock_high=np.minimum(peers.closed_high, closed[client]),
    )


def _weakened(changes: _Changes, unknown_since: Int64) -> _Changes:
    """Return ``changes`` (sorted), saying less about lifetimes that somebody may have bound to.

    ``unknown_since`` says by lifetime from when on (NEVER: nobody).  A port that is unbound
    stays so until then, or until its next known change; what comes after is OPEN:

        changes              UNBOUND                                        [next change]
        may be bound from                         |
        said instead         UNBOUND              |OPEN                     [next change]
    """
    since = unknown_since[changes.lifetime]
    unbound = np.flatnonzero((since != NEVER) & (stat_of(changes.after) == UNBOUND))
    since = since[unbound]
    following = np.minimum(unbound + 1, len(changes.lifetime) - 1)
    same = (following > unbound) & (changes.lifetime[following] == changes.lifetime[unbound])
    ended = same & (changes.high[following] < since)
    until = same & (changes.high[unbound] < since) & (changes.low[following] >= since)
    may_be_bound = encode(OPEN, domid_of(changes.after[unbound]), 0)
    after = changes.after.copy()
    after[unbound] = np.where(ended | until, after[unbound], may_be_bound)
    at = unbound[until]
    bound = _Changes(  # stands for all binds that may have come
        lifetime=changes.lifetime[at],
        slot=changes.slot[at] + 1,
        low=since[until],
        high=_same(at, NEVER),
        operation=_same(at, -1),
        slack=_same(at, 0),
        after=may_be_bound[until],
        peer=_same(at, -1),
        lock_low=since[until],
        lock_high=since[until],
    )
    return _sorted(replace(changes, after=after), bound)
