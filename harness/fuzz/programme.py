# SPDX-License-Identifier: GPL-2.0-or-later
"""Programmes of the bare guest: their steps, what each has come to, and both in bytes.

The layouts and the numbers are those of guests/agent/steps.h; a test compares them.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum, IntFlag
from typing import NamedTuple

MAX_STEPS = 16384  # of one vCPU
SLOTS = 256

STEP = struct.Struct("<BBBBII")
SEEN = struct.Struct("<iIII")
TIMED = struct.Struct("<iIIIQQII")


class What(IntEnum):
    """What a step does: an EVTCHNOP of Xen's event_channel.h, or something else."""

    BIND_INTERDOMAIN = 0  # port: the remote one; value: the remote domid
    BIND_VIRQ = 1  # port: the VIRQ; value: the vCPU
    BIND_PIRQ = 2  # port: the PIRQ
    CLOSE = 3
    SEND = 4
    STATUS = 5  # value: the domid
    ALLOC_UNBOUND = 6  # port: the owner's domid; value: the remote domid
    BIND_IPI = 7  # value: the vCPU
    BIND_VCPU = 8  # value: the vCPU
    UNMASK = 9
    RESET = 10
    INIT_CONTROL = 11  # number: the vCPU; value: the offset
    EXPAND_ARRAY = 12
    SET_PRIORITY = 13  # value: the priority
    RESET_CONT = 14
    UNKNOWN_COMMAND = 15  # value: the number of the EVTCHNOP
    POLL = 16  # SCHEDOP_poll of so many ports as ``number`` says: port, then value again and again
    BEGIN = 17  # reset, and clear what 2L shares and the slots
    TAKE = 18  # take the events of vCPU ``number`` as an upcall handler does
    LOOK = 19  # only look at the port's bits in memory
    SET_BIT = 20  # of the port in memory: bit ``number``, a Bit
    CLEAR_BIT = 21
    MEET = 22  # wait until the other side has come to as many meetings; then ``value`` loops
    DELAY = 23  # spin for ``value`` ns
    CLOSE_ALL = 24  # in dom0: close all ports that it has opened in this programme


class Flag(IntFlag):
    """More about a step."""

    PORT_OF_SLOT = 1  # port is the number of a slot, which has the port
    VALUE_OF_SLOT = 2
    FAULT_IN = 4
    FAULT_OUT = 8
    BAD_FRAME = 16  # init_control, expand_array: of a frame that does not exist
    PAST = 32  # poll: the time-out is in the past
    PATIENT = 64  # poll: it gives up much later


class Bit(IntEnum):
    """A bit of a port in shared memory."""

    PENDING = 0
    MASKED = 1


class SeenBits(IntFlag):
    """What a guest sees in memory after a step."""

    PENDING = 1  # of the step's port
    MASKED = 2
    LINKED = 4
    SLEPT = 8  # a poll that lasted half of the time after which it gives up, or longer
    UPCALL = 16  # of vCPU 0; the bit above it: of vCPU 1


class Step(NamedTuple):
    """One step of a programme."""

    what: int  # a What
    flags: int = 0  # Flag
    slot: int = 0  # that gets the new port; 0: none
    number: int = 0
    port: int = 0
    value: int = 0


class Seen(NamedTuple):
    """What a step has come to."""

    result: int  # 0, the new port, how many events were taken, or -errno
    bits: int  # SeenBits
    told: int = 0  # status: state | vCPU << 8 | remote << 16; else the notices of both vCPUs
    detail: int = 0  # status: its detail; TAKE: the sum of the ports' marks


class TimedSeen(NamedTuple):
    """The same with the times, in ticks, and with what was in the slots."""

    seen: Seen
    call: int
    ret: int
    port: int
    value: int


# In steps of two domains: stands for the domid of the other one, which is known when they run.
OTHER_DOMAIN = 0x7FEE
DOM0 = 0

NEW_PORT = frozenset(
    {What.BIND_INTERDOMAIN, What.BIND_VIRQ, What.BIND_PIRQ, What.ALLOC_UNBOUND, What.BIND_IPI}
)
NO_OPERATION = frozenset({What.LOOK, What.MEET, What.DELAY})


def encode(steps: Iterable[Step]) -> bytes:
    """Return ``steps`` as the guest takes them."""
    pack = STEP.pack
    return b"".join([pack(*step) for step in steps])


def digest(steps: Iterable[Step]) -> str:
    """Return a short name that no other steps have."""
    return hashlib.sha256(encode(steps)).hexdigest()[:10]


def decode(data: bytes) -> list[Step]:
    """Return the steps that ``encode`` has made ``data`` of."""
    return [Step(*fields) for fields in STEP.iter_unpack(data)]


def decode_seen(data: bytes) -> list[Seen]:
    """Return what the guest has seen, from its answer."""
    return [Seen(*fields) for fields in SEEN.iter_unpack(data)]


def decode_timed(data: bytes) -> list[TimedSeen]:
    """Return what the guest has seen and when, from its answer to a timed programme."""
    return [TimedSeen(Seen(*each[:4]), *each[4:]) for each in TIMED.iter_unpack(data)]


def mark(port: int) -> int:
    """Return a number of ``port`` whose sum (mod 2^32) over several ports tells them, in whatever
    order they came."""
    return ((port + 1) * 2654435761 ^ port << 16) & 0xFFFFFFFF


def marks(ports: Sequence[int]) -> int:
    """Return the sum of the marks of ``ports``."""
    return sum(map(mark, ports)) & 0xFFFFFFFF
