"""Is the hypervisor hung, or only slow?  Asked when an operation does not come back.

Xen says nothing when a CPU spins for ever with interrupts on.  From outside one sees
where every CPU is: one that is found in the same lock function each time, and whose
registers are the same whenever it is found at the same instruction, spins there.  (A
lock that is only contended moves on: the lock word, which is in a register, changes.)
An event channel's lock function has the channel as its argument, so its lock word and
port can be read from memory and explained.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.arch import Arch
from harness.evidence import Backtrace, LockFault, Spin
from harness.hypervisor.build import Build
from harness.hypervisor.cpu import Cpu
from harness.hypervisor.layout import Memory, channel_at
from harness.hypervisor.symbols import Symbols, symbols
from harness.model.lock.flavours import MAX_VIRT_CPUS
from harness.verdict import HarnessError

_LOOKS, _MOST_LOOKS = 10, 60
_PAUSE = 0.15  # seconds between looks
_MORE = 2  # times that the CPUs are looked at again
_CHANNEL = "evtchn_"  # begins the names of a channel's lock functions
_RAN_NS = 300_000_000  # a CPU that did not run meanwhile stands still, whatever it is at
_FRAME = {Arch.X86_64: "RBP", Arch.ARM64: "X29"}  # points at the caller's and the return address
_MOST_FRAMES = 16
# Where an interrupt or a fault came into Xen on x86-64 (SAVE_ALL), the frame pointer is that of
# the saved %rbp, inverted; above it lie the other registers of struct cpu_user_regs.
_VECTOR, _RIP, _RFLAGS, _REGISTERS_SIZE = 92, 96, 112, 120
_STACK_SIZE = 8 * 4096
_INTERRUPTS_ON = 1 << 9  # in RFLAGS
_FIRST_INTERRUPT = 0x20  # vectors below are exceptions, which nothing masks
_ALL_ONES = 2**64 - 1
_ARGUMENT = {Arch.X86_64: "RDI", Arch.ARM64: "X00"}  # first argument, by the C calling convention


def spins(
    arch: Arch,
    build: Build,
    cpus: Callable[[], Sequence[Cpu]],
    memory: Memory,
    *,
    looks: int = _LOOKS,
) -> list[Spin]:
    """Look at every CPU for a while; return those that spin in a lock function of Xen.

    ``cpus`` says where they are now: QEMU's monitor, or Xen itself when a debug key is pressed.
    Those that spin may only wait for one that spins in a channel's lock, where interrupts are
    on and may have taken it elsewhere for a moment: then it is looked for again.
    """
    if not build.has_symbols:
        return []  # nobody knows what is where in it
    table = symbols(build.syms)

    def seen() -> list[Spin]:
        return [_spin(arch, build, table, cpu, memory) for cpu in _spinning(table, cpus, looks)]

    found = seen()
    for _ in range(_MORE):
        if not found or any(map(_in_a_channel, found)):
            break
        found = seen() or found
    if any(map(_in_a_channel, found)):
        return [replace(spin, cause=_in_a_channel(spin)) for spin in found]
    return found


def backtraces(
    arch: Arch, build: Build, cpus: Callable[[], Sequence[Cpu]], memory: Memory
) -> list[Backtrace]:
    """Return for each CPU the functions of Xen it is in, innermost first.

    A debug build has frame pointers; where memory cannot be read it ends early.
    """
    if not build.has_symbols:
        return []
    table = symbols(build.syms)
    return [
        Backtrace(cpu=cpu.number, frames=tuple(_functions(arch, table, cpu, memory)))
        for cpu in cpus()
    ]


def _functions(arch: Arch, table: Symbols, cpu: Cpu, memory: Memory) -> list[str]:
    found, pc, frame = list[str](), cpu.pc, cpu.registers.get(_FRAME[arch], 0)
    while table.at(pc) is not None and len(found) < _MOST_FRAMES:
        found.append(table.describe(pc))
        try:
            data = memory(cpu.number, frame, 16)
            above, pc = _words(data, 0, 8)
            if arch is Arch.X86_64 and frame < above ^ _ALL_ONES < frame + _STACK_SIZE:
                saved = memory(cpu.number, above ^ _ALL_ONES, _REGISTERS_SIZE)
                above, pc = _words(saved, 0, _RIP)
                if table.at(pc) is not None:
                    found.append(_entry(saved))
        except HarnessError:
            break
        if above <= frame:
            pc = 0  # the outermost, or no frame at all
        frame = above
    return found


def _words(data: bytes, *places: int) -> list[int]:
    return [int.from_bytes(data[at : at + 8], "little") for at in places]


def _entry(saved: bytes) -> str:
    """Return what interrupted Xen, by the registers saved there."""
    vector = saved[_VECTOR]
    (rflags,) = _words(saved, _RFLAGS)
    masked = not rflags & _INTERRUPTS_ON
    what = "interrupt" if vector >= _FIRST_INTERRUPT else "exception"
    told = f"{what} {vector:#x}"
    return f"{told} WITH INTERRUPTS OFF" if masked and what == "interrupt" else told


def _spinning(table: Symbols, cpus: Callable[[], Sequence[Cpu]], looks: int) -> list[Cpu]:
    """Return the CPUs that were in one lock function at each of ``looks`` looks, or more."""
    every: dict[int, list[Cpu]] = {}
    for look in range(_MOST_LOOKS):
        if look:
            time.sleep(_PAUSE)
        for cpu in cpus():
            every.setdefault(cpu.number, []).append(cpu)
        stuck = {number: seen for number, seen in sorted(every.items()) if _stuck(table, seen)}
        if not stuck or (look + 1 >= looks and all(_ran(seen) for seen in stuck.values())):
            break  # nobody is in one lock all the time, or long enough
    return [seen[-1] for seen in stuck.values() if _ran(seen)]


def _stuck(table: Symbols, looks: Sequence[Cpu]) -> bool:
    """Say whether a CPU was in one lock function all the time, and going round there."""
    symbol = table.at(looks[0].pc)
    inside = symbol is not None and "lock" in symbol.name and all(c.pc in symbol for c in looks)
    return inside and _frozen(looks)


def _ran(looks: Sequence[Cpu]) -> bool:
    """Say whether a CPU ran between the first look and the last: a busy machine may stop it."""
    first, last = looks[0].ran_ns, looks[-1].ran_ns
    return first is None or last is None or last - first >= _RAN_NS


def _frozen(looks: Sequence[Cpu]) -> bool:
    """Say whether the registers only ever depended on the instruction."""
    at: dict[int, dict[str, int]] = {}
    return all(at.setdefault(cpu.pc, cpu.registers) == cpu.registers for cpu in looks)


def _spin(arch: Arch, build: Build, table: Symbols, cpu: Cpu, memory: Memory) -> Spin:
    name = table.describe(cpu.pc).partition("+")[0]
    channel = None
    if name.startswith(_CHANNEL):
        try:
            channel = channel_at(build.syms, cpu.registers[_ARGUMENT[arch]], memory, cpu.number)
        except (HarnessError, KeyError, ValueError):
            channel = None  # the place is still worth telling
    word = _held(arch, name, cpu) if channel is None else channel.lock
    writers, readers, fault = decoded(arch, name, word)
    return Spin(
        cpu=cpu.number,
        function=name,
        where=table.describe(cpu.pc),
        port=channel.port if channel is not None else None,
        word=word,
        writers=writers,
        readers=readers,
        fault=fault,
    )


def decoded(
    arch: Arch, function: str, word: int | None
) -> tuple[int | None, int | None, LockFault | None]:
    """Return the writers and readers that a counter's lock ``word`` counts, and what that proves
    of a CPU that spins in ``function``; None where nothing is known."""
    if word is None or function != "evtchn_write_lock":
        return None, None, None
    writers, readers = divmod(word, MAX_VIRT_CPUS[arch.value])
    if word < 0:
        return None, None, LockFault.UNDERFLOW
    if writers == 1 and readers:
        return writers, readers, LockFault.LEAKED_READER
    return writers, readers, LockFault.WRITERS if writers > 1 else None


def _in_a_channel(spin: Spin) -> bool:
    return spin.function.startswith(_CHANNEL)


def _held(arch: Arch, name: str, cpu: Cpu) -> int | None:
    """Return the lock word that ``cpu`` has just read, if one register alone can be it.

    A counter's writer waits for the word to become one writer's; so while it waits, the
    register with what it read holds one writer and something more.
    """
    if name != "evtchn_write_lock":
        return None
    writer = MAX_VIRT_CPUS[arch.value]
    words = {value for value in cpu.registers.values() if writer < value < 3 * writer}
    return words.pop() if len(words) == 1 else None
