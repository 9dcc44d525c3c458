# SPDX-License-Identifier: GPL-2.0-or-later
"""What the instructions of a lock function do that other CPUs can notice."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from harness.binary.values import Taint, Value, signed


@dataclass(frozen=True)
class Location:
    """A place in memory: an offset to what a pointer is relative to."""

    base: str
    offset: int

    def __str__(self) -> str:
        if not self.base:
            return f"{self.offset:#x}"
        offset = signed(self.offset, 64)
        return f"{self.base}{offset:+#x}" if offset else self.base


class Kind(StrEnum):
    """The kinds of effects."""

    LOAD = "read"  # of the lock word, as the next two
    STORE = "write"
    RMW = "atomic"
    OTHER = "access"  # of other memory that CPUs share
    FENCE = "barrier"
    CALL = "call"


class Barrier(StrEnum):
    """What a barrier orders: everything, earlier reads against all, earlier writes and writes."""

    FULL = "full"
    READ = "read"
    WRITE = "write"
    STORES = "stores"  # dsb st: earlier writes against all
    INSTRUCTIONS = "instructions"  # isb: what is later waits until the way to it is decided
    ACQUIRE = "acquire"  # of one access: it comes before all that are later
    ACQUIRE_PC = "acquire-pc"  # as ACQUIRE, but it may come before an earlier store-release: ldapr
    RELEASE = "release"  # of one access: it comes after all that are earlier


@dataclass(frozen=True)
class Effect:
    """One effect of one instruction."""

    kind: Kind
    address: int  # of the instruction; of an exclusive loop: of its load
    old: int = 0  # what the lock word held
    new: Value | None = None  # what was written there; None: nothing was
    before: Barrier | None = None  # the order that the access itself has: LOCK, stlxr, ldaxr ...
    after: Barrier | None = None
    barrier: Barrier | None = None  # of a FENCE
    target: str = ""  # of a CALL: the function
    size: int = 4  # bytes
    place: Location | None = None  # what is accessed; None: not known
    atomic: bool = False  # of OTHER
    needs: Taint = frozenset()  # reads of the lock word that address or data is made of
    address_needs: Taint = frozenset()  # those of the address alone
    decided_by: Taint = frozenset()  # reads of the lock word that a branch before it looked at
    unread: bool = False  # of RMW: what it reads goes to no register
