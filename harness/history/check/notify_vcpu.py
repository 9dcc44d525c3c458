# SPDX-License-Identifier: GPL-2.0-or-later
"""The vCPU that EVTCHNOP_status tells: a register that allocations and EVTCHNOP_bind_vcpu write.

Only of raw ports, because Linux moves those of /dev/xen/evtchn as it likes and records
nothing.  Xen 4.17, common/event_channel.c: evtchn_bind_vcpu, evtchn_bind_virq and
evtchn_bind_ipi write notify_vcpu_id, evtchn_free puts it back to 0.

The answer is right if some write that can be the last before it wrote that vCPU:

    writes     [vcpu 0]  [vcpu 1]     [--- vcpu 2 ---]
    STATUS                                  [-----]          1 or 2; 0 has been overwritten
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.history.check.piece import Piece
from harness.history.check.ports import FOREIGN, Ports
from harness.history.check.scope import effect_unknown
from harness.history.format.columns import NEVER, Bool, Columns, Int64
from harness.history.format.record import Op, Via

_VCPU_SHIFT, _VCPU_MASK = 8, 0xFF
_WIDEST = 64  # writes that one answer may lie between; with more, nothing is claimed


@dataclass(frozen=True)
class _Writes:
    """What wrote the register of some port, sorted by channel and return."""

    call: Int64  # axis numbers
    ret: Int64
    vcpu: Int64


def vcpu_told(columns: Columns, operation: Int64) -> Int64:
    """Return the vCPUs in the STATUS answers ``operation``."""
    vcpu: Int64 = (columns.result[operation].astype(np.int64) >> _VCPU_SHIFT) & _VCPU_MASK
    return vcpu


def vcpu_binds(columns: Columns, ports: Ports) -> Bool:
    """Say which operations bound a port to a vCPU by EVTCHNOP_bind_vcpu, or may have."""
    done = (columns.result == 0) | effect_unknown(columns)
    return np.asarray((columns.op == Op.BIND_VCPU) & done & (ports.local != FOREIGN), bool)


def wrong_vcpus(piece: Piece) -> Int64:
    """Return the STATUS answers (operations) with a vCPU that nothing can have written last."""
    columns = piece.columns
    status, channel = _answers(piece)
    if not len(status):
        return status
    axis = piece.lifetimes.axis
    writes = _writes(piece)
    call, ret = axis.at(channel, columns.call[status]), axis.at(channel, columns.ret[status])
    # What returned before the last certain write began has been overwritten by it.
    latest = np.maximum.accumulate(writes.call)
    certain = latest[np.searchsorted(writes.ret, call) - 1]  # the allocation at least
    first = np.searchsorted(writes.ret, certain)
    begun = np.minimum.accumulate(writes.call[::-1])[::-1]
    count = np.searchsorted(begun, ret, side="right") - first
    told = vcpu_told(columns, status)
    explained = count > _WIDEST
    for step in range(min(int(count.max(initial=0)), _WIDEST)):
        index = np.minimum(first + step, len(writes.ret) - 1)
        inside = (step < count) & (writes.call[index] <= ret)
        explained |= inside & (writes.vcpu[index] == told)
    return np.asarray(status[~explained], np.int64)


def _answers(piece: Piece) -> tuple[Int64, Int64]:
    """Return the STATUS answers about one certain lifetime of a raw port, and its channel."""
    columns, lifetimes = piece.columns, piece.lifetimes
    known = (columns.via == Via.RAW) & ~effect_unknown(columns)
    status = np.flatnonzero(
        known & (columns.op == Op.STATUS) & (columns.result > 0) & ((columns.result & 0xFF) > 0)
    )
    channel = lifetimes.find(piece.ports.local[status])
    status, channel = status[channel != FOREIGN], channel[channel != FOREIGN]
    if not len(status):
        return status, channel
    axis = lifetimes.axis
    allocated = axis.at(lifetimes.channel, columns.ret[lifetimes.alloc])
    lifetime = np.searchsorted(allocated, axis.at(channel, columns.call[status])) - 1
    there = (lifetime >= 0) & (lifetimes.channel[lifetime] == channel)
    raw = (columns.via[lifetimes.alloc] == Via.RAW) & ~lifetimes.doubtful
    # What bound a port to a vCPU is not carried from piece to piece.
    raw &= columns.row[lifetimes.alloc] >= piece.past.first_row
    there &= raw[lifetime] & (lifetimes.close_low[lifetime] > columns.ret[status])
    return status[there], channel[there]


def _writes(piece: Piece) -> _Writes:
    """Return the writes.  One of unknown effect may come at any time after its call, or never."""
    columns, lifetimes = piece.columns, piece.lifetimes
    binds = np.flatnonzero(vcpu_binds(columns, piece.ports))
    channel = lifetimes.find(piece.ports.local[binds])
    binds, channel = binds[channel != FOREIGN], channel[channel != FOREIGN]
    op = columns.op[lifetimes.alloc]
    chosen = (op == Op.BIND_VIRQ) | (op == Op.BIND_IPI)
    initial = np.where(chosen, columns.arg[lifetimes.alloc], 0).astype(np.int64)
    operation = np.concatenate([lifetimes.alloc, binds])
    channel = np.concatenate([lifetimes.channel, channel])
    vcpu = np.concatenate([initial, columns.arg[binds].astype(np.int64)])
    axis = lifetimes.axis
    ends = np.where(effect_unknown(columns), NEVER, columns.ret)
    ret = axis.at(channel, ends[operation])
    order = np.argsort(ret, kind="stable")
    call = axis.at(channel, columns.call[operation])
    return _Writes(call[order], ret[order], vcpu[order])
