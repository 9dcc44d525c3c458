# SPDX-License-Identifier: GPL-2.0-or-later
"""Orders that Armv8 allows and the compiler left open: the traces that ``model binary`` found.

Where a barrier is, the binary's verdict has no trace, and there is nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import capstone
from capstone import arm64_const

from harness.binary.findings import Departure, Refinement
from harness.binary.judge import Judged
from harness.binary.publish.rows import PUBLICATIONS
from harness.binary.publish.verdict import Publishing


class Moved(StrEnum):
    """What a CPU does in another order than its program has it, if the program is not wrong."""

    CHANGE_EARLY = "a read-modify-write done early"
    STORE_LATE = "a store done late"
    LOAD_EARLY = "a load satisfied early"
    FLAG_FIRST = "nothing: the program itself writes the flag before the data"


@dataclass(frozen=True)
class Reordering:
    """One access that may be made before, or behind, another one of its CPU; or is behind it."""

    moved: Moved
    function: str  # of Xen, that makes the access: out of line
    flag: str  # what publishes the data; "" of a lock function
    address: int  # of the instruction that is moved; of FLAG_FIRST: that writes the data
    passes: int  # of the one that it passes; 0 if that is a call, or depends on the way there
    what: str  # for people
    trace: tuple[str, ...]


def reorderings(judged: Judged) -> tuple[Reordering, ...]:
    """Return what the machine code that was ``judged`` leaves open.

    Of a lock only if the exploration found harm, for that is the trace.
    """
    harmful = any(proof.counterexamples for proof in judged.proofs)
    return tuple(
        _reordering(copy, departure, moved)
        for copy in judged.functions
        for departure in copy.departures
        if (moved := _moved(copy, departure)) is not None
        and (harmful or isinstance(copy, Publishing))
    )


def _moved(copy: Refinement, departure: Departure) -> Moved | None:
    if departure.kind != "order":
        return None
    if not isinstance(copy, Publishing):
        return Moved.CHANGE_EARLY if departure.before else Moved.LOAD_EARLY
    if copy.function not in {name for row in PUBLICATIONS for name in row.writers}:
        return Moved.LOAD_EARLY
    return Moved.STORE_LATE if departure.first else Moved.FLAG_FIRST


def _reordering(copy: Refinement, departure: Departure, moved: Moved) -> Reordering:
    address, passes = departure.address, departure.first
    if moved is Moved.STORE_LATE:  # the departure is told at the second access, the late one first
        address, passes = passes, address
    return Reordering(
        moved,
        copy.caller,
        copy.flag if isinstance(copy, Publishing) else "",
        address,
        passes,
        f"{copy.caller} at {departure.address:#x} {departure.instruction} ({departure.line}): "
        f"{departure.binary}",
        departure.trace,
    )


# -- which access a reader may make behind its leave -----------------------------------------


@dataclass(frozen=True)
class Executed:
    """An instruction that a CPU has executed, and the address of the memory that it accessed."""

    instruction: capstone.CsInsn
    memory: int | None  # None: it accesses none, or its own stack


_BARRIERS = ("dmb", "dsb", "isb")
_ORDERED = ("ldar", "ldapr", "stlr", "ldx", "ldax", "stx", "stlx", "cas", "swp", "ldadd", "ldclr")
_SETS_FLAGS = ("cmp", "cmn", "tst", "ccm", "adds", "subs", "ands", "bics", "adcs", "sbcs", "negs")
_READS_FLAGS = ("b.", "cs", "cinc", "cinv", "cneg", "ccm", "adc", "sbc", "ngc")
_NO_RESULT = ("cmp", "cmn", "tst", "ccm", "cb", "tb", "b.", "bl", "br", "ret", "st", "msr", "prfm")
_KEEPS = ("movk", "bf")  # part of what their result was
_LINE = 16  # bytes: no access is longer, so accesses further apart do not overlap


def may_be_late(executed: Sequence[Executed], leave: int) -> int | None:
    """Return the index of the last access in ``executed`` that Armv8 lets a CPU make behind a
    store to the address ``leave`` at the end; None if there is none.

    Not an access before a barrier or an ordered access; not a load on whose value a branch, an
    address or a store depends (Arm's "dependency-ordered-before"); not one at the address of a
    later access (coherence).
    """
    for index in range(len(executed) - 1, -1, -1):
        name = executed[index].instruction.mnemonic
        if name.startswith(_BARRIERS + _ORDERED):
            return None
        here = executed[index].memory
        if here is None or abs(here - leave) < _LINE:
            continue
        behind = executed[index + 1 :]
        if any(abs(each.memory - here) < _LINE for each in behind if each.memory is not None):
            continue
        if name.startswith("st") or not _is_needed(executed[index], behind):
            return index
    return None


def _is_needed(load: Executed, behind: Sequence[Executed]) -> bool:
    """Say whether an address, a store or a branch ``behind`` is made of what ``load`` reads."""
    made = registers_of(load.instruction, written=True)
    for each in behind:
        reads = registers_of(each.instruction, written=False)
        writes = registers_of(each.instruction, written=True)
        if not reads & made:
            made -= writes
            continue
        groups = each.instruction.groups
        branches = capstone.CS_GRP_JUMP in groups or each.instruction.mnemonic in ("ret", "blr")
        if branches or each.instruction.mnemonic.startswith(("ld", "st", "msr")):
            return True
        made |= writes
    return False


def registers_of(instruction: capstone.CsInsn, *, written: bool) -> set[str]:
    """Return the registers that are read or ``written``, flags included.

    By the mnemonic: capstone says that ``cmp`` writes its register, and does not read it.
    """
    mnemonic = instruction.mnemonic
    results = 2 if mnemonic.startswith("ldp") else 0 if mnemonic.startswith(_NO_RESULT) else 1
    names: list[int] = []
    for number, operand in enumerate(instruction.operands):
        if operand.type == arm64_const.ARM64_OP_REG:
            is_result = number < results
            if is_result if written else not is_result or mnemonic.startswith(_KEEPS):
                names.append(operand.reg)
        elif operand.type == arm64_const.ARM64_OP_MEM and not written:
            names += [register for register in (operand.mem.base, operand.mem.index) if register]
    found = {_whole(instruction.reg_name(name)) for name in names} - {"xzr"}
    if mnemonic.startswith(_SETS_FLAGS if written else _READS_FLAGS):
        found.add("nzcv")
    return found


def _whole(name: str) -> str:
    """Return the name of the whole register of which ``name`` may be a part."""
    if name[0] in "bhsdq" and name[1:].isdigit():
        return f"v{name[1:]}"
    return f"x{name[1:]}" if name[0] == "w" else {"lr": "x30", "fp": "x29"}.get(name, name)
