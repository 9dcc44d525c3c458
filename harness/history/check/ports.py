# SPDX-License-Identifier: GPL-2.0-or-later
"""Which ports each operation names, as keys that differ from domain to domain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.history.check.scope import Scope
from harness.history.format.columns import NEVER, Columns, Int64
from harness.history.format.record import ALLOCATING, Op
from harness.model.evtchn.abi import DOMID_SELF

PORT_BITS = 32  # a port's key is domid << PORT_BITS | port
PORT_MASK = (1 << PORT_BITS) - 1
FOREIGN = -1  # no port that an agent allocated: a kernel's perhaps, or none


@dataclass(frozen=True)
class Ports:
    """By operation: the keys of the ports it names (FOREIGN: it names none)."""

    caller: Int64  # domid
    made: Int64  # the port that an allocation returned
    local: Int64  # the caller's own port that it asked for
    remote: Int64  # the port at the other end, of BIND_INTERDOMAIN
    peer_domid: Int64  # the domain in ``arg``, of ALLOC_UNBOUND and BIND_INTERDOMAIN


_ALLOCATES = np.zeros(256, bool)
_ALLOCATES[list(ALLOCATING)] = True
_NAMES_LOCAL = np.zeros(256, bool)
_NAMES_LOCAL[list(set(Op) - set(ALLOCATING))] = True


def ports_of(columns: Columns, scope: Scope) -> Ports:
    """Return the keys of the ports that each operation names."""
    caller = scope.domid[columns.log]
    port = columns.port.astype(np.int64)
    arg = columns.arg.astype(np.int64)
    op = columns.op
    unbound = op == Op.ALLOC_UNBOUND
    owner = np.where(unbound & (port != DOMID_SELF), port, caller)
    success = _ALLOCATES[op] & (columns.ret != NEVER) & (columns.result > 0)
    peer_domid = np.where(arg == DOMID_SELF, caller, arg)
    return Ports(
        caller=caller,
        made=np.where(success, port_key(owner, columns.result.astype(np.int64)), FOREIGN),
        local=np.where(_NAMES_LOCAL[op], port_key(caller, port), FOREIGN),
        remote=np.where(op == Op.BIND_INTERDOMAIN, port_key(peer_domid, port), FOREIGN),
        peer_domid=peer_domid,
    )


def port_key(domid: Int64, port: npt.NDArray[Any]) -> Int64:
    """Return the key of ``port`` of ``domid``."""
    return np.asarray((domid << PORT_BITS) | port, np.int64)
