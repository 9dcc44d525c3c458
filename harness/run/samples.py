"""Which CPUs go round in Xen for ever?  Told from a busy guest, and from a lock that is only
contended, by looking several times.

A CPU that spins is found in one function each time, with registers that depend on nothing but the
instruction: a lock that moves on shows, for its word is in a register.  Interrupts may be on
there: then it is also found deeper in the same stack, and comes back.
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
_RAN_NS = 300_000_000  # a CPU that did not run meanwhile stands still, whatever it is at
_SHARE = 0.6  # of the looks must find it in the loop, the others in an interrupt
_STACK_SIZE = 8 * 4096
_STACK = ("RSP", "SP")
_IDLE = ("idle", "halt")  # parts of the names of functions that wait for an interrupt


def spinning(
    table: Symbols, cpus: Callable[[], Sequence[Cpu]], looks: int = LOOKS
) -> dict[int, list[Cpu]]:
    """Look at every CPU ``looks`` times, or more; return those that spin in Xen, by number: how
    they were found in their loop, oldest first."""
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
            break  # nobody is in one function all the time
    return {number: loop for number, loop in sorted(loops.items()) if _ran(loop)}


def _loop(table: Symbols, seen: Sequence[Cpu]) -> list[Cpu]:
    """Return those of ``seen``, looks at one CPU, that found it in the loop where it spins."""
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
    """Say whether the registers only ever depended on the instruction."""
    at: dict[int, dict[str, int]] = {}
    return all(at.setdefault(cpu.pc, cpu.registers) == cpu.registers for cpu in looks)


def _interrupts(cpu: Cpu, loop: Cpu) -> bool:
    """Say whether ``cpu`` was found in something that came between: deeper in the same stack."""
    for name in _STACK:
        if name in cpu.registers and name in loop.registers:
            return cpu.in_xen and 0 < loop.registers[name] - cpu.registers[name] < _STACK_SIZE
    return False


def _ran(looks: Sequence[Cpu]) -> bool:
    """Say whether a CPU ran between the first look and the last: a busy machine may stop it."""
    first, last = looks[0].ran_ns, looks[-1].ran_ns
    return first is None or last is None or last - first >= _RAN_NS
