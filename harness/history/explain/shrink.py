# SPDX-License-Identifier: GPL-2.0-or-later
"""From a piece of a history down to the few operations that show the violation.

Delta debugging (Zeller and Hildebrandt's ddmin), with the lifetimes of ports as the smallest
parts that can be left out: without its close, the next allocation of a port would be a
violation that never happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from harness.history.check.notify_vcpu import vcpu_binds, vcpu_told
from harness.history.check.piece import Piece
from harness.history.check.ports import FOREIGN, ports_of
from harness.history.check.rules import MASKED, NOTIFY, judge
from harness.history.check.scope import Scope
from harness.history.format.columns import NEVER, Columns, Int64
from harness.history.format.record import Op

_NEAR = 400  # operations on the culprit's ports to begin with; grows until the violation shows


def shrink(piece: Piece, scope: Scope, property_: str, culprit: int, *, seconds: float) -> Columns:
    """Return few operations of ``piece``, as recorded, that still show the violation.

    ``scope`` is that of the whole history, ``culprit`` a row.  After ``seconds`` the smallest
    set found so far is returned.
    """
    deadline = time.monotonic() + seconds

    def shows(candidate: Columns) -> bool:
        return (property_, culprit) in judge(candidate, scope, past=piece.past).findings.violations

    near = _NEAR
    component = _component(piece.recorded, scope, culprit)
    fixed = _indispensable(component, scope, property_, culprit)
    start = component
    while near < 2 * len(component):
        start = component.take(_nearest(component, scope, fixed, near))
        if shows(start):
            break
        near *= 4
        start = component
    parts = _parts(start, scope)
    kept = _ddmin(
        len(parts),
        lambda chosen: shows(_join(start, fixed, [parts[i] for i in chosen])),
        deadline,
    )
    return _join(start, fixed, [parts[i] for i in kept])


def _component(columns: Columns, scope: Scope, culprit: int) -> Columns:
    """Return the operations on the culprit's ports, and on those ever connected to them."""
    ports = ports_of(columns, scope)
    index = int(np.searchsorted(columns.row, culprit))
    mine = {int(k[index]) for k in (ports.made, ports.local, ports.remote)} - {FOREIGN}
    binds = np.flatnonzero((ports.made != FOREIGN) & (ports.remote != FOREIGN))
    for _ in range(2):
        known = np.array(sorted(mine), np.int64)
        near = np.isin(ports.made[binds], known) | np.isin(ports.remote[binds], known)
        mine.update(ports.made[binds[near]].tolist(), ports.remote[binds[near]].tolist())
    known = np.array(sorted(mine), np.int64)
    touched = np.isin(ports.made, known) | np.isin(ports.local, known)
    touched |= np.isin(ports.remote, known)
    touched[index] = True
    return columns.take(touched)


def _indispensable(columns: Columns, scope: Scope, property_: str, culprit: int) -> Int64:
    """Return the rows without which the witness would not be true, the culprit's first.

    Where STATUS told a wrong vCPU: what bound the port to that vCPU last, so that what bound it
    elsewhere afterwards cannot be left out.  Where an event was delivered while the port was
    masked: the delivery before, for the same reason.
    """
    if property_ not in (MASKED, NOTIFY):
        return np.array([culprit], np.int64)
    ports = ports_of(columns, scope)
    index = np.searchsorted(columns.row, [culprit])
    same = ports.local == ports.local[index]
    if property_ == MASKED:
        same &= (columns.op == Op.RECV) & (columns.ret < columns.ret[index])
        before = np.flatnonzero(same)
        latest = before[np.argsort(columns.ret[before])][-1:]
        return np.append(np.int64(culprit), columns.row[latest])
    same &= vcpu_binds(columns, ports)
    same &= (columns.arg == vcpu_told(columns, index)) & (columns.call < columns.call[index])
    return np.append(np.int64(culprit), columns.row[same][-1:])


def _nearest(columns: Columns, scope: Scope, fixed: Int64, count: int) -> Int64:
    """Return some ``count`` operations around the culprit, with the lifetimes they fall into."""
    index = int(np.searchsorted(columns.row, fixed[0]))
    low, high = max(0, index - count), min(len(columns), index + count // 4)
    keep = np.zeros(len(columns), bool)
    keep[low:high] = True
    keep[np.searchsorted(columns.row, fixed)] = True
    allocates = ports_of(columns, scope).made != FOREIGN
    for part in _parts(columns, scope):
        open_then = allocates[part[0]] and (len(part) == 1 or part[-1] >= low)
        if open_then and part[0] < high:
            keep[part] = True
    return np.flatnonzero(keep)


def _parts(columns: Columns, scope: Scope) -> list[Int64]:
    """Return indices in groups that only make sense together: allocations with their closes."""
    ports = ports_of(columns, scope)
    open_: dict[int, list[int]] = {}
    parts: list[list[int]] = []
    made = ports.made != FOREIGN
    changes = made | (columns.op == Op.CLOSE)
    order = np.argsort(np.where(made, columns.ret, columns.call), kind="stable")
    for index in order.tolist():
        if not changes[index]:
            parts.append([index])
        elif made[index]:
            part = [index]
            open_[int(ports.made[index])] = part
            parts.append(part)
        elif columns.result[index] == 0 or columns.ret[index] == NEVER:
            part = open_.get(int(ports.local[index]), [])
            if not part:
                parts.append(part)
            part.append(index)
        else:
            parts.append([index])
    return [np.array(part, np.int64) for part in parts]


def _join(columns: Columns, fixed: Int64, parts: list[Int64]) -> Columns:
    return columns.take(np.unique(np.concatenate([np.searchsorted(columns.row, fixed), *parts])))


def _ddmin(count: int, shows: Callable[[list[int]], bool], deadline: float) -> list[int]:
    """Return a subset of range(count) that still ``shows``, and no part of which is needless."""
    kept = list(range(count))
    pieces = 2
    while kept and time.monotonic() < deadline:
        size = -(-len(kept) // pieces)
        for begin in range(0, len(kept), size):
            rest = kept[:begin] + kept[begin + size :]
            if shows(rest):
                kept, pieces = rest, max(pieces - 1, 2)
                break
            if time.monotonic() > deadline:
                return kept
        else:
            if size == 1:
                return kept
            pieces = min(2 * pieces, len(kept))
    return kept
