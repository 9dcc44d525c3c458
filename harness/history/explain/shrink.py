"""From a piece of a history down to the few operations that show the violation.

Delta debugging (Zeller and Hildebrandt's ddmin), with the lives of ports as the smallest
parts that can be left out: without its close, the next allocation of a port would be a
violation that never happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from harness.history.check import notify
from harness.history.check.rules import MASKED, NOTIFY, judge
from harness.history.check.scope import FOREIGN, Past, Scope, ports
from harness.history.format.columns import NEVER, Columns, Int64
from harness.history.format.record import Op

_NEAR = 400  # operations on the culprit's ports to begin with; grows until the violation shows


def shrink(
    columns: Columns,
    about: Scope,
    property_: str,
    culprit: int,
    *,
    past: Past,
    seconds: float,
) -> Columns:
    """Return few operations of ``columns`` that still show the violation.

    ``culprit`` is a row, ``past`` as in ``judge``.  After ``seconds`` the smallest set found
    so far is returned.
    """
    deadline = time.monotonic() + seconds

    def shows(candidate: Columns) -> bool:
        return (property_, culprit) in judge(candidate, about, past=past).found.violations

    near = _NEAR
    component = _component(columns, about, culprit)
    fixed = _fixed(component, about, property_, culprit)
    start = component
    while near < 2 * len(component):
        start = component.take(_nearest(component, about, fixed, near))
        if shows(start):
            break
        near *= 4
        start = component
    parts = _parts(start, about)
    kept = _ddmin(
        len(parts),
        lambda chosen: shows(_join(start, fixed, [parts[i] for i in chosen])),
        deadline,
    )
    return _join(start, fixed, [parts[i] for i in kept])


def _component(columns: Columns, about: Scope, culprit: int) -> Columns:
    """Operations on the ports that the culprit is about, and on those ever connected to them."""
    whose = ports(columns, about)
    index = int(np.searchsorted(columns.row, culprit))
    mine = {int(k[index]) for k in (whose.made, whose.local, whose.remote)} - {FOREIGN}
    binds = np.flatnonzero((whose.made != FOREIGN) & (whose.remote != FOREIGN))
    for _ in range(2):
        known = np.array(sorted(mine), np.int64)
        near = np.isin(whose.made[binds], known) | np.isin(whose.remote[binds], known)
        mine.update(whose.made[binds[near]].tolist(), whose.remote[binds[near]].tolist())
    known = np.array(sorted(mine), np.int64)
    touched = np.isin(whose.made, known) | np.isin(whose.local, known)
    touched |= np.isin(whose.remote, known)
    touched[index] = True
    return columns.take(touched)


def _fixed(columns: Columns, about: Scope, property_: str, culprit: int) -> Int64:
    """Return the rows without which the story would not be true, the culprit's first.

    A vCPU told wrongly: what bound the port to that one last must stay, so that what
    came after it stays, too.  A delivery while the port was masked: so must the one before.
    """
    if property_ not in (MASKED, NOTIFY):
        return np.array([culprit], np.int64)
    whose = ports(columns, about)
    index = np.searchsorted(columns.row, [culprit])
    same = whose.local == whose.local[index]
    if property_ == MASKED:
        same &= (columns.op == Op.RECV) & (columns.ret < columns.ret[index])
        before = np.flatnonzero(same)
        latest = before[np.argsort(columns.ret[before])][-1:]
        return np.append(np.int64(culprit), columns.row[latest])
    same &= notify.moves(columns, whose)
    same &= (columns.arg == notify.told(columns, index)) & (columns.call < columns.call[index])
    return np.append(np.int64(culprit), columns.row[same][-1:])


def _nearest(columns: Columns, about: Scope, fixed: Int64, count: int) -> Int64:
    """The ``count`` operations around the culprit, and the lives that they are part of."""
    index = int(np.searchsorted(columns.row, fixed[0]))
    low, high = max(0, index - count), min(len(columns), index + count // 4)
    keep = np.zeros(len(columns), bool)
    keep[low:high] = True
    keep[np.searchsorted(columns.row, fixed)] = True
    births = ports(columns, about).made != FOREIGN
    for part in _parts(columns, about):
        lives = births[part[0]] and (len(part) == 1 or part[-1] >= low)
        if lives and part[0] < high:
            keep[part] = True
    return np.flatnonzero(keep)


def _parts(columns: Columns, about: Scope) -> list[Int64]:
    """Return indices in groups that only make sense together: births with their closes."""
    whose = ports(columns, about)
    open_: dict[int, list[int]] = {}
    parts: list[list[int]] = []
    written = (whose.made != FOREIGN) | (columns.op == Op.CLOSE)
    order = np.argsort(np.where(whose.made != FOREIGN, columns.ret, columns.call), kind="stable")
    for index in order.tolist():
        if not written[index]:
            parts.append([index])
        elif whose.made[index] != FOREIGN:
            part = [index]
            open_[int(whose.made[index])] = part
            parts.append(part)
        elif columns.result[index] == 0 or columns.ret[index] == NEVER:
            part = open_.get(int(whose.local[index]), [])
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
