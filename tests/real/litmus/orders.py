# SPDX-License-Identifier: GPL-2.0-or-later
"""In which orders a thread may make its accesses: Armv8's barriers, acquire and release,
dependencies and coherence, read from its instructions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import capstone
from capstone import arm64_const

from harness.interleave.reorderings import registers_of

_WORDS = {"x1": "x", "x3": "y"}  # what a thread's base registers point to


@dataclass(frozen=True)
class Access:
    """A load or a store of a thread."""

    index: int  # of its instruction
    instruction: capstone.CsInsn
    word: str
    store: bool

    @property
    def data(self) -> str:
        """The register that is loaded or stored: "w0"."""
        return str(self.instruction.reg_name(self.instruction.operands[0].reg))

    def __lt__(self, other: Access) -> bool:
        return self.index < other.index


def accesses(thread: Sequence[capstone.CsInsn]) -> tuple[Access, ...]:
    """Return the accesses of ``thread``, in the order of its program."""
    made = []
    for index, one in enumerate(thread):
        for operand in one.operands:
            if operand.type == arm64_const.ARM64_OP_MEM:
                word = _WORDS[one.reg_name(operand.mem.base)]
                made.append(Access(index, one, word, one.mnemonic.startswith("st")))
    return tuple(made)


def orders(threads: Sequence[Sequence[capstone.CsInsn]]) -> Iterator[tuple[int, ...]]:
    """Yield every order of all threads' accesses that keeps what must be kept.

    An order is numbers of accesses: those of the first thread come first.
    """
    found = [accesses(thread) for thread in threads]
    flat = [(owner, one) for owner, many in enumerate(found) for one in many]
    kept = [
        (a, b)
        for (a, (owner, first)), (b, (other, second)) in itertools.permutations(enumerate(flat), 2)
        if owner == other and first < second and keeps(threads[owner], first, second)
    ]
    for order in itertools.permutations(range(len(flat))):
        if all(order.index(a) < order.index(b) for a, b in kept):
            yield order


def keeps(thread: Sequence[capstone.CsInsn], first: Access, second: Access) -> bool:
    """Say whether every machine makes ``first`` before ``second`` (Arm's "ordered-before", and
    coherence)."""
    if first.word == second.word:
        return True
    before, after = first.instruction.mnemonic, second.instruction.mnemonic
    if before in ("ldar", "ldapr") or after == "stlr" or (before, after) == ("stlr", "ldar"):
        return True
    between = thread[first.index + 1 : second.index]
    barriers = [one.op_str for one in between if one.mnemonic == "dmb"]
    if "ish" in barriers or ("ishld" in barriers and not first.store):
        return True
    if "ishst" in barriers and first.store and second.store:
        return True
    return not first.store and _depends(thread, first, second)


def _depends(thread: Sequence[capstone.CsInsn], first: Access, second: Access) -> bool:
    """Say whether ``second`` depends on the value that ``first`` reads in a way that orders."""
    made = registers_of(first.instruction, written=True)
    branched = ordered = False
    for one in thread[first.index + 1 : second.index]:
        reads = registers_of(one, written=False)
        if capstone.CS_GRP_JUMP in one.groups:
            branched = branched or bool(reads & made)
        elif one.mnemonic == "isb":
            ordered = ordered or branched
        elif reads & made:
            made |= registers_of(one, written=True)
        else:
            made -= registers_of(one, written=True)
    if ordered or registers_of(second.instruction, written=False) & made:
        return True
    return branched and second.store
