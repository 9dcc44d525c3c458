# SPDX-License-Identifier: GPL-2.0-or-later
"""Unicorn, a CPU that knows nothing of our table: it runs the same instructions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import unicorn
from unicorn import arm64_const, x86_const

from harness.arch import Arch

CODE, DATA = 0x40_0000, 0x80_0800  # the words that are accessed are around DATA
_CODE_SIZE, _PAGE = 0x20_0000, 0x1000
_AROUND = 64  # bytes before and behind DATA that are told

NAMES = {
    Arch.ARM64: (*(f"x{number}" for number in range(31)), "sp"),
    Arch.X86_64: (
        *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
        *(f"r{number}" for number in range(8, 16)),
    ),
}


@dataclass(frozen=True)
class Ran:
    """What the CPU has after it ran."""

    registers: Mapping[str, int]
    memory: bytes  # from DATA - 64 to DATA + 64
    pc: int
    trapped: bool

    def at_data(self, size: int) -> int:
        return int.from_bytes(self.memory[_AROUND : _AROUND + size], "little")


class Cpu:
    """One emulated CPU, with ``code`` at CODE."""

    def __init__(self, arch: Arch, code: bytes) -> None:
        assert len(code) < _CODE_SIZE
        if arch is Arch.ARM64:
            self._uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
            self._uc.ctl_set_cpu_model(arm64_const.UC_CPU_ARM64_MAX)
            constants, prefix = arm64_const, "UC_ARM64_REG_"
            self._pc, self._flags = constants.UC_ARM64_REG_PC, constants.UC_ARM64_REG_PSTATE
        else:
            self._uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
            constants, prefix = x86_const, "UC_X86_REG_"
            self._pc, self._flags = constants.UC_X86_REG_RIP, constants.UC_X86_REG_EFLAGS
        self._names = NAMES[arch]
        self._numbers = [getattr(constants, f"{prefix}{name.upper()}") for name in self._names]
        self._no_flags = self._uc.reg_read(self._flags)
        self._uc.mem_map(CODE, _CODE_SIZE)
        self._uc.mem_map(DATA & ~(_PAGE - 1), _PAGE)
        self._uc.mem_write(CODE, code)

    def run(self, start: int, count: int, registers: Mapping[str, int], word: int) -> Ran:
        """Run ``count`` instructions from ``start``; ``word`` is at DATA, 8 bytes, zeros around."""
        around = bytes(_AROUND) + word.to_bytes(8, "little") + bytes(_AROUND - 8)
        self._uc.mem_write(DATA - _AROUND, around)
        for name, number in zip(self._names, self._numbers, strict=True):
            self._uc.reg_write(number, registers[name])
        self._uc.reg_write(self._flags, self._no_flags)
        trapped = False
        try:
            self._uc.emu_start(start, CODE + _CODE_SIZE, count=count)
        except unicorn.UcError as error:
            # It may want to fetch what comes behind the last instruction, where nothing is.
            trapped = error.errno in (unicorn.UC_ERR_EXCEPTION, unicorn.UC_ERR_INSN_INVALID)
            if not trapped and error.errno != unicorn.UC_ERR_FETCH_UNMAPPED:
                raise
        after = self._uc.reg_read_batch(self._numbers)
        return Ran(
            dict(zip(self._names, after, strict=True)),
            bytes(self._uc.mem_read(DATA - _AROUND, 2 * _AROUND)),
            int(self._uc.reg_read(self._pc)),
            trapped,
        )
