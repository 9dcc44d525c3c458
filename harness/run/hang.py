# SPDX-License-Identifier: GPL-2.0-or-later
"""Find out why the hypervisor hangs, when an operation does not return.

Xen reports nothing if a CPU spins for ever with interrupts on.  But from outside we see where each
CPU is (``samples``), from which operation it came there, and which lock it wants.  Where memory can
be read, we also see the lock word and which CPU holds the lock.  A CPU that waits for a lock that
another spinning CPU holds is a victim.  The CPU at the end of such a chain is the cause; if CPUs
wait for each other in a circle, each of them is a cause.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from harness.arch import Arch
from harness.evidence import Backtrace, LockFault, Spin
from harness.hypervisor import locks
from harness.hypervisor.build import Build
from harness.hypervisor.cpu import Cpu
from harness.hypervisor.dwarf.types import record
from harness.hypervisor.layout import Memory
from harness.hypervisor.locks import Kind, Operation, Word
from harness.hypervisor.objects import Objects
from harness.hypervisor.stack import Stack, reader, stack
from harness.hypervisor.symbols import symbols
from harness.run import samples
from harness.verdict import HarnessError

_MORE = 2  # how many times the search is repeated
_CHANNEL = "evtchn"


def spins(
    arch: Arch,
    build: Build,
    cpus: Callable[[], Sequence[Cpu]],
    memory: Memory,
    *,
    looks: int = samples.LOOKS,
) -> list[Spin]:
    """Look at every CPU for a while; return those that spin in Xen, the causes first.

    ``cpus`` returns their state now, from QEMU's monitor or from Xen's debug key.  If the holder of
    a lock is not among the spinning CPUs, it may have been in an interrupt at the time: then the
    search is repeated.
    """
    if not build.has_symbols:
        return []  # nobody knows what is where in it
    table = symbols(build.syms)
    found: list[Spin] = []
    for _ in range(1 + _MORE):
        loops = samples.spinning(table, cpus, looks)
        found = _explained(arch, build, loops, cpus, memory) or found
        if not found or any(is_certain(spin) for spin in found):
            break
    return found


def backtraces(
    arch: Arch, build: Build, cpus: Callable[[], Sequence[Cpu]], memory: Memory
) -> list[Backtrace]:
    """Return for each CPU the functions of Xen that it is in, innermost first, inlined ones too.

    A backtrace ends where the stack cannot be read.
    """
    if not build.has_symbols:
        return []
    return [
        Backtrace(
            cpu=cpu.number,
            frames=stack(build.syms, arch, cpu, memory).texts if cpu.in_xen else (),
        )
        for cpu in cpus()
    ]


def is_certain(spin: Spin) -> bool:
    """Return whether ``spin`` explains the hang without any other CPU."""
    return spin.circle or spin.fault is not None or (spin.cause and spin.port is not None)


@dataclass(frozen=True)
class _Waiting:
    """A spinning CPU: where it is, and the lock that it wants."""

    cpu: Cpu
    operation: Operation | None  # None: it spins, but not for a lock
    holders: frozenset[int]  # the CPUs that hold the lock, as far as they are known

    @property
    def in_channel(self) -> bool:
        """True if it wants the lock of an event channel."""
        wanted = self.operation
        if wanted is None:
            return False
        return wanted.named.port is not None or wanted.function.startswith(f"{_CHANNEL}_")


@dataclass(frozen=True)
class _Scene:
    """All observations of one hang."""

    arch: Arch
    build: Build
    objects: Objects
    waiting: tuple[_Waiting, ...]

    @functools.cached_property
    def circle(self) -> frozenset[int]:
        """The CPUs that wait for each other in a circle."""
        spinning = {one.cpu.number for one in self.waiting}
        edges = {one.cpu.number: one.holders & spinning for one in self.waiting}

        def reached(start: int) -> set[int]:
            todo, seen = list(edges[start]), set[int]()
            while todo:
                at = todo.pop()
                if at not in seen:
                    seen.add(at)
                    todo += edges[at]
            return seen

        return frozenset(cpu for cpu in edges if cpu in reached(cpu))

    def is_cause(self, one: _Waiting) -> bool:
        """Return whether ``one`` is a cause: no holder of its lock spins, or it is in a circle."""
        number, wanted = one.cpu.number, one.operation
        if number in self.circle:
            return True
        others = [other for other in self.waiting if other is not one]
        if wanted is None:
            return not any(other.operation for other in others)
        if one.holders:
            return not any(other.cpu.number in one.holders for other in others)
        # The holder is not known: a CPU that spins in a channel's lock is the most likely cause.
        return one.in_channel or not any(other.in_channel for other in others)


def _explained(
    arch: Arch,
    build: Build,
    loops: Mapping[int, Sequence[Cpu]],
    cpus: Callable[[], Sequence[Cpu]],
    memory: Memory,
) -> list[Spin]:
    if not loops:
        return []
    latest = {number: loop[-1] for number, loop in loops.items()}
    objects = Objects(build.syms, reader(next(iter(latest.values())), memory))
    everybody = {cpu.number: cpu for cpu in cpus()} | latest
    stacks = {n: stack(build.syms, arch, cpu, memory) for n, cpu in everybody.items() if cpu.in_xen}
    wanted = {
        number: locks.operation(stacks[number], arch, build.source, objects, loop)
        for number, loop in loops.items()
    }
    waiting = [
        _Waiting(cpu, wanted[number], _holders(number, wanted, stacks, build))
        for number, cpu in latest.items()
        # Without a lock we cannot tell whether a real CPU spins here or stands still.
        if wanted[number] is not None or cpu.ran_ns is not None
    ]
    scene = _Scene(arch, build, objects, tuple(waiting))
    found = [_spin(scene, one, loops[one.cpu.number]) for one in waiting]
    return sorted(found, key=lambda spin: (not spin.cause, spin.fault is None, spin.cpu))


def _holders(
    cpu: int, wanted: Mapping[int, Operation | None], stacks: Mapping[int, Stack], build: Build
) -> frozenset[int]:
    """Return the CPUs that keep ``cpu`` from its lock: the one that the word names, or those that
    are inside with that channel, or that wait before it.  ``wanted``: what each CPU waits for."""
    mine = wanted[cpu]
    if mine is None or mine.address is None:
        return frozenset()
    if mine.word is not None and mine.word.owner is not None:
        return frozenset({mine.word.owner})
    queued = {n for n, it in wanted.items() if n != cpu and it and it.address == mine.address}
    if not mine.writes:  # a writer that waits lets no more readers in
        return frozenset(n for n in queued if (other := wanted[n]) and other.writes)
    if mine.named.port is None:
        return frozenset()
    channel = mine.address - record(build.syms, _CHANNEL, "event_channel.c")["lock"].offset
    others = (n for n in stacks if n != cpu and n not in queued)
    return frozenset(n for n in others if _inside(stacks[n], channel))


def _inside(other: Stack, channel: int) -> bool:
    """Say whether a CPU is in a function that works on ``channel``."""
    return any(
        value == channel
        for site in other.sites
        for variable, value in other.pointers(site)
        if variable.target == _CHANNEL
    )


def _spin(scene: _Scene, one: _Waiting, loop: Sequence[Cpu]) -> Spin:
    cpu, wanted = one.cpu, one.operation
    where = symbols(scene.build.syms).describe(cpu.pc)
    cause = scene.is_cause(one)
    if wanted is None:
        function = where.partition("+")[0]
        return Spin(cpu=cpu.number, function=function, where=where, cause=cause)
    word = wanted.word or _held(scene, wanted, loop)
    return Spin(
        cpu=cpu.number,
        function=wanted.function,
        where=where,
        port=wanted.named.port,
        word=word.value if word else None,
        writers=word.writers if word else None,
        readers=word.readers if word else None,
        fault=fault(word, wanted, one.holders) if word else None,
        cause=cause,
        operation=wanted.operation,
        operation_domain=wanted.about.domain,
        operation_port=wanted.about.port,
        domain=wanted.named.domain,
        lock=wanted.named.member,
        holder=min(one.holders, default=None),
        holds=_holds(scene, cpu.number),
        circle=cpu.number in scene.circle,
    )


def fault(word: Word, wanted: Operation, holders: Collection[int] = ()) -> LockFault | None:
    """Return the fault that ``word`` proves, if ``wanted`` waits for the write side of its lock."""
    if wanted.kind is Kind.COUNTER and word.value < 0:
        return LockFault.UNDERFLOW
    if word.writers is None or not wanted.writes or holders:
        return None
    if word.writers == 1 and word.readers:
        return LockFault.LEAKED_READER
    return LockFault.WRITERS if word.writers > 1 else None


def _holds(scene: _Scene, cpu: int) -> tuple[str, ...]:
    """Return the locks that ``cpu`` is known to hold: those that others wait for, and the
    domains' event_locks."""
    found = [
        other.operation.named.text
        for other in scene.waiting
        if other.operation is not None and cpu in other.holders and other.operation.named.text
    ]
    build, objects = scene.build, scene.objects
    for domain in objects.domains():
        try:
            address, kind = objects.event_lock(domain)
        except (HarnessError, KeyError):
            continue
        known = Kind.RWLOCK if kind == "rwlock_t" else Kind.SPINLOCK
        word = locks.read_word(build.syms, scene.arch, build.source, objects, known, address)
        if word is not None and word.owner == cpu:
            found.append(f"d{domain.number}'s event_lock")
    return tuple(dict.fromkeys(found))


def _held(scene: _Scene, wanted: Operation, loop: Sequence[Cpu]) -> Word | None:
    """Return the lock word that a CPU has just read in its ``loop``, if one register can be it.

    A counter's writer waits for the word to become one writer's; so while it waits, the
    register with what it read holds one writer and something more.
    """
    if wanted.function != "evtchn_write_lock" or wanted.kind not in (Kind.COUNTER, None):
        return None
    writer = locks.WRITER[scene.arch]
    registers = loop[-1].registers
    names = locks.loaded(scene.build.syms, scene.arch, loop) or registers.keys()
    found = {value for name in names if writer < (value := registers.get(name, 0)) < 3 * writer}
    return locks.counted(scene.arch, found.pop()) if len(found) == 1 else None
