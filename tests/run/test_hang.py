# SPDX-License-Identifier: GPL-2.0-or-later
"""Why Xen hangs: which lock each CPU wants, who holds it, who is to blame, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.arch import Arch
from harness.evidence import Hang, LockFault, Spin, words
from harness.hypervisor import locks
from harness.hypervisor.cpu import Cpu
from harness.hypervisor.dwarf.types import record
from harness.hypervisor.locks import Kind, Operation
from harness.hypervisor.objects import Named
from harness.run import hang, samples
from harness.verdict import LabError
from tests.hypervisor.toy_xen import Toy, toy

BUILDS = [
    pytest.param((arch, flags), id=f"{arch}{''.join(flags)}")
    for arch in Arch
    for flags in [("-O1",), ("-O2",)]
]
CHANNEL_SIZE, LEAKED = 12, 2  # of the toy's struct evtchn; a port of d0


@pytest.fixture(params=BUILDS)
def xen(request: pytest.FixtureRequest) -> Toy:
    arch, flags = request.param
    return toy(arch, *flags)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_PAUSE", 0.0)


def nothing(*_: object) -> bytes:
    raise LabError("memory cannot be read")


def spins(xen: Toy, *cpus: Cpu, memory: Any = None) -> list[Spin]:
    return hang.spins(xen.arch, xen.build, lambda: cpus, memory or xen.memory)


def told(found: Sequence[Spin]) -> str:
    return words.message(Hang(cpus=tuple(found)))


def channel(xen: Toy, number: int = 0) -> Cpu:
    at = xen.address("channels") + LEAKED * CHANNEL_SIZE
    return xen.cpu("here_channel", at, number)


def event_lock(xen: Toy, domain: str, number: int) -> Cpu:
    offset = record(xen.elf, "domain", "event_channel.c")["event_lock"].offset
    return xen.cpu("here_rwlock", xen.address(domain) + offset, number)


def test_an_inlined_lock_is_told_with_its_caller_and_port(xen: Toy) -> None:
    (spin,) = spins(xen, channel(xen))
    word = 8193 if xen.arch is Arch.X86_64 else 129
    assert (spin.function, spin.operation) == ("evtchn_write_lock", "evtchn_alloc_unbound")
    assert (spin.domain, spin.port, spin.word) == ("d0", LEAKED, word)
    assert (spin.writers, spin.readers, spin.fault) == (1, 1, LockFault.LEAKED_READER)
    assert spin.where.startswith("do_event_channel_op+")
    assert told([spin]) == (
        "Xen hangs: CPU0 spins in evtchn_write_lock (evtchn_alloc_unbound) on port 2 of d0: "
        f"lock word = {word} = one writer + 1 reader: "
        "a read side that no CPU holds any more was never released"
    )


def test_a_lock_function_of_any_name_is_told(xen: Toy) -> None:
    """By what it is given and reads: a number, which lies where a channel has its lock."""
    at = xen.address("channels") + LEAKED * CHANNEL_SIZE
    (spin,) = spins(xen, xen.cpu("here_renamed", at))
    assert (spin.function, spin.operation) == ("claim", "evtchn_bind_virq")
    assert (spin.domain, spin.port, spin.fault) == ("d0", LEAKED, LockFault.LEAKED_READER)


def test_a_number_that_is_no_lock_is_not_read_as_one(xen: Toy) -> None:
    (spin,) = spins(xen, xen.cpu("here_renamed", xen.address("heap_lock")))
    assert (spin.function, spin.operation) == ("claim", "evtchn_bind_virq")
    assert (spin.word, spin.port, spin.fault) == (None, None, None)


def test_who_waits_for_the_cause_never_stands_for_it(xen: Toy) -> None:
    """CPU0 is the first, and waits for d0's event_lock: CPU1 holds it, and waits for ever."""
    found = spins(xen, event_lock(xen, "d0", 0), channel(xen, 1))
    assert [(spin.cpu, spin.cause, spin.holder) for spin in found] == [
        (1, True, None),
        (0, False, 1),
    ]
    assert found[0].holds == ("d0's event_lock",)
    assert told(found).endswith(
        "; CPU0 spins in _write_lock (evtchn_close) for d0's event_lock, which CPU1 holds"
    )


def test_two_that_wait_for_each_other_are_told_as_that(xen: Toy) -> None:
    found = spins(xen, event_lock(xen, "d0", 0), event_lock(xen, "d1", 1))
    assert all(spin.cause and spin.circle for spin in found)
    assert told(found) == (
        "Xen hangs: CPU0 spins in _write_lock (evtchn_close) for d0's event_lock, "
        "which CPU1 holds, and holds d1's event_lock; "
        "CPU1 spins in _write_lock (evtchn_close) for d1's event_lock, "
        "which CPU0 holds, and holds d0's event_lock: each waits for the other"
    )


def test_who_else_waits_is_told_after_the_circle(xen: Toy) -> None:
    found = spins(xen, event_lock(xen, "d0", 0), event_lock(xen, "d1", 1), event_lock(xen, "d1", 2))
    assert [(spin.cpu, spin.circle, spin.cause) for spin in found] == [
        (0, True, True),
        (1, True, True),
        (2, False, False),
    ]
    assert ": each waits for the other; CPU2 spins in _write_lock" in told(found)


def test_the_port_that_the_operation_was_asked_for_is_told() -> None:
    spin = Spin(
        cpu=0,
        function="_write_lock",
        where="",
        operation="evtchn_close",
        operation_domain="d1",
        operation_port=7,
        domain="d0",
        lock="event_lock",
        holder=1,
        cause=False,
    )
    assert words.spin(spin) == (
        "CPU0 spins in _write_lock (evtchn_close of port 7 of d1) for d0's event_lock, "
        "which CPU1 holds"
    )


def test_who_waits_for_the_same_lock_does_not_hold_it(xen: Toy) -> None:
    """Both have the channel in their hands, and neither is a reader of it."""
    found = spins(xen, channel(xen, 0), channel(xen, 1))
    assert [(spin.holder, spin.circle) for spin in found] == [(None, False)] * 2
    assert {spin.fault for spin in found} == {LockFault.LEAKED_READER}


def test_a_lock_that_nobody_who_spins_holds_is_the_cause_itself(xen: Toy) -> None:
    (spin,) = spins(xen, event_lock(xen, "d0", 0))
    assert (spin.cause, spin.holder, spin.lock, spin.domain) == (True, 1, "event_lock", "d0")


def test_a_vcpus_a_queues_and_a_global_lock_are_named(xen: Toy) -> None:
    """A debug build notes who holds a spinlock: CPU3, CPU6 and CPU2 do."""
    virq_lock = xen.address("v10") + 4
    queue = record(xen.elf, "evtchn_fifo_queue", "event_fifo.c")
    fifo = record(xen.elf, "evtchn_fifo_vcpu", "event_fifo.c")
    queue_lock = xen.address("fifo10") + fifo["queue"].offset + 2 * queue.size
    found = spins(
        xen,
        xen.cpu("here_spinlock", virq_lock, 0),
        xen.cpu("here_spinlock", queue_lock + queue["lock"].offset, 1),
        xen.cpu("here_spinlock", xen.address("heap_lock"), 4),
    )
    assert [(spin.domain, spin.lock, spin.holder) for spin in found] == [
        ("d1v0", "virq_lock", 3),
        ("d1v0", "FIFO queue 2 lock", 6),
        ("", "heap_lock", 2),
    ]
    assert "for heap_lock, which CPU2 holds" in told(found)


def test_without_memory_the_operation_is_still_told(xen: Toy) -> None:
    (spin,) = spins(xen, channel(xen), memory=nothing)
    assert (spin.function, spin.operation) == ("evtchn_write_lock", "evtchn_alloc_unbound")
    assert (spin.port, spin.word) == (None, None)


def test_without_memory_a_channels_lock_is_the_likely_cause(xen: Toy) -> None:
    found = spins(xen, event_lock(xen, "d0", 0), channel(xen, 1), memory=nothing)
    assert [(spin.cpu, spin.cause) for spin in found] == [(1, True), (0, False)]


def test_a_contended_counter_whose_reader_is_inside_is_no_leak() -> None:
    wanted = Operation("evtchn_write_lock", "", Kind.COUNTER, 1, Named("d0", "lock", 5))
    word = locks.counted(Arch.X86_64, 8193)
    assert hang.fault(word, wanted, {1}) is None
    assert hang.fault(word, wanted) is LockFault.LEAKED_READER


@pytest.mark.parametrize(
    ("arch", "lock", "says"),
    [
        (Arch.X86_64, 8193, "lock word = 8193 = one writer + 1 reader: a read side"),
        (Arch.ARM64, 130, "lock word = 130 = one writer + 2 readers: a read side"),
        (Arch.X86_64, 16384, "= 2 writers"),
        (Arch.X86_64, -1, "below zero"),
    ],
)
def test_the_lock_word_is_explained(arch: Arch, lock: int, says: str) -> None:
    word = locks.counted(arch, lock)
    wanted = Operation("evtchn_write_lock", "", Kind.COUNTER, 1, Named("", "lock", 21))
    fault = hang.fault(word, wanted)
    assert fault is not None
    spin = Spin(
        cpu=0,
        function=wanted.function,
        where="evtchn_write_lock+0x4/0x40",
        port=21,
        word=lock,
        writers=word.writers,
        readers=word.readers,
        fault=fault,
    )
    told = words.spin(spin)
    assert told.startswith("CPU0 spins in evtchn_write_lock on port 21: ")
    assert says in told


@pytest.mark.parametrize(
    ("header", "value", "said"),
    [
        ("#define    _QW_SHIFT    12 /* */\n", 3 << 12 | 5, (1, 0, 5)),
        ("#define    _QW_SHIFT    12 /* */\n", 2 << 14 | 1 << 12, (1, 2, None)),  # it waits
        ("#define    _QW_SHIFT    14 /* */\n", 3 << 14 | 5, (1, 0, 5)),  # from 4.19 on
        ("#define    _QR_SHIFT    8 /* */\n", 0xFF, (1, 0, None)),  # before 4.14 no CPU is in it
        ("#define    _QR_SHIFT    (_QW_BITS + 2)\n", 0xFF, (None, None, None)),  # nobody knows
    ],
)
def test_a_rwlocks_word_is_read_as_its_release_writes_it(
    header: str, value: int, said: tuple[int | None, ...], tmp_path: Path
) -> None:
    place = tmp_path / "xen" / "include" / "xen" / "rwlock.h"
    place.parent.mkdir(parents=True)
    place.write_text(header)
    word = locks.shared(SimpleNamespace(tree=tmp_path), value)  # type: ignore[arg-type]
    assert (word.writers, word.readers, word.owner) == said


@pytest.mark.parametrize(("held", "word"), [(1, 1), (0, None)])  # a writer alone: no hang
def test_without_memory_a_register_tells_the_lock_word(
    xen: Toy, held: int, word: int | None
) -> None:
    """A physical server shows its CPUs' registers on the console and nothing else."""
    at = xen.cpu("here_channel", 0xFFFF83009FFC78C0)
    (name,) = locks.loaded(xen.elf, xen.arch, [at])
    writer = locks.WRITER[xen.arch]
    at = xen.cpu("here_channel", 0xFFFF83009FFC78C0, 0, **{name: writer + held})
    (spin,) = spins(xen, at, memory=nothing)
    assert (spin.port, spin.word) == (None, word and writer + word)


def test_without_memory_what_a_guest_left_in_a_register_is_no_lock_word(xen: Toy) -> None:
    """Seen on arm64: X1 was the word, 129; X11, which the loop never touches, was dom0's 192."""
    at = xen.cpu("here_channel", 0xFFFF83009FFC78C0)
    loaded = locks.loaded(xen.elf, xen.arch, [at])
    assert len(loaded) == 1
    word = locks.WRITER[xen.arch] + 1
    stray = dict.fromkeys({"RBX", "R11", "X11", "X20"} - loaded, word + 63)
    at = xen.cpu("here_channel", 0xFFFF83009FFC78C0, 0, **stray, **dict.fromkeys(loaded, word))
    (spin,) = spins(xen, at, memory=nothing)
    assert (spin.port, spin.word) == (None, word)


def test_a_loop_without_a_lock_is_a_hang_where_the_cpu_is_seen_to_run(xen: Toy) -> None:
    """No name says what it waits for; on a server, whose CPU may as well stand, nothing is said."""
    turns = iter(range(1000))
    at = xen.address("_start")

    def running() -> list[Cpu]:
        return [Cpu(0, at, {}, ran_ns=next(turns) * 100_000_000)]

    (spin,) = hang.spins(xen.arch, xen.build, running, nothing)
    assert (spin.function, spin.lock, spin.cause) == ("_start", "", True)
    assert hang.spins(xen.arch, xen.build, lambda: [Cpu(0, at, {})], nothing) == []


def test_backtraces_tell_inlined_functions_too(xen: Toy) -> None:
    (seen,) = hang.backtraces(xen.arch, xen.build, lambda: [channel(xen)], nothing)
    line = words.backtrace(seen)
    assert line.startswith("CPU0: evtchn_write_lock (event_channel.c:")
    assert " < evtchn_alloc_unbound (event_channel.c:" in line
    assert " < do_event_channel_op+0x" in line


def test_backtraces_of_a_guest_say_so(xen: Toy) -> None:
    cpus = [Cpu(1, 0x7FFF1234, {})]
    (seen,) = hang.backtraces(xen.arch, xen.build, lambda: cpus, nothing)
    assert words.backtrace(seen) == "CPU1: in its guest"
