# SPDX-License-Identifier: GPL-2.0-or-later
"""The record an agent writes for every operation: 32 bytes, little endian.

``guests/agent/record.h`` is the same layout in C; a test compares the two.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

# call, ret: CPU counter ticks (TSC on x86-64, CNTVCT_EL0 on arm64); ret == 0: still in flight.
# result: what Xen (via RAW) or the device (via DEVICE) answered, -errno on failure.
RECORD = np.dtype(
    [
        ("call", "<u8"),
        ("ret", "<u8"),
        ("port", "<u4"),
        ("arg", "<u4"),
        ("result", "<i4"),
        ("cpu", "<u2"),
        ("op", "u1"),
        ("via", "u1"),
    ]
)
assert RECORD.itemsize == 32


class Via(IntEnum):
    """The way an operation took."""

    RAW = 0  # hypercall through /dev/xen/privcmd: result is Xen's own
    DEVICE = 1  # ioctl/read/write on /dev/xen/evtchn


class Op(IntEnum):
    """Operations, with what ``port``, ``arg`` and ``result`` mean for each."""

    ALLOC_UNBOUND = 1  # port: owner domid (0x7ff0 self)  arg: remote domid  result: new port
    BIND_INTERDOMAIN = 2  # port: remote port  arg: remote domid  result: new local port
    BIND_VIRQ = 3  # port: virq  arg: vcpu  result: new port
    BIND_IPI = 4  # arg: vcpu  result: new port
    CLOSE = 5  # port  result: 0
    SEND = 6  # port  result: 0
    STATUS = 7  # port  result: state | vcpu << 8 | remote domid << 16   arg: remote port or virq
    BIND_VCPU = 8  # port  arg: vcpu  result: 0
    UNMASK = 9  # port  result: 0
    SET_PRIORITY = 10  # port  arg: priority  result: 0
    POLL = 11  # port  arg: time-out in microseconds  result: 0
    RECV = 12  # port: the event read() on /dev/xen/evtchn gave; call: when it was entered
    ENABLE = 13  # port: written back to /dev/xen/evtchn, which unmasks it


# Those whose result is a new port.
ALLOCATING: tuple[Op, ...] = (Op.ALLOC_UNBOUND, Op.BIND_INTERDOMAIN, Op.BIND_VIRQ, Op.BIND_IPI)
