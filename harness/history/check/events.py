"""Events: none lost, none invented, none delivered where it must not be.

Pending is one bit, so sends coalesce: what is claimed is one delivery after the last
send, and for each delivery a send (or bind) of its own.  Claims are made about ports
bound through /dev/xen/evtchn whose connections are known at all times; a delivery is a
RECV, and Linux keeps the port masked from then until ENABLE.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.history.check.lives import Axis, Lives, may_have_happened
from harness.history.check.scope import FOREIGN, PORT_BITS, Past, Ports, Scope
from harness.history.check.timeline import Timeline, begun, grouped, later, ranges
from harness.history.format.columns import NEVER, Bool, Columns, Int64
from harness.history.format.record import Op, Via
from harness.model.flavour import Site

_EXPANDED = 1024  # from this port on the kernel grows FIFO's array: that may raise old events


@dataclass(frozen=True)
class Mail:
    """What device ports' owners did with their events, by life; sorted by life, time."""

    received: Int64  # operations: RECV
    clear: Bool  # by delivery: no port of its domain was opened without our knowing
    received_by: Int64  # life
    enabled: Int64  # operations: ENABLE
    enabled_by: Int64
    unmasking: Int64  # operations: UNMASK
    unmasked: Int64


@dataclass(frozen=True)
class Flow(Mail):
    """Everything that concerns events, by the life of the receiving port; sorted by life, time."""

    axis: Axis
    claimed: Bool  # by life: claims may be made
    until: int  # ns: what returned before has been judged
    part: Int64  # groups whose earlier causes may not be here
    old: Bool  # by life: its port had lives that are not here
    reused: Bool  # by life: its port had device lives before, seen or not
    cause: Int64  # operations that may have set the port pending
    cause_of: Int64
    cause_from: Int64  # by cause: the life of the port it was sent from
    sure: Bool  # by cause: it certainly did
    cause_call: Int64  # in the receiver's clock
    cause_ret: Int64


def mail(columns: Columns, ports: Ports, lives: Lives) -> Mail:
    """Collect deliveries, enables and unmasks: no bounds of any change are needed for that."""
    received, by = _about(columns, ports, lives, np.flatnonzero(columns.op == Op.RECV))
    unmasks = np.flatnonzero(columns.op == Op.UNMASK)
    enables = np.flatnonzero(columns.op == Op.ENABLE)
    return Mail(
        received,
        np.isin(received, _told(columns, ports, received)),
        by,
        *_about(columns, ports, lives, enables, anyhow=True),
        *_about(columns, ports, lives, unmasks, anyhow=True),
    )


def flow(
    columns: Columns, ports: Ports, scope: Scope, made: Timeline, past: Past, got: Mail
) -> Flow:
    """Collect the causes of all device ports' deliveries."""
    lives = made.lives
    number = len(lives.born)
    axis = Axis(lives.axis.low + 1, lives.axis.low + lives.axis.span, number + 1)
    claimed = _claimed(columns, ports, made)
    # The events of a life that had ended before this piece are not all here.
    claimed &= (columns.row[lives.born] >= past.since) | (lives.end_low > past.working)
    cause, cause_of, cause_from, sure, bounds = _causes(columns, ports, scope, made)
    slack = scope.slack(ports.caller[cause], lives.keys[lives.group[cause_of]] >> PORT_BITS)
    # A send reaches this port only while the two are connected.
    call = np.maximum(columns.call[cause], bounds[0]) - slack
    ret = later(np.minimum(columns.ret[cause], bounds[1]), slack)
    order = np.lexsort((call, cause_of))
    return Flow(
        **vars(got),
        axis=axis,
        claimed=claimed,
        part=np.unique(lives.group[columns.row[lives.born] < past.since]),
        old=np.isin(lives.keys[lives.group], past.keys),
        reused=(_earlier(made, columns.via[lives.born] == Via.DEVICE) > 0)
        | np.isin(lives.keys[lives.group], past.keys),
        cause=cause[order],
        cause_of=cause_of[order],
        cause_from=cause_from[order],
        sure=sure[order],
        until=past.until,
        cause_call=call[order],
        cause_ret=ret[order],
    )


def _about(
    columns: Columns, ports: Ports, lives: Lives, operation: Int64, *, anyhow: bool = False
) -> tuple[Int64, Int64]:
    """Return returned operations with the life they are about: the last begun by their return.

    ``anyhow``: with all that they may have been about, from the last begun by their call on;
    and those that did not return, too.
    """
    if not anyhow:
        operation = operation[columns.ret[operation] != NEVER]
    group = lives.find(ports.local[operation])
    operation, group = operation[group != FOREIGN], group[group != FOREIGN]
    order = grouped(group)
    operation, group = operation[order], group[order]
    begins = np.maximum.accumulate(lives.axis.at(lives.group, begun(columns, lives)))
    ret = lives.axis.at(group, columns.ret[operation])
    life = np.searchsorted(begins, ret, side="right") - 1
    if anyhow:
        call = lives.axis.at(group, columns.call[operation])
        first = np.searchsorted(begins, call, side="right") - 1
        first = np.minimum(np.maximum(first, lives.start[group]), life)
        count = life - first + 1
        operation, group = np.repeat(operation, count), np.repeat(group, count)
        life = ranges(first, life + 1)
    known = (life >= 0) & (lives.group[np.maximum(life, 0)] == group)
    operation, life = operation[known], life[known]
    order = np.lexsort((columns.ret[operation], life))
    return operation[order], life[order]


def _claimed(columns: Columns, ports: Ports, made: Timeline) -> Bool:
    """Say for which lives all connections, and those of all peers, are known."""
    lives = made.lives
    good: Bool = made.linked & ~lives.doubtful & (columns.via[lives.born] == Via.DEVICE)
    good &= np.isin(columns.op[lives.born], [Op.ALLOC_UNBOUND, Op.BIND_INTERDOMAIN])
    good &= (lives.keys[lives.group] & 0xFFFFFFFF) < _EXPANDED
    linked = np.flatnonzero(made.peer >= 0)
    vague = ~made.linked[made.peer[linked]]
    good[made.life[linked[vague]]] = False
    given_up = np.unique(made.life[(made.low == lives.axis.low) & (made.high == NEVER)])
    good[given_up] = False
    return np.asarray(good, bool)


def _causes(
    columns: Columns, ports: Ports, scope: Scope, made: Timeline
) -> tuple[Int64, Int64, Int64, Bool, tuple[Int64, Int64]]:
    """Return operations that may have set a port pending, whose, from where, whether surely.

    And, in the sender's clock, not before and not after when.
    """
    unknown = may_have_happened(columns)
    sends = np.flatnonzero((columns.op == Op.SEND) & (unknown | (columns.result == 0)))
    group = made.lives.find(ports.local[sends])
    sends, group = sends[group != FOREIGN], group[group != FOREIGN]
    order = grouped(group)
    sends, group = sends[order], group[order]
    call, ret = columns.call[sends], columns.ret[sends]
    first, last = made.positions(group, call, ret)
    count = last - first + 1
    which = np.repeat(np.arange(len(sends)), count)
    position = ranges(first, last + 1)
    before = np.maximum(position - 1, 0)
    inside = (position > 0) & (made.group[before] == group[which]) if len(before) else position > 0
    target = np.where(inside, made.peer[before], -1) if len(before) else position
    reached = target >= 0
    which, target, before = which[reached], target[reached], before[reached]
    sure = (count == 1) & ~unknown[sends]
    if scope.may_drop(Site.SEND):
        sure &= ~busy(made, group, call, ret)
    binds = np.flatnonzero(made.peer >= 0)
    binds = binds[made.operation[binds] == made.lives.born[made.life[binds]]]
    following = np.minimum(before + 1, max(len(made.group) - 1, 0))
    ends = (following > before) & (made.group[following] == made.group[before])
    until = np.where(ends, made.high[following], NEVER)
    zero = np.zeros(len(binds), np.int64)
    return (
        np.concatenate([sends[which], made.operation[binds]]),
        np.concatenate([target, made.life[binds]]),
        np.concatenate([made.life[before], made.peer[binds]]),
        np.concatenate([sure[which], np.ones(len(binds), bool)]),
        (
            np.concatenate([made.low[before], zero + made.lives.axis.low]),
            np.concatenate([until, zero + NEVER]),
        ),
    )


def busy(made: Timeline, group: Int64, call: Int64, ret: Int64) -> Bool:
    """Say whether a writer of the channel may have been inside its lock during [call, ret]."""
    axis = made.lives.axis
    begin = np.minimum.accumulate(axis.at(made.group, made.begin)[::-1])[::-1]
    over = np.maximum.accumulate(axis.at(made.group, made.over))
    begun = np.searchsorted(begin, axis.at(group, ret), side="right")
    return np.asarray(begun > np.searchsorted(over, axis.at(group, call)), dtype=bool)


def stray(columns: Columns, ports: Ports, got: Mail, past: Past) -> Int64:
    """Return deliveries on a port that no agent of the domain had opened by then."""
    received = np.flatnonzero(columns.op == Op.RECV)
    received = received[
        (columns.ret[received] != NEVER) & ~np.isin(ports.local[received], past.keys)
    ]
    return _told(columns, ports, np.setdiff1d(received, got.received))


def _told(columns: Columns, ports: Ports, received: Int64) -> Int64:
    """Return those of ``received`` that came before any port was opened without our knowing.

    An allocation in flight may have opened any port of its domain.
    """
    opening = may_have_happened(columns) & np.isin(
        columns.op, [Op.ALLOC_UNBOUND, Op.BIND_INTERDOMAIN, Op.BIND_VIRQ]
    )
    keep = np.ones(len(received), bool)
    for domid in np.unique(ports.caller[opening]).tolist():
        since = columns.call[opening & (ports.caller == domid)].min()
        keep &= (ports.caller[received] != domid) | (columns.ret[received] < since)
    return received[keep]


def invented(columns: Columns, made: Timeline, all_: Flow) -> tuple[Int64, Int64]:
    """Return the deliveries without a cause of their own, and those while the port was masked."""
    received, by = _judged(columns, made, all_)
    ret = columns.ret[received]
    again = np.append(False, by[1:] == by[:-1])[: len(by)]
    previous = np.where(again, np.append(0, ret[:-1])[: len(ret)], all_.axis.low)
    fresh = ret >= all_.until
    masked = (
        fresh
        & again
        & ~_between(
            all_.axis,
            all_.enabled_by,
            columns.call[all_.enabled],
            columns.ret[all_.enabled],
            by,
            previous,
            ret,
        )
    )
    caused = _between(all_.axis, all_.cause_of, all_.cause_call, all_.cause_ret, by, previous, ret)
    wrong = [
        index
        for index in np.flatnonzero(fresh & ~caused & ~masked)
        if _uncaused(columns, all_, received, by, int(index))
    ]
    return received[np.array(wrong, np.int64)], received[masked]


def _judged(columns: Columns, made: Timeline, all_: Flow) -> tuple[Int64, Int64]:
    """Deliveries that are matched with causes one by one.

    Linux's queue can still hold an event of an earlier life of the same number, whose
    ENABLE then frees the new one before its time; a raw UNMASK does the same.  Then
    deliveries and ENABLEs do not pair up, and nothing is claimed.
    """
    fresh = all_.claimed & ~all_.reused
    fresh[all_.unmasked] = False
    keep = fresh[all_.received_by] & all_.clear
    return all_.received[keep], all_.received_by[keep]


def _earlier(made: Timeline, which: Bool) -> Int64:
    """Return, by life, how many of the lives ``which`` its port had before."""
    total: Int64 = np.cumsum(which, dtype=np.int64) - which
    start = made.lives.start[made.lives.group]
    return total - total[start] if len(total) else total


def never_sent(columns: Columns, ports: Ports, scope: Scope, past: Past) -> Int64:
    """Return deliveries on a port to which nobody can have sent anything by then.

    That needs no lives: only ports are looked at that the device allocated and nobody else
    made, whoever had connected to one of that number, whenever.
    """
    if past.since:  # who connected before is not here any more
        return np.zeros(0, np.int64)
    made = ports.made != FOREIGN
    given = made & (columns.op == Op.ALLOC_UNBOUND) & (columns.via == Via.DEVICE)
    binds = columns.op == Op.BIND_INTERDOMAIN
    ours = np.setdiff1d(ports.made[given], ports.made[made & ~given & (columns.via == Via.DEVICE)])
    # A bind that did not return has made a port that is not known: it may be any.
    ours = np.setdiff1d(ours, ports.remote[binds & may_have_happened(columns)])
    received = np.flatnonzero((columns.op == Op.RECV) & (columns.ret != NEVER))
    received = received[np.isin(ports.local[received], ours)]
    received = received[(ports.local[received] & 0xFFFFFFFF) < _EXPANDED]
    links = np.flatnonzero(binds & made & np.isin(ports.remote, ports.local[received]))
    pairs = np.unique(np.stack([ports.remote[links], ports.made[links]]), axis=1)
    sends = np.flatnonzero((columns.op == Op.SEND) & np.isin(ports.local, pairs[1]))
    senders, of = np.unique(ports.local[sends], return_inverse=True)
    first = np.full(len(senders) + 1, NEVER)
    np.minimum.at(first, of, columns.call[sends])
    index = np.searchsorted(senders, pairs[1])
    index[~np.isin(pairs[1], senders)] = len(senders)
    slack = scope.slack(pairs[1] >> PORT_BITS, pairs[0] >> PORT_BITS)
    targets, to = np.unique(ports.local[received], return_inverse=True)
    earliest = np.full(len(targets), NEVER)
    mine = np.searchsorted(targets, pairs[0])
    np.minimum.at(earliest, mine, first[index] - slack)
    return np.asarray(received[columns.ret[received] < earliest[to]], np.int64)


def outnumbered(columns: Columns, made: Timeline, all_: Flow) -> Int64:
    """Return deliveries on a port that had, over all its lives, fewer causes so far."""
    lives = made.lives
    unclaimed = ~all_.claimed & (columns.via[lives.born] == Via.DEVICE)
    good = (_earlier(made, unclaimed) == 0) & all_.claimed & ~np.isin(lives.group, all_.part)
    good &= ~all_.old
    keep = good[all_.received_by] & all_.clear
    received, group = all_.received[keep], lives.group[all_.received_by[keep]]
    order = np.argsort(lives.axis.at(group, columns.ret[received]), kind="stable")
    received, group = received[order], group[order]
    rank = np.arange(len(group)) - np.searchsorted(group, group) + 1
    of = lives.group[all_.cause_of]
    called = np.sort(lives.axis.at(of, all_.cause_call))
    upto = np.searchsorted(called, lives.axis.at(group, columns.ret[received]), side="right")
    causes = upto - np.searchsorted(called, lives.axis.at(group, np.full(len(group), -NEVER)))
    return np.asarray(received[causes < rank], np.int64)


def _between(
    axis: Axis, of: Int64, call: Int64, ret: Int64, life: Int64, after: Int64, until: Int64
) -> Bool:
    """Say for each ``life`` whether something of it, [call, ret], touches [after, until]."""
    order = np.lexsort((call, of))
    of, call, ret = of[order], call[order], ret[order]
    latest = np.maximum.accumulate(axis.at(of, ret))
    index = np.searchsorted(axis.at(of, call), axis.at(life, until), side="right") - 1
    some = index >= 0
    index = np.maximum(index, 0)
    if not len(of):
        return some
    return np.asarray(some & (of[index] == life) & (latest[index] >= axis.at(life, after)), bool)


_BACK = 64  # deliveries before a doubtful one that are looked at


def _uncaused(columns: Columns, all_: Flow, received: Int64, by: Int64, index: int) -> bool:
    """Match deliveries with causes of their own, and say whether ``index`` gets none.

    Delivery i clears the pending bit before RECV i returned and after the ENABLE that
    followed RECV i-1 was called.  A cause can serve it if it was called before RECV i
    returned and not over before delivery i-1 could be.  Each cause so serves a run of
    consecutive deliveries, and taking the one that is over first gives the best matching.
    """
    life = by[index]
    start = int(np.searchsorted(by, life))
    # Deliveries judged before may have had causes that are not here any more.
    judged = int(np.searchsorted(columns.ret[received[start : index + 1]], all_.until))
    begin = max(start + judged, index - _BACK)
    causes = slice(*np.searchsorted(all_.cause_of, [life, life + 1]))
    enables = slice(*np.searchsorted(all_.enabled_by, [life, life + 1]))
    enabled = all_.enabled[enables]
    enabled = enabled[np.argsort(columns.call[enabled], kind="stable")]
    enable = columns.call[enabled], np.maximum.accumulate(columns.ret[enabled])
    seen, ret = columns.call[received[start : index + 1]], columns.ret[received[start : index + 1]]
    call, over = all_.cause_call[causes], all_.cause_ret[causes]
    cleared = _cleared(enable, seen, begin - start - 1, all_.axis.low)
    live = (over >= cleared) & (call <= ret[-1])
    left = sorted(zip(over[live].tolist(), call[live].tolist(), strict=True))
    for number in range(begin - start, len(ret)):
        cleared = _cleared(enable, seen, number - 1, all_.axis.low)
        until = int(ret[number])
        taken = next((c for c in left if c[0] >= cleared and c[1] <= until), None)
        if taken is None:
            return number == len(ret) - 1
        left.remove(taken)
    return False


def _cleared(enable: tuple[Int64, Int64], seen: Int64, number: int, never: int) -> int:
    """Return the earliest instant of delivery ``number``: when it was enabled for it.

    That is the first ENABLE (calls, latest returns so far) that may have followed RECV
    ``number`` - 1, called at ``seen``: with times widened by the clocks' error, the ENABLE of a
    RECV can seem to have been called before the RECV returned.
    """
    if number < 1:
        return never
    call, over = enable
    index = int(np.searchsorted(over, seen[number - 1]))
    return int(call[index]) if index < len(call) else never


def lost(columns: Columns, ports: Ports, scope: Scope, made: Timeline, all_: Flow) -> Int64:
    """Return sends (and binds) that set a port pending for good, and nobody ever received.

    Only at the end of a run is it certain that somebody read: when every load thread had
    stopped, readers went on until nothing came for ``scope.drained`` ns, and then ports
    were closed.  What was sent to those ports after their last delivery is lost.
    """
    if not scope.drained:
        return np.zeros(0, np.int64)
    lives = made.lives
    last = np.full(len(lives.born), all_.axis.low)
    np.maximum.at(last, all_.received_by, columns.ret[all_.received])
    ready = _ready(columns, ports, scope, made, all_, last)
    margin = 2 * max(scope.error.values())
    final = (lives.end >= 0) & (lives.end_low > working(columns) + margin)
    of = all_.cause_of
    since = np.maximum(all_.cause_ret, ready[of])
    silent = all_.sure & all_.claimed[of] & final[of] & (all_.cause_call > last[of])
    silent &= since != NEVER
    silent[silent] &= lives.end_low[of[silent]] - since[silent] > _PATIENCE * scope.drained
    index = np.flatnonzero(silent)
    _, first = np.unique(of[index], return_index=True)
    return all_.cause[index[first]]


def working(columns: Columns) -> int:
    """Return when the last operation that is no close was called: ns."""
    return int(columns.call[columns.op != Op.CLOSE].max(initial=-NEVER))


_PATIENCE = 0.8  # of the silence; clocks and the reader's own time take the rest


def _ready(
    columns: Columns, ports: Ports, scope: Scope, made: Timeline, all_: Flow, last: Int64
) -> Int64:
    """Return, by life, from when on it was surely not masked any more; NEVER if not known."""
    operation, by = all_.enabled, all_.enabled_by
    sure = columns.call[operation] >= last[by]
    if scope.may_drop(Site.UNMASK):
        group = made.lives.group[by]
        sure &= ~busy(made, group, columns.call[operation], columns.ret[operation])
    ready = np.where(last == all_.axis.low, columns.ret[made.lives.born], NEVER)
    np.minimum.at(ready, by[sure], columns.ret[operation[sure]])
    return ready
