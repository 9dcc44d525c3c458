# SPDX-License-Identifier: GPL-2.0-or-later
"""What the checker must know beside the operations: lock flavour, clocks, how long domains ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.history.format.columns import NEVER, Bool, Columns, Int64
from harness.history.format.history import META_DEFAULTS, History
from harness.history.format.record import Via
from harness.model.evtchn.abi import Errno
from harness.model.evtchn.releases import Release
from harness.model.evtchn.rules import Rules, by_names
from harness.model.lock.flavours import FLAVOURS, Flavour, Site
from harness.verdict import ConfigError


@dataclass(frozen=True)
class Scope:
    """The part of a history's head that decides what may be claimed.  Times are in ns."""

    flavour: Flavour
    release: tuple[int, int]
    domid: Int64  # by log
    clock_error: Mapping[int, int]  # by domid: against the reference
    recorded_until: Mapping[int, int]  # by domid: when its last operation returned (or was called)
    horizon: int  # a thread with lost records did unknown things after this
    cpu_error: int  # how far the counters of two CPUs of one domain can differ
    drained: int  # for so long readers saw no event before ports were closed; 0: nobody waited
    rules: Rules | None = None  # of the Xen that ran; None: an older history, judged by ``release``

    def may_drop(self, site: Site) -> bool:
        """Say whether ``site`` may do nothing while a writer of its channel is inside."""
        return self.flavour.may_drop(site)

    def slack(self, one: Int64, other: Int64) -> Int64:
        """Return by how much the clocks of domains ``one`` and ``other`` can disagree (ns)."""
        domids = np.array(sorted(self.clock_error), np.int64)
        errors = np.array([self.clock_error[int(d)] for d in domids], np.int64)
        total: Int64 = _error_of(domids, errors, one) + _error_of(domids, errors, other)
        return np.where(one == other, 0, total)

    @property
    def most_slack(self) -> int:
        """By how much the clocks of any two domains can disagree (ns)."""
        return 2 * max(self.clock_error.values(), default=0)


def _error_of(domids: Int64, errors: Int64, wanted: Int64) -> Int64:
    if not len(domids):
        return np.zeros(len(wanted), np.int64)
    index = np.minimum(np.searchsorted(domids, wanted), len(domids) - 1)
    return np.where(domids[index] == wanted, errors[index], 0)


def scope_of(head: History, ends: Sequence[int]) -> Scope:
    """Return the scope of ``head``; ``ends``: by log, when its last operation returned (ns).

    Raises ConfigError when the flavour is unknown or a time in ``head.meta`` is none.
    """
    if head.flavour not in FLAVOURS:
        raise ConfigError(f"unknown flavour {head.flavour!r}", hint=f"one of {', '.join(FLAVOURS)}")
    error: dict[int, int] = {}
    end: dict[int, int] = {}
    horizon = NEVER
    for log, last in zip(head.threads, ends, strict=True):
        error[log.domid] = max(error.get(log.domid, 0), log.error_ns)
        end[log.domid] = max(end.get(log.domid, last), last)
        if log.lost:
            horizon = min(horizon, last)
    return Scope(
        flavour=FLAVOURS[head.flavour],
        release=head.release,
        domid=np.array([log.domid for log in head.threads], np.int64),
        clock_error=error,
        recorded_until=end,
        horizon=horizon,
        cpu_error=_meta(head.meta, "cpu_error_ns"),
        drained=_meta(head.meta, "drained_ns"),
        rules=None if head.rules is None else by_names(Release(*head.release), head.rules),
    )


def _meta(meta: Mapping[str, Any], name: str) -> int:
    value = meta.get(name, META_DEFAULTS[name])
    if not isinstance(value, int) or value < 0:
        raise ConfigError(f"{name} in the history's meta is not a time in ns: {value!r}")
    return value


def widen(columns: Columns, scope: Scope) -> Columns:
    """Return ``columns`` as the checker compares them.

    Each interval is widened by as much as the counters of two CPUs of one domain can differ.  An
    operation called after the horizon is left out, and one that returned after it counts as in
    flight: the beginning of a history is itself a history.
    """
    half = -(-scope.cpu_error // 2)
    in_flight = (columns.ret == NEVER) | (columns.ret > scope.horizon)
    wide = replace(
        columns, call=columns.call - half, ret=np.where(in_flight, NEVER, columns.ret + half)
    )
    return wide.take(columns.call <= scope.horizon)


def effect_unknown(columns: Columns) -> Bool:
    """Say which operations may or may not have taken effect.

    They are in flight, or Xen failed to copy the answer out (EFAULT), which comes after success.
    """
    faulted = (columns.result == -Errno.EFAULT) & (columns.via == Via.RAW)
    return np.asarray((columns.ret == NEVER) | faulted, bool)
