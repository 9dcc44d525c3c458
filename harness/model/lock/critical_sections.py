# SPDX-License-Identifier: GPL-2.0-or-later
"""The lock under a memory model: does a critical section see other sections as a whole?

On real hardware, whether two threads were in the lock together can only be seen in memory.  So
the critical sections work on data: a writer changes two words and readers compare them, or
readers change two words and a writer compares them.  A section that finds one word changed and
the other not has overlapped the other section.
"""

from __future__ import annotations

from dataclasses import replace

from harness.model.explore.program import (
    Branch,
    Never,
    Program,
    Role,
    System,
    Variable,
    assign,
    load,
    store,
)
from harness.model.lock.flavours import MAX_VIRT_CPUS
from harness.model.lock.lock_functions import CriticalSection, Lock
from harness.model.lock.locks import LOCKS

WRITER_SEEN_WHOLE = "readers see a writer's section whole"
READER_SEEN_WHOLE = "a writer sees a reader's section whole"

_AT = "in the section"
_WRITES: CriticalSection = (
    store("write x", "x", _AT, assign("", x=1)),
    store("write y", "y", _AT, assign("", y=1)),
)
_READS: CriticalSection = (
    replace(load("read x", "x", _AT, Branch("", "")), observe="rx"),
    replace(load("read y", "y", _AT, Branch("", "")), observe="ry"),
)
_NEVER = "rx != ry"


def writer_seen_whole(lock: Lock, readers: int, writers: int, blocks: bool = False) -> System:
    """The writer changes, readers compare: evtchn_close() and evtchn_send()."""
    return _system(WRITER_SEEN_WHOLE, lock, (readers, _READS), (writers, _WRITES), blocks)


def reader_seen_whole(lock: Lock, readers: int, writers: int, blocks: bool = False) -> System:
    """Readers change, the writer compares: set_pending() in evtchn_send(), and evtchn_close()."""
    return _system(READER_SEEN_WHOLE, lock, (readers, _WRITES), (writers, _READS), blocks)


def _system(
    claim: str,
    lock: Lock,
    readers: tuple[int, CriticalSection],
    writers: tuple[int, CriticalSection],
    blocks: bool,
) -> System:
    acquire = lock.read if blocks else lock.tryread
    reader = acquire("reader", readers[1], "evtchn_send")
    # One writer needs no event_lock.  Several exclude each other by it, not by the channel's lock.
    writer = lock.write("writer", writers[1], "evtchn_close", writers[0] > 1)
    roles = (Role(_plain(reader), readers[0]), Role(_plain(writer), writers[0]))
    variables = (*lock.variables, Variable("x"), Variable("y"))
    never = (Never(claim, _NEVER),)
    width = MAX_VIRT_CPUS["x86_64"]
    constants = (("W", width), ("H", width // 2))  # H: for a mutant that halves W
    name = f"{lock.name}: {claim}"
    return System(name, roles, variables, constants, never)


def _plain(program: Program) -> Program:
    """Drop the properties about other threads' steps: under a memory model nobody sees those."""
    steps = (
        replace(step, branches=tuple(replace(b, requires="", claim="") for b in step.branches))
        for step in program.steps
    )
    return replace(program, steps=tuple(steps))


def weak_systems(flavour: str, readers: int, writers: int) -> tuple[System, ...]:
    """Return the systems whose properties must hold of ``flavour`` under every memory model."""
    lock = LOCKS[flavour]
    made = [
        writer_seen_whole(lock, readers, writers),
        reader_seen_whole(lock, readers, writers),
    ]
    if flavour == "rwlock":  # a VIRQ only tries, evtchn_send() waits
        blocking = (
            writer_seen_whole(lock, readers, writers, True),
            reader_seen_whole(lock, readers, writers, True),
        )
        made += [replace(system, name=f"{system.name} (blocking)") for system in blocking]
    return tuple(made)


for _flavour in LOCKS:
    weak_systems(_flavour, 1, 1)  # a mistake in a formula raises ProgramError on import
