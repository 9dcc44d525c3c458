"""The states of every agent-owned port, one after the other, and when each change happened.

A port's *chain* is the sequence of changes: born, bound by the other end, other end closed,
..., closed; then the next life.  The instant of each change is known to lie between a
lower and an upper bound, and changes of one chain happen in the chain's order.  One
operation can be a change on two ports (a bind, the close of a connected port): bounds
are exchanged through it.  A change whose bounds cross cannot have happened: a violation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from harness.history.check.lives import Lives, lives, may_have_happened
from harness.history.check.scope import FOREIGN, NO_PAST, PORT_BITS, Past, Ports, Scope
from harness.history.format.columns import NEVER, Bool, Columns, Int64
from harness.history.format.history import DOMID_SELF
from harness.history.format.record import Op, Via

# A state is stat << 48 | domid << 32 | detail, with EVTCHNSTAT's numbers for stat, and
# what EVTCHNOP_status would tell.  Two of ours:
ANYTHING = 0  # no agent's port: free, or the kernel's, or we cannot know
OWNED = 7  # unbound for, or connected to, the domain told: we cannot know which
UNBOUND, INTERDOMAIN, VIRQ, IPI = 1, 2, 4, 5
_STAT_SHIFT = 48
_CLOSED_SLOT = 1 << 30


def stat(state: Int64) -> Int64:
    """Return EVTCHNSTAT of ``state`` (0: anything, 7: owned)."""
    return state >> _STAT_SHIFT


def encode(number: int, domid: Int64 | int, detail: Int64 | int) -> Int64:
    """Return the state with EVTCHNSTAT ``number``."""
    return np.asarray((number << _STAT_SHIFT) | (domid << PORT_BITS) | detail, np.int64)


@dataclass
class Timeline:
    """All changes of all agent-owned ports, sorted by port and by their order."""

    lives: Lives
    life: Int64  # by change: whose
    group: Int64
    low: Int64  # bounds of the instant of the change, in the clock of the port's domain
    high: Int64
    operation: Int64  # that made the change; -1: one of several, bounds are not exchanged
    slack: Int64  # between the operation's clock and the port's
    after: Int64  # the state that the change leads to
    peer: Int64  # the life at the other end if that state is INTERDOMAIN and known, else -1
    begin: Int64  # the whole call of the writer that made the change, in the port's clock
    over: Int64
    linked: Bool  # by life: how it is connected is known at all times
    remotes: Int64  # life << 32 | port, ascending: what a life that is not may be connected to
    anywhere: Bool  # by life: to any port, for all we know

    def spread(self, columns: Columns) -> None:
        """Tighten the bounds: along each chain, and between chains through operations."""
        low, high = columns.call.copy(), columns.ret.copy()
        shared = np.flatnonzero(self.operation >= 0)
        operation, slack = self.operation[shared], self.slack[shared]
        for _ in range(_ROUNDS):
            before = int(self.low.sum()), int((self.high % NEVER).sum())
            self.along()
            np.maximum.at(low, operation, self.low[shared] - slack)
            np.minimum.at(high, operation, later(self.high[shared], slack))
            self.low[shared] = np.maximum(self.low[shared], low[operation] - slack)
            self.high[shared] = np.minimum(self.high[shared], later(high[operation], slack))
            if before == (int(self.low.sum()), int((self.high % NEVER).sum())):
                break
        self.along()

    def along(self) -> None:
        """Tighten the bounds along each chain."""
        axis = self.lives.axis
        rising = np.maximum.accumulate(axis.at(self.group, self.low))
        falling = np.minimum.accumulate(axis.at(self.group, self.high)[::-1])[::-1]
        self.low = np.maximum(self.low, axis.time(self.group, rising))
        self.high = np.minimum(self.high, axis.time(self.group, falling))

    def impossible(self) -> Int64:
        """Return the changes that cannot have happened, the first of each port only."""
        crossed = np.flatnonzero(self.low > self.high)
        _, first = np.unique(self.group[crossed], return_index=True)
        return crossed[first]

    def give_up(self, groups: Int64) -> None:
        """Claim nothing more about the ports ``groups``: a violation was found on them."""
        lost = np.isin(self.group, groups)
        self.after[lost] = ANYTHING
        self.operation[lost] = -1
        self.low[lost] = self.lives.axis.low
        self.high[lost] = NEVER

    def positions(self, group: Int64, call: Int64, ret: Int64) -> tuple[Int64, Int64]:
        """Return the first and last position at which something in [call, ret] may lie.

        Position p is after change p-1 and before change p.
        """
        axis = self.lives.axis
        order = grouped(group)
        group = group[order]
        first, last = np.empty_like(group), np.empty_like(group)
        first[order] = np.searchsorted(axis.at(self.group, self.high), axis.at(group, call[order]))
        last[order] = np.searchsorted(
            axis.at(self.group, self.low), axis.at(group, ret[order]), side="right"
        )
        return first, np.maximum(first, last)

    def state(self, group: Int64, position: Int64) -> Int64:
        """Return the state at ``position`` of the chain of ``group``."""
        if not len(self.group):
            return np.zeros(len(position), np.int64)
        inside = (position > 0) & (self.group[position - 1] == group)
        return np.where(inside, self.after[position - 1], ANYTHING)


def grouped(group: Int64) -> Int64:
    """Return an order that puts members of a group together, each group's in their own order.

    What is looked up in it lies close together in memory, which is some times as fast.
    """
    few = group.size and int(group.min()) >= -(1 << 15) and int(group.max()) < 1 << 15
    return np.argsort(group.astype(np.int16) if few else group, kind="stable")


_ROUNDS = 8  # bounds travel one link per round; more only make the checker stricter


def later(time: Int64, by: Int64) -> Int64:
    """Return ``time + by``; NEVER stays NEVER."""
    return np.where(time == NEVER, NEVER, time + np.where(time == NEVER, 0, by))


@dataclass(frozen=True)
class _Links:
    """Connections that are certain, sorted by server and time."""

    server: Int64  # life whose port was unbound
    client: Int64  # life of the port that the bind made
    bind: Int64  # operation
    slack: Int64  # between the two domains' clocks


@dataclass(frozen=True)
class _Strangers:
    """Ports bound to one of which it is not known which it was, whose number was given anew."""

    life: Int64  # of the port that the bind made
    gone: Int64  # when the other end was closed at the latest, in the port's clock
    domid: Int64  # the other end's


@dataclass(frozen=True)
class _Changes:
    """Changes of one sort, as parallel arrays."""

    life: Int64
    slot: Int64  # order within the life; even
    low: Int64
    high: Int64
    operation: Int64
    slack: Int64
    after: Int64
    peer: Int64
    begin: Int64
    over: Int64


def timeline(columns: Columns, ports: Ports, scope: Scope, past: Past = NO_PAST) -> Timeline:
    """Return the chains of all agent-owned ports: bounds tightened along each, nothing judged."""
    born = lives(columns, ports, scope)
    following = _following(columns, born)
    over = _over(columns, born, following)
    links, strangers, since, remotes, anywhere = _connect(columns, ports, scope, born, following)
    old = columns.row[born.born] < past.since
    earlier = old & np.isin(born.keys[born.group], past.vague)
    since[earlier] = born.axis.low
    linked = ~born.doubtful & (since == NEVER)
    linked[strangers.life] = False
    anywhere |= earlier
    parts = (
        _births(columns, ports, born, links, linked),
        _deaths(born, over),
        *_connections(columns, ports, born, links, over),
        _deserted(columns, born, strangers, over),
    )
    merged = _doubted(_merged(*parts), since)
    made = Timeline(
        lives=born,
        life=merged.life,
        group=born.group[merged.life],
        low=merged.low,
        high=merged.high,
        operation=merged.operation,
        slack=merged.slack,
        after=merged.after,
        peer=merged.peer,
        begin=merged.begin,
        over=merged.over,
        linked=linked,
        remotes=remotes,
        anywhere=anywhere,
    )
    made.along()
    return made


_FIELDS = tuple(_Changes.__dataclass_fields__)


def _merged(*parts: _Changes) -> _Changes:
    """Return all changes of ``parts``, sorted by life and slot."""
    merged = _Changes(*(np.concatenate([getattr(p, f) for p in parts]) for f in _FIELDS))
    order = np.lexsort((merged.slot, merged.life))
    return _Changes(*(getattr(merged, f)[order] for f in _FIELDS))


def _doubted(changes: _Changes, since: Int64) -> _Changes:
    """Say less about lives (all their known ``changes``, sorted) that somebody may have bound to.

    ``since`` says by life from when on; NEVER: nobody.  What is unbound before stays
    so until then, or until its next known change.
    """
    doubt = since[changes.life]
    vague = np.flatnonzero((doubt != NEVER) & (stat(changes.after) == UNBOUND))
    doubt = doubt[vague]
    following = np.minimum(vague + 1, len(changes.life) - 1)
    same = (following > vague) & (changes.life[following] == changes.life[vague])
    over_by_then = same & (changes.high[following] < doubt)
    until_then = same & (changes.high[vague] < doubt) & (changes.low[following] >= doubt)
    owned = encode(OWNED, (changes.after[vague] >> PORT_BITS) & 0xFFFF, 0)
    after = changes.after.copy()
    after[vague] = np.where(over_by_then | until_then, after[vague], owned)
    begins = vague[until_then]  # a change that stands for all that may come
    when, zero = doubt[until_then], np.zeros(len(begins), np.int64)
    begun = _Changes(
        changes.life[begins],
        changes.slot[begins] + 1,
        when,
        zero + NEVER,
        zero - 1,
        zero,
        owned[until_then],
        zero - 1,
        when,
        when,
    )
    return _merged(replace(changes, after=after), begun)


def _births(columns: Columns, ports: Ports, born: Lives, links: _Links, linked: Bool) -> _Changes:
    life = np.arange(len(born.born))
    zero = np.zeros(len(life), np.int64)
    state = birth_state(columns, ports, born.born)
    known = linked | (stat(state) != INTERDOMAIN)
    known[links.client] = True  # its end is in the chain
    state = np.where(known, state, encode(OWNED, (state >> PORT_BITS) & 0xFFFF, 0))
    state = np.where(born.doubtful, ANYTHING, state)
    operation = np.where(born.doubtful, -1, born.born)
    call, ret = columns.call[born.born], columns.ret[born.born]
    peer = np.full(len(life), -1)
    peer[links.client] = links.server
    return _Changes(life, zero, call, ret, operation, zero, state, peer, call, ret)


def birth_state(columns: Columns, ports: Ports, operation: Int64) -> Int64:
    """Return the states in which the allocations ``operation`` leave their new ports."""
    op = columns.op[operation]
    states = [
        encode(UNBOUND, _named(columns, ports, operation), 0),
        encode(INTERDOMAIN, 0, ports.remote[operation]),
        encode(VIRQ, 0, columns.port[operation].astype(np.int64)),
        encode(IPI, 0, np.zeros(len(operation), np.int64)),
    ]
    kinds = (Op.ALLOC_UNBOUND, Op.BIND_INTERDOMAIN, Op.BIND_VIRQ, Op.BIND_IPI)
    return np.select([op == kind for kind in kinds], states, ANYTHING)


def _deaths(born: Lives, over: Int64) -> _Changes:
    life = np.flatnonzero(~born.doubtful)
    low, high = born.end_low[life], born.end_high[life]
    operation = np.where(high == NEVER, -1, born.end[life])
    zero = np.zeros(len(life), np.int64)
    return _Changes(
        life,
        zero + _CLOSED_SLOT,
        low,
        high,
        operation,
        zero,
        zero + ANYTHING,
        zero - 1,
        low,
        over[life],
    )


def _over(columns: Columns, born: Lives, following: Int64) -> Int64:
    """Return by life when its close was surely over; NEVER if it is not known which it was.

    Whoever was given the port next came to its lock after the close had left it.
    """
    closed = np.where(born.end >= 0, columns.ret[born.end], NEVER)
    return np.minimum(closed, following)


def _following(columns: Columns, born: Lives) -> Int64:
    """Return by life when the next one on its port was there; NEVER for the last."""
    count = len(born.born)
    following = np.append(columns.ret[born.born[1:]], NEVER)[:count]
    same = np.append(np.diff(born.group), 1)[:count] == 0
    return np.where(same, following, NEVER)


def _connect(
    columns: Columns, ports: Ports, scope: Scope, born: Lives, following: Int64
) -> tuple[_Links, _Strangers, Int64, Int64, Bool]:
    """Find the life that each bind connected to.

    Then come the ports of which that is not known, but when it was over; by life from when on
    its connections are not known (NEVER: they always are), ``Timeline.remotes`` and
    ``Timeline.anywhere``.
    """
    binding = np.flatnonzero(columns.op == Op.BIND_INTERDOMAIN)
    unknown = may_have_happened(columns)[binding]
    client_of = np.full(len(columns), -1)
    client_of[born.born] = np.arange(len(born.born))
    wanted = unknown | (client_of[binding] >= 0)
    binding, unknown = binding[wanted], unknown[wanted]
    client = client_of[binding]
    slack = scope.slack(ports.caller[binding], ports.remote[binding] >> PORT_BITS)
    low, high = columns.call[binding] - slack, later(columns.ret[binding], slack)
    group = born.find(ports.remote[binding])
    first, last = _candidates(columns, born, following, group, low, high)
    pair = np.repeat(np.arange(len(binding)), np.maximum(last - first + 1, 0))
    other = ranges(first, last + 1)
    left = _unbound_before(columns, ports, born, client, slack)
    kept = born.doubtful[other] | (born.end_low[other] <= left[pair])
    reserved = _reserved(columns, ports, born.born)
    kept &= reserved[other] == ports.caller[binding][pair]
    some = np.bincount(pair[kept], minlength=len(binding)) > 0
    kept |= ~some[pair]  # none is left: an answer is wrong, and it may be that one
    pair, other = pair[kept], other[kept]
    count = np.bincount(pair, minlength=len(binding))
    only = np.full(len(binding), -1)
    only[pair] = other
    sure = np.flatnonzero((count == 1) & ~unknown)
    server, theirs = only[sure], client[sure]
    inside = (columns.ret[born.born[server]] < low[sure]) & (born.end_low[server] > high[sure])
    sure = sure[inside & ~born.doubtful[server] & ~born.doubtful[theirs]]
    loose = np.ones(len(binding), bool)
    loose[sure] = False
    since = np.full(len(born.born), NEVER)
    np.minimum.at(since, other[loose[pair]], low[pair[loose[pair]]])
    loose &= client >= 0
    strange = np.flatnonzero(loose & (group != FOREIGN))
    strange = strange[~born.doubtful[client[strange]]]
    again = np.maximum(first, last + 1)[strange]  # the number's first life after the bind
    there = again < len(born.born)
    there[there] = born.group[again[there]] == group[strange[there]]
    strange, again = strange[there], again[there]
    strangers = _Strangers(
        client[strange],
        later(columns.ret[born.born[again]], slack[strange]),
        ports.remote[binding[strange]] >> PORT_BITS,
    )
    loose[strange] = False
    since[client[loose]] = born.axis.low
    # A port reserved for a domain without an agent: nobody records who binds to it.
    agents = np.array(sorted(scope.end), np.int64)
    for_others = (columns.op[born.born] == Op.ALLOC_UNBOUND) & ~np.isin(reserved, agents)
    since[for_others] = born.axis.low
    sure = sure[np.lexsort((columns.ret[binding[sure]], only[sure]))]
    links = _Links(only[sure], client[sure], binding[sure], slack[sure])
    bound = binding[pair]
    anywhere = for_others
    anywhere[other[unknown[pair]]] = True  # nobody was told the number
    own = np.flatnonzero(client >= 0)
    remotes = np.concatenate(
        [
            other << PORT_BITS | ports.made[bound] & _PORT,
            client[own] << PORT_BITS | ports.remote[binding[own]] & _PORT,
        ]
    )
    return links, strangers, since, np.unique(remotes), anywhere


def _reserved(columns: Columns, ports: Ports, births: Int64) -> Int64:
    """Return by allocation the one domain that may ever bind to the port; FOREIGN if none may.

    When its other end is closed, a port is unbound for the domain that had the other end.
    """
    open_ = np.isin(columns.op[births], [Op.ALLOC_UNBOUND, Op.BIND_INTERDOMAIN])
    return np.where(open_, _named(columns, ports, births), FOREIGN)


def _named(columns: Columns, ports: Ports, operation: Int64) -> Int64:
    """Return the domain that each ``operation`` names as the other one."""
    arg = columns.arg[operation].astype(np.int64)
    return np.where(arg == DOMID_SELF, ports.caller[operation], arg)


def _unbound_before(
    columns: Columns, ports: Ports, born: Lives, client: Int64, slack: Int64
) -> Int64:
    """Return by bind when STATUS had told, at the earliest, that its port ``client`` had no
    other end any more, in the other end's clock; NEVER if it never did.

    Whatever lived on after that is not what the port was bound to.
    """
    told = np.flatnonzero((columns.op == Op.STATUS) & (columns.via == Via.RAW))
    told = told[~may_have_happened(columns)[told] & ((columns.result[told] & 0xFF) == UNBOUND)]
    told = told[columns.result[told] >= 0]
    group = born.find(ports.local[told])
    told, group = told[group != FOREIGN], group[group != FOREIGN]
    axis = born.axis
    there = axis.at(born.group, columns.ret[born.born])
    life = np.searchsorted(there, axis.at(group, columns.call[told])) - 1
    known = (life >= 0) & (born.group[np.maximum(life, 0)] == group)
    told, life = told[known], life[known]
    inside = ~born.doubtful[life] & (born.end_low[life] > columns.ret[told])
    left = np.full(len(born.born) + 1, NEVER)  # the last one: of no port
    np.minimum.at(left, life[inside], columns.ret[told[inside]])
    return later(left[client], slack)


_PORT = (1 << PORT_BITS) - 1


def _candidates(
    columns: Columns, born: Lives, following: Int64, group: Int64, low: Int64, high: Int64
) -> tuple[Int64, Int64]:
    """Return the first and last life of ``group`` that [low, high] can touch, if any."""
    axis = born.axis
    ended = np.where(born.doubtful, NEVER, born.end_high)
    ended = axis.at(born.group, np.minimum(ended, following))
    begins = np.maximum.accumulate(axis.at(born.group, begun(columns, born)))
    first = np.searchsorted(ended, axis.at(group, low))
    last = np.searchsorted(begins, axis.at(group, high), side="right") - 1
    return np.where(group == FOREIGN, 0, first), np.where(group == FOREIGN, -1, last)


def begun(columns: Columns, born: Lives) -> Int64:
    """Return when each life began at the earliest: not before the one before it ended."""
    before = np.append(0, born.end_low[:-1])[: len(born.born)]
    sure = np.append(True, born.doubtful[:-1])[: len(born.born)] | born.doubtful
    sure = ~sure & (np.append(0, np.diff(born.group))[: len(born.born)] == 0)
    call = columns.call[born.born]
    return np.where(sure & (before != NEVER), np.maximum(call, before), call)


def ranges(begin: Int64, end: Int64) -> Int64:
    """Return the numbers of all [b, e), one after the other."""
    length = np.maximum(end - begin, 0)
    offset = np.cumsum(length) - length
    return np.asarray(np.arange(int(length.sum())) + np.repeat(begin - offset, length), np.int64)


def _connections(
    columns: Columns, ports: Ports, born: Lives, links: _Links, over: Int64
) -> tuple[_Changes, _Changes, _Changes]:
    """Return what links change: the server when bound, each end when the other is closed."""
    server, client = links.server, links.client
    number = np.arange(len(server))
    turn = number - np.searchsorted(server, server)
    bound = _Changes(
        server,
        4 * turn + 4,
        columns.call[links.bind] - links.slack,
        columns.ret[links.bind] + links.slack,
        links.bind,
        links.slack,
        encode(INTERDOMAIN, 0, ports.made[links.bind]),
        client,
        columns.call[links.bind] - links.slack,
        columns.ret[links.bind] + links.slack,
    )
    serves = np.zeros(len(born.born), bool)
    serves[server] = True
    final = np.append(np.diff(server) != 0, True)[: len(server)]
    left = _released(born, over, server, client, 4 * turn + 6, links.slack, final)
    lost = _released(born, over, client, server, 0 * turn + 2, links.slack, ~serves[client])
    return bound, left, lost


def _deserted(columns: Columns, born: Lives, strangers: _Strangers, closed: Int64) -> _Changes:
    """Return the changes to UNBOUND of ports whose other end, whichever it was, is gone.

    The own close may come first: then the change is the earlier of both.
    """
    life = strangers.life
    low = columns.call[born.born[life]]
    high = np.minimum(strangers.gone, born.end_high[life])
    zero = np.zeros(len(life), np.int64)
    over = np.minimum(strangers.gone, closed[life])
    state = encode(UNBOUND, strangers.domid, 0)
    return _Changes(life, zero + 2, low, high, zero - 1, zero, state, zero - 1, low, over)


def _released(
    born: Lives,
    closed: Int64,
    life: Int64,
    peer: Int64,
    slot: Int64,
    slack: Int64,
    final: Bool,
) -> _Changes:
    """``life`` becomes UNBOUND because ``peer`` is closed.

    After the last link the own close may come first: then the change is the earlier of both,
    and its bounds say nothing about the peer's close.
    """
    low, high = born.end_low[peer] - slack, later(born.end_high[peer], slack)
    begin, over = low, later(closed[peer], slack)
    own = closed[life]
    gone = begin > own  # the own close was over by then: nobody came to this lock any more
    begin, over = np.where(gone, born.end_low[life], begin), np.where(gone, own, over)
    operation = np.where(final | (born.end_high[peer] == NEVER), -1, born.end[peer])
    low = np.where(final, np.minimum(low, born.end_low[life]), low)
    high = np.where(final, np.minimum(high, born.end_high[life]), high)
    domid = born.keys[born.group[peer]] >> PORT_BITS
    state = encode(UNBOUND, domid, 0)
    nobody = np.full(len(life), -1)
    return _Changes(life, slot, low, high, operation, slack, state, nobody, begin, over)


def may_be_connected(made: Timeline, life: Int64, port: Int64) -> Bool:
    """Say which of ``life`` may be connected to ``port`` at some time, for all that is known."""
    if not len(made.remotes):
        return made.anywhere[life]
    key = life << PORT_BITS | port
    index = np.minimum(np.searchsorted(made.remotes, key), len(made.remotes) - 1)
    return np.asarray((made.remotes[index] == key) | made.anywhere[life], bool)


def wrong_binds(columns: Columns, ports: Ports, made: Timeline) -> Int64:
    """Return the binds (operations) that succeeded on a port not unbound for their caller."""
    bound = np.flatnonzero((made.operation >= 0) & (stat(made.after) == INTERDOMAIN))
    bound = bound[made.lives.born[made.life[bound]] != made.operation[bound]]
    before = made.state(made.group[bound], bound)
    caller = ports.caller[made.operation[bound]]
    vague = stat(before) == OWNED  # unbound, perhaps, but for one domain only
    wrong = np.where(vague, (before >> PORT_BITS) & 0xFFFF, before)
    wrong = wrong != np.where(vague, caller, encode(UNBOUND, caller, 0))
    return np.asarray(made.operation[bound[(before != ANYTHING) & wrong]], np.int64)
