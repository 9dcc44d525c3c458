# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory models: must an access wait for an earlier access of its own thread?

All three models are multi-copy atomic: a store that has been performed is seen by all threads at
once.  So memory has one value per word, and a model only says in which order a thread's accesses
may be performed.

- SC: program order (Lamport 1979).
- TSO: x86-TSO (Owens, Sarkar, Sewell, "A better x86 memory model", 2009).  A store may wait in
  its CPU's store buffer while later loads are performed; the buffer is first in, first out, a
  load takes its value from it, and a locked instruction or a fence empties it.
- ARM: Armv8 (Arm ARM B2.3; Pulte et al., "Simplifying ARM concurrency", POPL 2018; herdtools7's
  aarch64.cat).  Accesses to different words are performed in any order that barriers,
  dependencies and acquire/release allow.  A load may be performed before an earlier branch is
  decided, a store may not.  Of two loads of one word the later one may be performed first, if the
  earlier one then reads the same store.  An atomic access is a read and a write, between which no
  other thread writes the word; other accesses of its own thread may come between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, StrEnum

from harness.model.explore.program import AccessKind, AtomicStep, Branch, Dependencies, Fence


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
    SAME = "same"  # no: but if it is performed first, the earlier load must read the same store


@dataclass(frozen=True)
class Access:
    """One access or barrier, as the memory model sees it."""

    kind: AccessKind | Fence
    word: str = ""
    name: str = ""  # of its step
    decides: bool = False  # a branch depends on the value that it reads
    address: frozenset[str] = frozenset()  # the steps whose values its address is made of
    needs: frozenset[str] = frozenset()  # those, and the ones that its data is made of
    way: frozenset[str] | None = (
        None  # a branch before it depends on these; None: on all that decide
    )
    picked: frozenset[str] = frozenset()  # see program.Dependencies
    acquire: bool = False
    after_release: bool = True  # an acquire comes after an earlier release (ldar, not ldapr)
    release: bool = False
    atomic: bool = False  # it is the read or the write of an atomic access
    unread: bool = False  # what it reads goes to no register: a read barrier does not wait for it

    @property
    def reads(self) -> bool:
        return self.kind in (AccessKind.LOAD, AccessKind.RMW)

    @property
    def writes(self) -> bool:
        return self.kind in (AccessKind.STORE, AccessKind.RMW)


def accesses(memory: MemoryModel, step: AtomicStep, branch: Branch) -> tuple[Access, ...]:
    """Return the accesses of ``step`` when it takes ``branch``, and the barriers beside them."""
    depends = _dependencies(step)
    way = depends.way if step.depends else None
    before, after = (
        [] if fence is Fence.NONE else [Access(fence, way=way, picked=depends.picked)]
        for fence in (step.before, step.after)
    )
    if step.kind is AccessKind.LOCAL:
        assert not branch.when and not branch.sets, f"{step.name}: not an access"
        return (*before, *after)
    access = Access(
        step.kind,
        step.word,
        step.name,
        decides=any(b.when for b in step.branches),
        address=depends.address,
        needs=depends.address | depends.data,
        way=way,
        picked=depends.picked,
        acquire=bool({"acquire", "acquire-pc"} & set(step.tags)),
        after_release="acquire-pc" not in step.tags,
        release="release" in step.tags,
        unread="unread" in step.tags,
    )
    # With a full barrier behind it, nothing of its thread can come between read and write.
    if step.kind is not AccessKind.RMW or memory is not MemoryModel.ARM or step.after is Fence.FULL:
        return (*before, access, *after)
    return (*before, *_halves(access, branch, "full" in step.tags), *after)


def _halves(access: Access, branch: Branch, full: bool) -> Iterator[Access]:
    """Yield the read of an atomic access, and its write if it makes one.

    ``full``: it is an acquire and a release in one instruction, whose write later accesses wait
    for as well.
    """
    yield replace(
        access, kind=AccessKind.LOAD, needs=access.address, picked=frozenset(), release=False,
        atomic=True,
    )  # fmt: skip
    if branch.adds or branch.sets:
        own = frozenset({access.name} if branch.adds else ())
        yield replace(
            access, kind=AccessKind.STORE, name="", decides=False, needs=access.needs | own,
            acquire=full, atomic=True,
        )  # fmt: skip


def _dependencies(step: AtomicStep) -> Dependencies:
    if step.depends is not None:
        return step.depends
    needs = frozenset(step.after_value_of)
    if step.kind is AccessKind.LOAD:
        return Dependencies(address=needs)
    return Dependencies(data=needs)


def wait(memory: MemoryModel, earlier: Access, later: Access) -> Wait:
    """Say whether ``later`` must wait for ``earlier``, which comes before it in program order."""
    if memory is MemoryModel.SC:
        return Wait.YES
    if isinstance(earlier.kind, Fence) or isinstance(later.kind, Fence):
        return Wait.YES if _fenced(memory, earlier, later) else Wait.NO
    if memory is MemoryModel.ARM:
        return _arm(earlier, later)
    stores_then_loads = earlier.kind is AccessKind.STORE and later.kind is AccessKind.LOAD
    if earlier.word == later.word:
        return Wait.FORWARD if stores_then_loads else Wait.YES
    return Wait.NO if stores_then_loads else Wait.YES


def _arm(earlier: Access, later: Access) -> Wait:
    same_word = earlier.word == later.word
    ordered = (
        (same_word and later.writes)
        or earlier.acquire
        or later.release
        or (earlier.release and later.acquire and later.after_release)
        or (later.writes and _decides(earlier, later))
        or earlier.name in later.needs
    )
    if ordered:
        return Wait.YES
    if not same_word:
        return Wait.NO
    if earlier.kind is AccessKind.LOAD:
        return Wait.SAME
    return Wait.FORWARD if earlier.kind is AccessKind.STORE else Wait.YES


def _decides(earlier: Access, later: Access) -> bool:
    """Say whether a branch in front of ``later``, or a choice of its data, needs ``earlier``."""
    decided = earlier.decides if later.way is None else earlier.name in later.way
    return decided or earlier.name in later.picked


def _fenced(memory: MemoryModel, earlier: Access, later: Access) -> bool:
    """Say whether a barrier orders the two, one of which it is.

    A full barrier orders everything.  On Arm a read barrier orders earlier reads against all
    later accesses, a write barrier earlier writes against later writes (a dsb against all), and an
    instruction barrier the reads that decided the way to it against all that is later.
    """
    fences = {earlier.kind, later.kind}
    if all(isinstance(kind, Fence) for kind in fences):
        return False  # accesses wait for each of the two
    if Fence.FULL in fences:
        return True
    if memory is MemoryModel.TSO:  # loads are in order among themselves anyway, and so are stores
        return False
    if later.kind is Fence.READ:
        return earlier.reads and not earlier.unread
    if later.kind is Fence.INSTRUCTIONS:
        return _decides(earlier, later)
    if earlier.kind in (Fence.READ, Fence.STORES, Fence.INSTRUCTIONS):
        return True
    if later.kind in (Fence.WRITE, Fence.STORES):
        return earlier.writes
    return later.writes
