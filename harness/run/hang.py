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
from dataclasses import dataclass

from harness.arch import Arch
from harness.hypervisor.build import Build
from harness.hypervisor.layout import Channel, Memory, channel_at
from harness.hypervisor.symbols import Symbols, symbols
from harness.machine.cpus import Cpu
from harness.verdict import HarnessError

_LOOKS = 10
_PAUSE = 0.15  # seconds between looks
_ARGUMENT = {Arch.X86_64: "RDI", Arch.ARM64: "X00"}  # first argument, by the C calling convention
# One writer counts for so much in the counter flavours (MAX_VIRT_CPUS).
_WRITER = {Arch.X86_64: 8192, Arch.ARM64: 128}


@dataclass(frozen=True)
class Spin:
    """A CPU that spins in one lock function."""

    cpu: int
    where: str  # "evtchn_write_lock+0x1a/0x30"
    function: str
    channel: Channel | None


def spins(
    arch: Arch, build: Build, cpus: Callable[[], Sequence[Cpu]], memory: Memory
) -> list[Spin]:
    """Look at every CPU for a while; return those that spin in a lock function of Xen."""
    table = symbols(build.syms)
    looks: dict[int, list[Cpu]] = {}
    for look in range(_LOOKS):
        if look:
            time.sleep(_PAUSE)
        for cpu in cpus():
            looks.setdefault(cpu.number, []).append(cpu)
    found = []
    for _, seen in sorted(looks.items()):
        symbol = table.at(seen[0].pc)
        if (
            symbol is not None
            and "lock" in symbol.name
            and all(cpu.pc in symbol for cpu in seen)
            and _frozen(seen)
        ):
            found.append(_spin(arch, build, table, symbol.name, seen[-1], memory))
    return found


def _frozen(looks: Sequence[Cpu]) -> bool:
    """Say whether the registers only ever depended on the instruction."""
    at: dict[int, dict[str, int]] = {}
    return all(at.setdefault(cpu.pc, cpu.registers) == cpu.registers for cpu in looks)


def _spin(arch: Arch, build: Build, table: Symbols, name: str, cpu: Cpu, memory: Memory) -> Spin:
    channel = None
    if name.startswith("evtchn_"):
        try:
            channel = channel_at(build.syms, cpu.registers[_ARGUMENT[arch]], memory, cpu.number)
        except (HarnessError, KeyError, ValueError):
            channel = None  # the place is still worth telling
    return Spin(cpu.number, table.describe(cpu.pc), name, channel)


def explain(arch: Arch, spinning: Sequence[Spin]) -> str:
    """Return what ``spinning`` means, in a sentence per CPU."""
    return "; ".join(_sentence(arch, spin) for spin in spinning)


def _sentence(arch: Arch, spin: Spin) -> str:
    head = f"CPU{spin.cpu} spins in {spin.function}"
    channel = spin.channel
    if channel is None:
        return head
    head += f" on port {channel.port}: lock word = {channel.lock}"
    writer = _WRITER[arch]
    if channel.lock is None or spin.function != "evtchn_write_lock":
        return head
    writers, readers = divmod(channel.lock, writer)
    if channel.lock < 0:
        return f"{head}, below zero: a read side was released more often than taken"
    if writers == 1 and readers:
        return (
            f"{head} = one writer + {readers} reader{'s' if readers > 1 else ''}: "
            "a read side that no CPU holds any more was never released"
        )
    if writers > 1:
        return f"{head} = {writers} writers: each waits for the other"
    return head
