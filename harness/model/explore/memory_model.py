# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory models: must an access wait for an earlier access of its own thread?

All three models are multi-copy atomic: a store that has been performed is seen by all threads at
once.  So memory has one value per word, and a model only says in which order a thread's accesses
may be performed.

- SC: program order (Lamport 1979).
- TSO: x86-TSO (Owens, Sarkar, Sewell, "A better x86 memory model", 2009).  A store may wait in
  its CPU's store buffer while later loads are performed; the buffer is first in, first out, a
  load takes its value from it, and a locked instruction or a fence empties it.
- ARM: Armv8 (Arm ARM B2.3; Pulte et al., "Simplifying ARM concurrency", POPL 2018).  Accesses
  to different words are performed in any order that barriers, dependencies and acquire/release
  allow.  A load may be performed before an earlier branch is decided, a store may not.  In one
  case the model is stricter than Armv8: two loads of one word are performed in order even if
  they read the same store.  No lock program loads a word twice without an atomic access or a
  barrier in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

from harness.model.explore.program import AccessKind, Fence


class MemoryModel(StrEnum):
    """A memory model, as ``model check --memory`` names it."""

    SC = "sc"
    TSO = "tso"
    ARM = "arm"


class Wait(Enum):
    """Whether an access must wait for an earlier one that is not performed yet."""

    NO = "no"
    YES = "yes"
    FORWARD = "forward"  # no: it loads the word that the earlier one stores, and takes that value


@dataclass(frozen=True)
class Access:
    """One access or barrier, as the memory model sees it."""

    kind: AccessKind | Fence
    word: str = ""
    name: str = ""  # of its step
    decides: bool = False  # a branch depends on the value that it reads
    needs: tuple[str, ...] = ()  # the steps whose values its address or data is made of
    acquire: bool = False
    release: bool = False

    @property
    def reads(self) -> bool:
        return self.kind in (AccessKind.LOAD, AccessKind.RMW)

    @property
    def writes(self) -> bool:
        return self.kind in (AccessKind.STORE, AccessKind.RMW)


def wait(memory: MemoryModel, earlier: Access, later: Access) -> Wait:
    """Say whether ``later`` must wait for ``earlier``, which comes before it in program order."""
    if memory is MemoryModel.SC:
        return Wait.YES
    if isinstance(earlier.kind, Fence) or isinstance(later.kind, Fence):
        return Wait.YES if _fenced(memory, earlier, later) else Wait.NO
    stores_then_loads = earlier.kind is AccessKind.STORE and later.kind is AccessKind.LOAD
    if earlier.word == later.word:
        forwarded = stores_then_loads and not (earlier.release and later.acquire)
        return Wait.FORWARD if forwarded else Wait.YES
    if memory is MemoryModel.TSO:
        return Wait.NO if stores_then_loads else Wait.YES
    ordered = (
        earlier.acquire
        or later.release
        or (earlier.release and later.acquire)
        or (earlier.decides and later.writes)
        or earlier.name in later.needs
    )
    return Wait.YES if ordered else Wait.NO


def _fenced(memory: MemoryModel, earlier: Access, later: Access) -> bool:
    """Say whether a barrier orders the two, one of which it is.

    A full barrier orders everything.  On Arm a read barrier orders earlier reads against all
    later accesses, and a write barrier earlier writes against later writes.
    """
    fences = {earlier.kind, later.kind}
    if all(isinstance(kind, Fence) for kind in fences):
        return False  # accesses wait for each of the two
    if Fence.FULL in fences:
        return True
    if memory is MemoryModel.TSO:  # loads are in order among themselves anyway, and so are stores
        return False
    if later.kind is Fence.READ:
        return earlier.reads
    if earlier.kind is Fence.READ:
        return True
    if later.kind is Fence.WRITE:
        return earlier.writes
    return later.writes
