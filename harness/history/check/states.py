# SPDX-License-Identifier: GPL-2.0-or-later
"""States of a port as single numbers: what EVTCHNOP_status would tell, and what is not known.

bits 48..   EVTCHNSTAT, or one of our own two
bits 32-47  domid of the other end
bits 0-31   port of the other end, or number of the VIRQ
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from harness.history.check.ports import PORT_BITS
from harness.history.format.columns import Int64
from harness.model.evtchn.abi import ChannelState

UNBOUND, INTERDOMAIN, VIRQ, IPI = (
    int(state)
    for state in (
        ChannelState.UNBOUND,
        ChannelState.INTERDOMAIN,
        ChannelState.VIRQ,
        ChannelState.IPI,
    )
)
ANYTHING = 0  # ours: not an agent's port; it is free, or a kernel's, or we cannot know
OPEN = 7  # ours: unbound for the domain, or connected to it; we cannot know which
_STAT_SHIFT = 48
_OTHER_END = (1 << _STAT_SHIFT) - 1


def encode(stat: int | Int64, domid: Int64 | int, detail: Int64 | int) -> Int64:
    """Return the state with EVTCHNSTAT ``stat``; ``detail``: a port, or a VIRQ."""
    return np.asarray((stat << _STAT_SHIFT) | (domid << PORT_BITS) | detail, np.int64)


def connected_to(key: Int64 | int) -> Int64:
    """Return the state of a port whose other end is the port with ``key``."""
    return encode(INTERDOMAIN, 0, key)


_States = TypeVar("_States", Int64, int)


def stat_of(state: _States) -> _States:
    """Return EVTCHNSTAT of ``state`` (ANYTHING and OPEN: our own)."""
    return state >> _STAT_SHIFT


def domid_of(state: _States) -> _States:
    """Return the domain at the other end."""
    return (state >> PORT_BITS) & 0xFFFF


def other_end(state: int) -> int:
    """Return the key of the port at the other end of an INTERDOMAIN one."""
    return state & _OTHER_END
