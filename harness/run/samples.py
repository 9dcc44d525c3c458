# SPDX-License-Identifier: GPL-2.0-or-later
"""Find the CPUs that spin in Xen for ever, by looking at every CPU several times.

Such a CPU is in the same function each time, and at the same instruction its registers are always
the same.  If the lock is only contended, they change, because a register holds the lock word.  If
interrupts are on, the CPU may also be seen in an interrupt, deeper in the same stack, and then in
its loop again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from harness.hypervisor.cpu import Cpu
from harness.hypervisor.symbols import Symbols

LOOKS = 10
_MOST_LOOKS = 60
_PAUSE = 0.15  # seconds between looks
_RAN_NS = 300_000_000  # a CPU that ran for less than this cannot be judged
_SHARE = 0.6  # of the looks must see it in the loop; the others may see an interrupt
_STACK_SIZE = 8 * 4096
_STACK = ("RSP", "SP")
_IDLE = ("idle", "halt")  # in the names of functions that wait for an interrupt


def spinning(
    table: Symbols, cpus: Callable[[], Sequence[Cpu]], looks: int = LOOKS
) -> dict[int, list[Cpu]]:
    """Look at every CPU at least ``looks`` times; return those that spin in Xen, by number: their
    states in the loop, oldest first."""
    every: dict[int, list[Cpu]] = {}
    for look in range(_MOST_LOOKS):
        if look:
            time.sleep(_PAUSE)
        for cpu in cpus():
            every.setdefault(cpu.number, []).append(cpu)
        loops = {number: loop for number, seen in every.items() if (loop := _loop(table, seen))}
        if look + 1 >= looks and all(map(_ran, loops.values())):
            break
        if look + 1 >= looks // 2 and not loops:
            break  # no CPU is in one function all the time
    return {number: loop for number, loop in sorted(loops.items()) if _ran(loop)}


def _loop(table: Symbols, seen: Sequence[Cpu]) -> list[Cpu]:
    """Return those of ``seen``, the states of one CPU, in which it is in its loop."""
    names = Counter(symbol for cpu in seen if (symbol := _function(table, cpu)))
    if not names:
        return []
    address, share = names.most_common(1)[0]
    inside = [cpu for cpu in seen if _function(table, cpu) == address]
    others = [cpu for cpu in seen if _function(table, cpu) != address]
    if share < _SHARE * len(seen) or not _frozen(inside):
        return []
    return inside if all(_interrupts(cpu, inside[0]) for cpu in others) else []


def _function(table: Symbols, cpu: Cpu) -> int:
    """Return the address of the function of Xen that ``cpu`` is in; 0 if it is in none, or idle."""
    symbol = table.at(cpu.pc) if cpu.in_xen else None
    if symbol is None or any(part in symbol.name for part in _IDLE):
        return 0
    return symbol.address


def _frozen(looks: Sequence[Cpu]) -> bool:
    """Return whether the registers were always the same at the same instruction."""
    at: dict[int, dict[str, int]] = {}
    return all(at.setdefault(cpu.pc, cpu.registers) == cpu.registers for cpu in looks)


def _interrupts(cpu: Cpu, loop: Cpu) -> bool:
    """Return whether ``cpu`` was in an interrupt of the loop: deeper in the same stack."""
    for name in _STACK:
        if name in cpu.registers and name in loop.registers:
            return cpu.in_xen and 0 < loop.registers[name] - cpu.registers[name] < _STACK_SIZE
    return False


def _ran(looks: Sequence[Cpu]) -> bool:
    """Return whether a CPU ran between the first and last look; a busy host may stop it."""
    first, last = looks[0].ran_ns, looks[-1].ran_ns
    return first is None or last is None or last - first >= _RAN_NS
