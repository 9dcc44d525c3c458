# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a jump through a table of offsets may go: what compilers make of a switch.

    A64:  cmp w0, #13; b.hi ...; adrp x1, ...; add x1, x1, ...; ldrh w1, [x1, w0, uxtw #1]
          adr x2, ...; add x1, x2, w1, sxth #2; br x1
    x86:  cmp edi, 13; ja ...; mov eax, edi; lea rcx, [rip + ...]; movsxd rax, [rcx + rax*4]
          add rax, rcx; jmp rax

Xen has such tables on x86-64 where clang has built it: gcc gets -fno-jump-tables.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import capstone
from capstone import arm64_const as arm
from capstone import x86_const as x86

from harness.arch import Arch
from harness.binary import arm64_operands, x86_operands
from harness.binary.copies import Text
from harness.binary.machine import NotUnderstoodError
from harness.binary.values import Value, signed
from harness.hypervisor.dwarf.inlined import Copy

_BEFORE = 24  # instructions in front of the jump that are looked at
_BYTES = {"ldrb": 1, "ldrsb": 1, "ldrh": 2, "ldrsh": 2, "ldr": 4, "ldrsw": 4}
_SIGNED = (arm.ARM64_EXT_SXTB, arm.ARM64_EXT_SXTH, arm.ARM64_EXT_SXTW)
_X86_BYTES = 4  # of an offset
# A branch on what the check found: it goes on to the jump if it is not taken; if it is taken.
_ABOVE, _NOT_ABOVE = ("ja", "b.hi"), ("jbe", "b.ls")
_MOVES = ("mov", "movzx", "uxtb", "uxth")
_FLAGS = ("rflags", "nzcv")
_REGISTER = (x86.X86_OP_REG, arm.ARM64_OP_REG)
_NUMBER = (x86.X86_OP_IMM, arm.ARM64_OP_IMM)
_CALLS = ("call", "bl", "blr", "blraa", "blraaz")

Held = Callable[[int, str], Value]  # what a whole register holds when an instruction begins


def is_jump(instruction: capstone.CsInsn) -> bool:
    """Say whether ``instruction`` jumps to where a register or memory tells it."""
    mnemonic = instruction.mnemonic.split()[-1]  # "notrack jmp"
    told = mnemonic == "jmp" and instruction.operands[0].type != x86.X86_OP_IMM
    return bool(mnemonic == "br" or told)


class _Registers(Protocol):
    """The registers of an architecture: x86_operands, arm64_operands."""

    def whole(self, i: capstone.CsInsn, number: int, /) -> str: ...

    def lowest(self, i: capstone.CsInsn, number: int, /) -> int: ...

    def written(self, i: capstone.CsInsn, /) -> frozenset[str]: ...


def targets(
    text: Text, function: Copy, jump: capstone.CsInsn, held: Held, entered: Collection[int] = ()
) -> tuple[int, ...]:
    """Return where ``jump``, one of ``function``, may go; () if that is not understood.

    ``held`` is asked for the addresses of the table and of what its offsets are added to.
    ``entered``: where other jumps of this kind go.
    """
    before = list(_only_way(text, function, jump, entered))
    try:
        table = (_of_arm if text.arch is Arch.ARM64 else _of_x86)(before, jump, held)
    except NotUnderstoodError:  # a register that no number is in: of a segment, of control
        table = None
    return () if table is None else tuple(dict.fromkeys(table.targets(text)))


def _only_way(
    text: Text, function: Copy, jump: capstone.CsInsn, entered: Collection[int]
) -> Iterator[capstone.CsInsn]:
    """Yield what has run when the CPU comes to ``jump``, the last first.

    It ends where there are several ways to come from: on one of them the number may not have been
    checked.  It ends at a call, too, which may change the number.
    """
    at, (start, _) = jump.address, text.whole(function, jump.address)
    for _ in range(_BEFORE):
        ways = text.ways_to(function, at)
        if at == start or at in entered or len(ways) != 1 or ways[0].mnemonic in _CALLS:
            return
        yield ways[0]
        at = ways[0].address


@dataclass(frozen=True)
class _Table:
    """The table, and how its offsets lie there."""

    address: int
    base: int  # to which the offsets are added
    count: int
    size: int  # bytes of one offset
    is_signed: bool
    shift: int = 0  # by so many bits each is shifted to the left

    def targets(self, text: Text) -> list[int]:
        """Return where each offset leads; nothing if they are not in constant memory."""
        data = text.constants(self.address, self.count * self.size)
        words = [data[at : at + self.size] for at in range(0, len(data), self.size)]
        numbers = [int.from_bytes(word, "little") for word in words]
        if self.is_signed:
            numbers = [signed(one, 8 * self.size) for one in numbers]
        return [self.base + (one << self.shift) for one in numbers]


# -- the instructions in front of the jump, the last first -----------------------------------


def _of_arm(before: Sequence[capstone.CsInsn], jump: capstone.CsInsn, held: Held) -> _Table | None:
    whole = arm64_operands.whole
    added, before = _writer(arm64_operands, before, whole(jump, jump.operands[0].reg))
    if added is None or added.mnemonic != "add" or len(added.operands) != 3:
        return None
    offset = added.operands[2]
    if offset.type != arm.ARM64_OP_REG:
        return None
    load, before = _writer(arm64_operands, before, whole(added, offset.reg))
    if load is None or load.mnemonic not in _BYTES or not load.operands[1].mem.index:
        return None
    memory, size = load.operands[1].mem, _BYTES[load.mnemonic]
    if 1 << load.operands[1].shift.value != size:
        return None
    base = held(added.address, whole(added, added.operands[1].reg)).number
    table = held(load.address, whole(load, memory.base)).number
    last = _last(arm64_operands, before, load, memory.index, held)
    if table is None or base is None or last is None:
        return None
    is_signed = load.mnemonic.startswith("ldrs") or offset.ext in _SIGNED
    return _Table(table, base, last + 1, size, is_signed, offset.shift.value)


def _of_x86(before: Sequence[capstone.CsInsn], jump: capstone.CsInsn, held: Held) -> _Table | None:
    if jump.operands[0].type != x86.X86_OP_REG:
        return None
    whole = x86_operands.whole
    register = whole(jump, jump.operands[0].reg)
    added, before = _writer(x86_operands, before, register)
    if added is None or added.mnemonic != "add" or added.operands[1].type != x86.X86_OP_REG:
        return None
    load, before = _writer(x86_operands, before, register)
    if load is None or load.mnemonic != "movsxd" or load.operands[1].type != x86.X86_OP_MEM:
        return None
    memory = load.operands[1].mem
    if memory.scale != _X86_BYTES or not memory.index or not memory.base or memory.disp:
        return None
    base = held(added.address, whole(added, added.operands[1].reg)).number
    table = held(load.address, whole(load, memory.base)).number
    last = _last(x86_operands, before, load, memory.index, held)
    if table is None or base is None or last is None:
        return None
    return _Table(table, base, last + 1, _X86_BYTES, is_signed=True)


def _writer(
    registers: _Registers, before: Sequence[capstone.CsInsn], register: str
) -> tuple[capstone.CsInsn | None, Sequence[capstone.CsInsn]]:
    """Return which instruction has written ``register`` last, and what was before that one."""
    for number, instruction in enumerate(before):
        if register in registers.written(instruction):
            return instruction, before[number + 1 :]
    return None, ()


def _last(
    registers: _Registers,
    before: Sequence[capstone.CsInsn],
    load: capstone.CsInsn,
    index: int,
    held: Held,
) -> int | None:
    """Return the highest number that register ``index`` has at ``load``: what the check in
    ``before`` lets through."""
    register, after, passed = registers.whole(load, index), load.address, False
    for number, instruction in enumerate(before):
        if instruction.mnemonic in (*_ABOVE, *_NOT_ABOVE) and not passed:
            taken = after != instruction.address + instruction.size
            if taken != (instruction.mnemonic in _NOT_ABOVE):
                return None
            passed = True
        elif passed and _writes_flags(instruction):
            bits, last = _checked(registers, before[number:], register)
            value = held(load.address, registers.whole(load, index))
            return last if bits and _fits(value, bits, registers.lowest(load, index)) else None
        elif register in registers.written(instruction):
            source = _moved(registers, instruction)
            if source is None:
                return None
            register = source
        after = instruction.address
    return None


def _writes_flags(instruction: capstone.CsInsn) -> bool:
    return any(instruction.reg_name(one) in _FLAGS for one in instruction.regs_access()[1])


def _checked(
    registers: _Registers, before: Sequence[capstone.CsInsn], register: str
) -> tuple[int, int]:
    """Return how many of the lowest bits of ``register`` the last instruction compares (0: none),
    and with what number.  It may compare what ``register`` was copied from."""
    check, before = before[0], before[1:]
    if check.mnemonic != "cmp":
        return 0, 0
    first, second = check.operands
    if first.type not in _REGISTER or second.type not in _NUMBER or second.imm < 0:
        return 0, 0
    compared = registers.whole(check, first.reg)
    if compared != register and not _is_copy(registers, before, register, compared):
        return 0, 0
    return registers.lowest(check, first.reg), int(second.imm)


def _is_copy(
    registers: _Registers, before: Sequence[capstone.CsInsn], register: str, other: str
) -> bool:
    """Say whether ``register`` is a copy of ``other``, which has not changed since."""
    for instruction in before:
        if register in registers.written(instruction):
            return _moved(registers, instruction) == other
        if other in registers.written(instruction):
            return False
    return False


def _moved(registers: _Registers, instruction: capstone.CsInsn) -> str | None:
    """Return of which register the lowest bits are copied to another one, whose others are 0; None
    if ``instruction`` does something else."""
    if instruction.mnemonic not in _MOVES:
        return None
    into, source = instruction.operands
    if source.type not in _REGISTER or registers.lowest(instruction, into.reg) < 32:
        return None
    is_lowest = registers.lowest(instruction, source.reg) > 0
    return registers.whole(instruction, source.reg) if is_lowest else None


def _fits(value: Value, bits: int, of: int) -> bool:
    """Say whether of the lowest ``of`` bits of ``value`` none is set but the lowest ``bits``."""
    above = (1 << of) - (1 << min(bits, of))
    return not above or not (value.base or value.bits & above or ~value.known & above)
