# SPDX-License-Identifier: GPL-2.0-or-later
"""Tiny random histories, some legal and some not."""

from __future__ import annotations

import random

import numpy as np

from harness.history.format.history import History, ThreadLog
from harness.history.format.record import RECORD, Op, Via
from harness.model.evtchn.abi import DOMID_SELF

EINVAL = -22
Row = list[int]  # call, ret, port, arg, result, cpu, op, via


def tiny(seed: int) -> History:
    """Return up to nine operations of two or three threads on up to three ports.

    They are first laid out one after the other with answers that a naive idea of event
    channels gives; then intervals are stretched and, in half of all cases, one answer or
    port is changed.
    """
    rng = random.Random(seed)
    domids = rng.choice([[0], [0], [0, 1]])
    threads = [(domid, number) for domid in domids for number in range(rng.choice([2, 3]))]
    rows: dict[tuple[int, int], list[Row]] = {thread: [] for thread in threads}
    state: dict[tuple[int, int], list[int]] = {}  # port: kind, remote domain, detail
    for step in range(rng.randrange(4, 9)):
        thread = rng.choice(threads)
        row = _operation(rng, state, domids, thread[0])
        reach = rng.choice([3, 15, 40])
        middle = 1_000 + 20 * step
        last = rows[thread][-1][1] if rows[thread] else 0
        row[0] = max(middle - rng.randrange(1, reach), last + 1)
        row[1] = max(middle, row[0]) + rng.randrange(1, reach)
        rows[thread].append(row)
    if rng.random() < 0.5:
        _change(rng, [row for mine in rows.values() for row in mine])
    if rng.random() < 0.15:
        mine = rng.choice([mine for mine in rows.values() if mine])
        mine[-1][1], mine[-1][4] = 0, 0
    for domid in domids:  # so that no domain ends before the others
        rows[domid, 9] = [[9_000, 9_010, 60, 0, 0, 0, int(Op.STATUS), int(Via.RAW)]]
    logs = [
        ThreadLog(
            domid,
            f"dom{domid}",
            number,
            -1,
            np.array([tuple(row) for row in mine], RECORD),
            1_000_000_000,
            0,
            0,
        )
        for (domid, number), mine in rows.items()
    ]
    return History("rwlock", (4, 17), "x86_64", "tiny", tuple(logs))


def _operation(
    rng: random.Random, state: dict[tuple[int, int], list[int]], domids: list[int], me: int
) -> Row:
    mine = [port for domid, port in state if domid == me]
    free = next(port for port in (1, 2, 3, 4, 5, 6, 7, 8, 9) if (me, port) not in state)
    port = rng.choice([*mine, rng.randrange(1, 4)])
    channel = state.get((me, port))
    other = rng.choice(domids)
    roll = rng.random()
    if roll < 0.25:
        state[me, free] = [1, other, 0]
        return [0, 0, DOMID_SELF, other, free, 0, int(Op.ALLOC_UNBOUND), 0]
    if roll < 0.45:
        target = rng.choice([p for d, p in state if d == other] or [port])
        peer = state.get((other, target))
        result = EINVAL
        if peer is not None and peer[:2] == [1, me]:
            result, state[me, free] = free, [2, other, target]
            state[other, target] = [2, me, free]
        return [0, 0, target, other, result, 0, int(Op.BIND_INTERDOMAIN), 0]
    if roll < 0.5:
        state[me, free] = [5, 0, 0]
        return [0, 0, 0, 0, free, 0, int(Op.BIND_IPI), 0]
    if roll < 0.55:
        state[me, free] = [4, 0, 3]
        return [0, 0, 3, 0, free, 0, int(Op.BIND_VIRQ), 0]
    if roll < 0.72:
        return [0, 0, port, 0, _closed(state, me, port), 0, int(Op.CLOSE), 0]
    if roll < 0.9:
        told = 0 if channel is None else channel[0] | (channel[1] << 16 if channel[0] < 3 else 0)
        detail = channel[2] if channel else 0
        return [0, 0, port, detail, told, 0, int(Op.STATUS), 0]
    op = rng.choice([Op.SEND, Op.SEND, Op.POLL])
    bad = channel is None or (op is Op.SEND and channel[0] == 4)
    return [0, 0, port, 0, EINVAL if bad else 0, 0, int(op), 0]


def _closed(state: dict[tuple[int, int], list[int]], me: int, port: int) -> int:
    channel = state.pop((me, port), None)
    if channel is None:
        return EINVAL
    if channel[0] == 2:
        state[channel[1], channel[2]] = [1, me, 0]
    return 0


def _change(rng: random.Random, rows: list[Row]) -> None:
    row = rng.choice(rows)
    op = Op(row[6])
    if op in (Op.ALLOC_UNBOUND, Op.BIND_IPI, Op.BIND_VIRQ):
        row[4] = rng.randrange(1, 4)
    elif op is Op.BIND_INTERDOMAIN:
        row[4] = EINVAL if row[4] > 0 else rng.randrange(1, 5)
    elif op is Op.STATUS:
        row[4], row[3] = rng.choice([(0, 0), (1, 0), (2, rng.randrange(1, 4)), (5, 0)])
    else:
        row[4] = EINVAL if row[4] == 0 else 0
