"""The vCPU that EVTCHNOP_status tells: a register that births and EVTCHNOP_bind_vcpu write.

Only of ports whose every move is recorded, the raw ones: Linux moves those of
/dev/xen/evtchn as it likes.  Xen 4.17, common/event_channel.c: evtchn_bind_vcpu,
evtchn_bind_virq and evtchn_bind_ipi write notify_vcpu_id, evtchn_free puts it back to 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.history.check.lives import Axis, Lives, may_have_happened
from harness.history.check.scope import FOREIGN, Past, Ports
from harness.history.format.columns import NEVER, Bool, Columns, Int64
from harness.history.format.record import Op, Via

_VCPU_SHIFT, _VCPU_MASK = 8, 0xFF
_WIDEST = 64  # writes that one answer may lie between; with more, nothing is claimed


@dataclass(frozen=True)
class _Writes:
    """What wrote the register of some port, sorted by port and return."""

    call: Int64  # axis numbers
    ret: Int64
    value: Int64


def told(columns: Columns, operation: Int64) -> Int64:
    """Return the vCPUs in the STATUS answers ``operation``."""
    vcpu: Int64 = (columns.result[operation].astype(np.int64) >> _VCPU_SHIFT) & _VCPU_MASK
    return vcpu


def moves(columns: Columns, ports: Ports) -> Bool:
    """Say which operations moved, or may have moved, a port to another vCPU."""
    done = (columns.result == 0) | may_have_happened(columns)
    return np.asarray((columns.op == Op.BIND_VCPU) & done & (ports.local != FOREIGN), bool)


def wrong(columns: Columns, ports: Ports, born: Lives, past: Past) -> Int64:
    """Return the STATUS answers (operations) with a vCPU that nothing can have written last."""
    reads, group = _reads(columns, ports, born, past)
    if not len(reads):
        return reads
    axis = born.axis
    writes = _writes(columns, ports, born)
    call, ret = axis.at(group, columns.call[reads]), axis.at(group, columns.ret[reads])
    # What returned before the last certain write began has been overwritten by it.
    latest = np.maximum.accumulate(writes.call)
    certain = latest[np.searchsorted(writes.ret, call) - 1]  # the birth at least
    first = np.searchsorted(writes.ret, certain)
    begun = np.minimum.accumulate(writes.call[::-1])[::-1]
    last = np.searchsorted(begun, ret, side="right")
    count = last - first
    told_of = told(columns, reads)
    explained = count > _WIDEST
    for step in range(min(int(count.max(initial=0)), _WIDEST)):
        index = np.minimum(first + step, len(writes.ret) - 1)
        inside = (step < count) & (writes.call[index] <= ret)
        explained |= inside & (writes.value[index] == told_of)
    return np.asarray(reads[~explained], np.int64)


def _reads(columns: Columns, ports: Ports, born: Lives, past: Past) -> tuple[Int64, Int64]:
    """Return the STATUS answers about one certain life of a raw port, and whose they are."""
    known = (columns.via == Via.RAW) & ~may_have_happened(columns)
    operation = np.flatnonzero(
        known & (columns.op == Op.STATUS) & (columns.result > 0) & ((columns.result & 0xFF) > 0)
    )
    group = born.find(ports.local[operation])
    mine = group != FOREIGN
    operation, group = operation[mine], group[mine]
    if not len(operation):
        return operation, group
    axis = born.axis
    returned = axis.at(born.group, columns.ret[born.born])
    life = np.searchsorted(returned, axis.at(group, columns.call[operation])) - 1
    there = (life >= 0) & (born.group[life] == group)
    raw = (columns.via[born.born] == Via.RAW) & ~born.doubtful
    raw &= columns.row[born.born] >= past.since  # moves are not carried from piece to piece
    there &= raw[life] & (born.end_low[life] > columns.ret[operation])
    there &= columns.call[operation] < _vague(columns, ports, born)[group]
    return operation[there], group[there]


def _vague(columns: Columns, ports: Ports, born: Lives) -> Int64:
    """Return by group since when a move is under way of which nobody knows what became."""
    since = np.full(len(born.keys) + 1, NEVER)
    index = np.flatnonzero((columns.op == Op.BIND_VCPU) & may_have_happened(columns))
    np.minimum.at(since, born.find(ports.local[index]), columns.call[index])
    return since


def _writes(columns: Columns, ports: Ports, born: Lives) -> _Writes:
    index = np.flatnonzero(moves(columns, ports) & ~may_have_happened(columns))
    group = born.find(ports.local[index])
    index, group = index[group != FOREIGN], group[group != FOREIGN]
    op = columns.op[born.born]
    chosen = (op == Op.BIND_VIRQ) | (op == Op.BIND_IPI)
    initial = np.where(chosen, columns.arg[born.born], 0).astype(np.int64)
    operation = np.concatenate([born.born, index])
    group = np.concatenate([born.group, group])
    value = np.concatenate([initial, columns.arg[index].astype(np.int64)])
    axis: Axis = born.axis
    ret = axis.at(group, columns.ret[operation])
    order = np.argsort(ret, kind="stable")
    call = axis.at(group, columns.call[operation])
    return _Writes(call[order], ret[order], value[order])
