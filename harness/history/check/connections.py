# SPDX-License-Identifier: GPL-2.0-or-later
"""Which lifetime of the other end's port each BIND_INTERDOMAIN connected to.

A bind names the other end by its number.  It may have connected to any lifetime of that port
that its call overlaps:

    remote port   |==== 1 ====|   |===== 2 =====|       |==== 3 ====|
    bind                    [--------]                                  1 or 2: not certain

It is certain when only one is left, and that one lasted from before the call until after it:

    remote port   |============ 1 ============|
    bind                  [--------]                                    1: a *link*

Two facts exclude lifetimes: an unbound port is reserved for one domain, and a STATUS on the new
port may tell that its other end has been closed, so that one which is still open was not it:

    remote port   |==== 1 ====|   |=============== 2 ==============|
    bind                    [--------]
    STATUS of the new port               [ "unbound" ]                  1: 2 is still open

A link tells the state of both ends.  Without one, neither end's state is known after the bind.
But if the remote number is allocated again, the lifetime that the bind connected to, whichever
it was, has been closed by then, and the new port is unbound:

    remote port   |==== 1 ====|   |===== 2 =====|       [ALLOC]==== 3 ====|
    bind                    [--------]                        |
    the new port            |------ connected, or unbound ----|--- unbound ---
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.history.check.axis import later, ranges
from harness.history.check.piece import Piece
from harness.history.check.ports import FOREIGN, PORT_BITS, PORT_MASK
from harness.history.check.scope import effect_unknown
from harness.history.check.states import UNBOUND
from harness.history.format.columns import NEVER, Bool, Int64
from harness.history.format.record import Op, Via


@dataclass(frozen=True)
class Links:
    """Connections that are certain, sorted by server and time."""

    server: Int64  # lifetime of the port that was unbound
    client: Int64  # lifetime of the port that the bind made
    bind: Int64  # operation
    slack: Int64  # between the two domains' clocks


@dataclass(frozen=True)
class UnknownPeers:
    """Ports that a bind made and whose other end is not certain, but closed by a known time."""

    client: Int64  # lifetime of the port that the bind made
    closed_high: Int64  # when the other end was closed at the latest, in the client's clock
    domid: Int64  # the other end's


@dataclass(frozen=True)
class Connections:
    """What every lifetime was connected to, as far as that is known."""

    links: Links
    unknown_peers: UnknownPeers
    known: Bool  # by lifetime: what it is connected to is known at all times
    unknown_since: Int64  # by lifetime: from when on that is not known; NEVER: it is, or see above
    possible: Int64  # lifetime << PORT_BITS | port, ascending: all ports each may be connected to
    any_port: Bool  # by lifetime: it may be connected to any port

    def possible_peer(self, lifetime: Int64, port: Int64) -> Bool:
        """Say whether each ``lifetime`` may at some time be connected to ``port`` (a number)."""
        if not len(self.possible):
            return self.any_port[lifetime]
        pair = lifetime << PORT_BITS | port
        index = np.minimum(np.searchsorted(self.possible, pair), len(self.possible) - 1)
        return np.asarray((self.possible[index] == pair) | self.any_port[lifetime], bool)


def find_connections(piece: Piece) -> Connections:
    """Return what is known about the connections of ``piece``'s lifetimes."""
    lifetimes = piece.lifetimes
    binds = _find_binds(piece)
    pairs = _find_pairs(piece, binds)
    certain, server = _certain(piece, binds, pairs)
    uncertain = np.ones(len(binds.operation), bool)
    uncertain[certain] = False
    closed, peers = _closed_since(piece, binds, uncertain)
    unrecorded = _unrecorded(piece)
    since = np.full(len(lifetimes.alloc), NEVER)
    doubt = uncertain[pairs.bind]
    np.minimum.at(since, pairs.server[doubt], binds.call[pairs.bind[doubt]])
    uncertain[closed] = False  # for their clients: see UnknownPeers
    since[binds.client[uncertain & (binds.client >= 0)]] = lifetimes.axis.low
    since[unrecorded] = lifetimes.axis.low
    known = ~lifetimes.doubtful & (since == NEVER)
    known[peers.client] = False
    any_port = unrecorded
    any_port[pairs.server[binds.unknown[pairs.bind]]] = True  # nobody was told the new number
    return Connections(
        links=Links(server, binds.client[certain], binds.operation[certain], binds.slack[certain]),
        unknown_peers=peers,
        known=known,
        unknown_since=since,
        possible=_possible(piece, binds, pairs),
        any_port=any_port,
    )


@dataclass(frozen=True)
class _Binds:
    """BIND_INTERDOMAINs that succeeded or may have, in the order of their calls."""

    operation: Int64
    unknown: Bool  # whether it succeeded is not known
    client: Int64  # lifetime of the port that it made; -1: not known
    channel: Int64  # of the other end's port; FOREIGN: not an agent's
    slack: Int64  # between the two domains' clocks
    call: Int64  # in the other end's clock, at the earliest and at the latest
    ret: Int64
    first: Int64  # the lifetimes of ``channel`` that it overlaps: the first,
    last: Int64  # and the last; smaller than ``first`` when there is none


@dataclass(frozen=True)
class _Pairs:
    """Every lifetime that a bind may have connected to: one row for each such pair."""

    bind: Int64  # index into _Binds
    server: Int64  # lifetime


def _find_binds(piece: Piece) -> _Binds:
    columns, ports, lifetimes = piece.columns, piece.ports, piece.lifetimes
    operation = np.flatnonzero(columns.op == Op.BIND_INTERDOMAIN)
    unknown = effect_unknown(columns)[operation]
    client_of = np.full(len(columns), -1)
    client_of[lifetimes.alloc] = np.arange(len(lifetimes.alloc))
    succeeded = unknown | (client_of[operation] >= 0)
    operation, unknown = operation[succeeded], unknown[succeeded]
    remote = ports.remote[operation]
    slack = piece.scope.slack(ports.caller[operation], remote >> PORT_BITS)
    call, ret = columns.call[operation] - slack, later(columns.ret[operation], slack)
    channel = lifetimes.find(remote)
    first, last = _overlapped(piece, channel, call, ret)
    client = client_of[operation]
    return _Binds(operation, unknown, client, channel, slack, call, ret, first, last)


def _overlapped(piece: Piece, channel: Int64, call: Int64, ret: Int64) -> tuple[Int64, Int64]:
    """Return the first and last lifetime of ``channel`` that [call, ret] may overlap."""
    lifetimes = piece.lifetimes
    axis = lifetimes.axis
    closed = np.where(lifetimes.doubtful, NEVER, lifetimes.close_high)
    closed = axis.at(lifetimes.channel, np.minimum(closed, lifetimes.next_ret))
    begun = np.maximum.accumulate(axis.at(lifetimes.channel, lifetimes.begin_low))
    first = np.searchsorted(closed, axis.at(channel, call))
    last = np.searchsorted(begun, axis.at(channel, ret), side="right") - 1
    return np.where(channel == FOREIGN, 0, first), np.where(channel == FOREIGN, -1, last)


def _find_pairs(piece: Piece, binds: _Binds) -> _Pairs:
    lifetimes = piece.lifetimes
    bind = np.repeat(np.arange(len(binds.operation)), np.maximum(binds.last - binds.first + 1, 0))
    server = ranges(binds.first, binds.last + 1)
    alone = _other_end_gone(piece, binds)
    fits = lifetimes.doubtful[server] | (lifetimes.close_low[server] <= alone[bind])
    fits &= _reserved_for(piece)[server] == piece.ports.caller[binds.operation][bind]
    some = np.bincount(bind[fits], minlength=len(binds.operation)) > 0
    fits |= ~some[bind]  # none fits: an answer is wrong, and it may be the one that excluded it
    return _Pairs(bind[fits], server[fits])


def _reserved_for(piece: Piece) -> Int64:
    """Return, by lifetime, the one domain that may ever bind to the port; FOREIGN if none may.

    When its other end is closed, a port is unbound for the domain that had the other end.
    """
    alloc = piece.lifetimes.alloc
    channels = np.isin(piece.columns.op[alloc], [Op.ALLOC_UNBOUND, Op.BIND_INTERDOMAIN])
    return np.where(channels, piece.ports.peer_domid[alloc], FOREIGN)


def _other_end_gone(piece: Piece, binds: _Binds) -> Int64:
    """Return, by bind, when a STATUS first told that the new port had no other end any more.

    In the other end's clock; NEVER if none did.
    """
    columns, lifetimes = piece.columns, piece.lifetimes
    status = np.flatnonzero((columns.op == Op.STATUS) & (columns.via == Via.RAW))
    status = status[~effect_unknown(columns)[status] & (columns.result[status] >= 0)]
    status = status[(columns.result[status] & 0xFF) == UNBOUND]
    channel = lifetimes.find(piece.ports.local[status])
    status, channel = status[channel != FOREIGN], channel[channel != FOREIGN]
    axis = lifetimes.axis
    allocated = axis.at(lifetimes.channel, columns.ret[lifetimes.alloc])
    lifetime = np.searchsorted(allocated, axis.at(channel, columns.call[status])) - 1
    known = (lifetime >= 0) & (lifetimes.channel[np.maximum(lifetime, 0)] == channel)
    status, lifetime = status[known], lifetime[known]
    inside = lifetimes.close_low[lifetime] > columns.ret[status]
    inside &= ~lifetimes.doubtful[lifetime]
    told = np.full(len(lifetimes.alloc) + 1, NEVER)  # the last one: of a port that is not known
    np.minimum.at(told, lifetime[inside], columns.ret[status[inside]])
    return later(told[binds.client], binds.slack)


def _certain(piece: Piece, binds: _Binds, pairs: _Pairs) -> tuple[Int64, Int64]:
    """Return the binds (indices) whose other end is certain, and the lifetimes of those ends."""
    columns, lifetimes = piece.columns, piece.lifetimes
    count = np.bincount(pairs.bind, minlength=len(binds.operation))
    only = np.full(len(binds.operation), -1)
    only[pairs.bind] = pairs.server
    bind = np.flatnonzero((count == 1) & ~binds.unknown)
    server = only[bind]
    inside = columns.ret[lifetimes.alloc[server]] < binds.call[bind]
    inside &= lifetimes.close_low[server] > binds.ret[bind]
    inside &= ~lifetimes.doubtful[server] & ~lifetimes.doubtful[binds.client[bind]]
    bind, server = bind[inside], server[inside]
    order = np.lexsort((columns.ret[binds.operation[bind]], server))
    return bind[order], server[order]


def _closed_since(piece: Piece, binds: _Binds, uncertain: Bool) -> tuple[Int64, UnknownPeers]:
    """Return the ``uncertain`` binds (indices) whose other end's number was allocated again."""
    lifetimes = piece.lifetimes
    bind = np.flatnonzero(uncertain & (binds.client >= 0) & (binds.channel != FOREIGN))
    bind = bind[~lifetimes.doubtful[binds.client[bind]]]
    again = np.maximum(binds.first, binds.last + 1)[bind]  # the port's first lifetime after it
    there = again < len(lifetimes.alloc)
    there[there] = lifetimes.channel[again[there]] == binds.channel[bind[there]]
    bind, again = bind[there], again[there]
    peers = UnknownPeers(
        client=binds.client[bind],
        closed_high=later(piece.columns.ret[lifetimes.alloc[again]], binds.slack[bind]),
        domid=piece.ports.remote[binds.operation[bind]] >> PORT_BITS,
    )
    return bind, peers


def _unrecorded(piece: Piece) -> Bool:
    """Say which lifetimes may have been bound to by binds that this piece does not hold.

    They are reserved for a domain without an agent, or their connections were not known in the
    past already.
    """
    columns, lifetimes, past = piece.columns, piece.lifetimes, piece.past
    agents = np.array(sorted(piece.scope.recorded_until), np.int64)
    others = ~np.isin(_reserved_for(piece), agents)
    others &= columns.op[lifetimes.alloc] == Op.ALLOC_UNBOUND
    carried = columns.row[lifetimes.alloc] < past.first_row
    carried &= np.isin(lifetimes.keys[lifetimes.channel], past.unknown)
    return np.asarray(others | carried, bool)


def _possible(piece: Piece, binds: _Binds, pairs: _Pairs) -> Int64:
    """Return ``Connections.possible``: for both ends of every bind, what the other may be."""
    made, remote = piece.ports.made[binds.operation], piece.ports.remote[binds.operation]
    own = np.flatnonzero(binds.client >= 0)
    return np.unique(
        np.concatenate(
            [
                pairs.server << PORT_BITS | made[pairs.bind] & PORT_MASK,
                binds.client[own] << PORT_BITS | remote[own] & PORT_MASK,
            ]
        )
    )
