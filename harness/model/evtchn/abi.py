# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers of Xen's public headers (xen/include/public): the ABI between a guest and Xen."""

from __future__ import annotations

from enum import IntEnum

DOMID_SELF = 0x7FF0  # xen.h: the domain that makes the call


class Errno(IntEnum):
    """Xen's error numbers (errno.h): part of the ABI, and the host's may differ."""

    EPERM = 1
    ENOENT = 2
    ESRCH = 3
    EAGAIN = 11
    ENOMEM = 12
    EACCES = 13
    EFAULT = 14
    EBUSY = 16
    EEXIST = 17
    EINVAL = 22
    ENOSPC = 28
    ENOSYS = 38
    EOPNOTSUPP = 95


class ChannelState(IntEnum):
    """EVTCHNSTAT_* (event_channel.h): the state of a channel as EVTCHNOP_status tells it."""

    CLOSED = 0
    UNBOUND = 1
    INTERDOMAIN = 2
    PIRQ = 3
    VIRQ = 4
    IPI = 5
