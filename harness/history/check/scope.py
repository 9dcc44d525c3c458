"""What the checker must know beside the operations: flavour, clocks, who lived until when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.history.format.columns import NEVER, Columns, Int64
from harness.history.format.history import DOMID_SELF, META_DEFAULTS, History
from harness.history.format.record import ALLOCATING, Op
from harness.model.flavour import FLAVOURS, Flavour, Site
from harness.verdict import ConfigError

PORT_BITS = 32  # a port's key is domid << PORT_BITS | port
FOREIGN = -1  # no claim: not an agent's port (perhaps the kernel's), or not known


@dataclass(frozen=True)
class Scope:
    """The part of a history's head that decides what may be claimed."""

    flavour: Flavour
    release: tuple[int, int]
    domid: Int64  # by log
    error: Mapping[int, int]  # by domid: ns
    end: Mapping[int, int]  # by domid: when its last recorded operation ended or began, ns
    horizon: int  # ns; a thread with lost records did unknown things after this
    cpu_error: int  # ns
    drained: int  # ns without an event, before ports were closed at the end; 0: no promise

    def may_drop(self, site: Site) -> bool:
        """Say whether ``site`` may do nothing while a writer of its channel is inside."""
        return self.flavour.may_drop(site)

    def slack(self, one: Int64, other: Int64) -> Int64:
        """Return by how much the clocks of domains ``one`` and ``other`` can disagree (ns)."""
        domids = np.array(sorted(self.error), np.int64)
        errors = np.array([self.error[int(d)] for d in domids], np.int64)
        total: Int64 = _error_of(domids, errors, one) + _error_of(domids, errors, other)
        return np.where(one == other, 0, total)


def _error_of(domids: Int64, errors: Int64, wanted: Int64) -> Int64:
    if not len(domids):
        return np.zeros(len(wanted), np.int64)
    index = np.minimum(np.searchsorted(domids, wanted), len(domids) - 1)
    return np.where(domids[index] == wanted, errors[index], 0)


def scope(head: History, ends: Sequence[int]) -> Scope:
    """Return the scope of ``head``; ``ends`` is, by log, when its last operation ended (ns)."""
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
        error=error,
        end=end,
        horizon=horizon,
        cpu_error=_meta(head.meta, "cpu_error_ns"),
        drained=_meta(head.meta, "drained_ns"),
    )


def _meta(meta: Mapping[str, Any], name: str) -> int:
    value = meta.get(name, META_DEFAULTS[name])
    if not isinstance(value, int) or value < 0:
        raise ConfigError(f"{name} in the history's meta is not a time in ns: {value!r}")
    return value


def widen(columns: Columns, scope: Scope) -> Columns:
    """Return ``columns`` as the checker compares them.

    Intervals grow by what two CPUs of a domain can differ, and what returned after the
    horizon becomes unknown: a prefix of a history is a history.
    """
    half = -(-scope.cpu_error // 2)
    flying = (columns.ret == NEVER) | (columns.ret > scope.horizon)
    changed = {name: getattr(columns, name) for name in Columns.__dataclass_fields__}
    changed["call"] = columns.call - half
    changed["ret"] = np.where(flying, NEVER, columns.ret + half)
    return Columns(**changed).take(columns.call <= scope.horizon)


@dataclass(frozen=True)
class Ports:
    """Whose port an operation is about, as keys (FOREIGN: of none)."""

    caller: Int64  # domid
    made: Int64  # the port an allocation gave
    local: Int64  # the port named by operations on an own port
    remote: Int64  # the port at the other end, of BIND_INTERDOMAIN


_LOCAL = np.zeros(256, bool)
_LOCAL[list(set(Op) - set(ALLOCATING))] = True
_MAKES = np.zeros(256, bool)
_MAKES[list(ALLOCATING)] = True


def ports(columns: Columns, scope: Scope) -> Ports:
    """Return the keys of the ports that each operation is about."""
    caller = scope.domid[columns.log]
    port = columns.port.astype(np.int64)
    arg = columns.arg.astype(np.int64)
    op = columns.op
    unbound = op == Op.ALLOC_UNBOUND
    owner = np.where(unbound & (port != DOMID_SELF), port, caller)
    success = _MAKES[op] & (columns.ret != NEVER) & (columns.result > 0)
    remote_dom = np.where(arg == DOMID_SELF, caller, arg)
    return Ports(
        caller=caller,
        made=np.where(success, key(owner, columns.result.astype(np.int64)), FOREIGN),
        local=np.where(_LOCAL[op], key(caller, port), FOREIGN),
        remote=np.where(op == Op.BIND_INTERDOMAIN, key(remote_dom, port), FOREIGN),
    )


def key(domid: Int64, port: npt.NDArray[Any]) -> Int64:
    """Return the key of ``port`` of ``domid``."""
    return np.asarray((domid << PORT_BITS) | port, np.int64)


@dataclass(frozen=True)
class Past:
    """What came before a piece of a history and is not in it any more."""

    keys: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))  # ports that had lives
    vague: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))  # connected, who knows how
    since: int = 0  # operations with a lower row are only those that still matter
    until: int = -NEVER  # ns: what returned before has been judged
    working: int = -NEVER  # ns: when the last operation that is no close was called


NO_PAST = Past()
