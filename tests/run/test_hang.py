"""Hung or slow: what repeated looks at the CPUs mean, and how it is told."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.arch import Arch
from harness.evidence import LockFault, Spin, words
from harness.hypervisor.cpu import Cpu
from harness.hypervisor.layout import Channel, Memory
from harness.hypervisor.symbols import Symbol, Symbols
from harness.run import hang
from harness.verdict import LabError

TABLE = Symbols(
    [
        Symbol("evtchn_write_lock", 0x1000, 0x40, True),
        Symbol("default_idle", 0x2000, 0x40, True),
        Symbol("do_event_channel_op", 0x3000, 0x40, True),
        Symbol("queue_write_lock_slowpath", 0x4000, 0x40, True),
    ]
)
BUILD = SimpleNamespace(syms=Path("xen-syms"), has_symbols=True)


def channel(_syms: Path, address: int, memory: Memory, cpu: int) -> Channel:
    memory(cpu, address, 64)
    return Channel(21, 0, 8193)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hang, "_PAUSE", 0.0)
    monkeypatch.setattr(hang, "symbols", lambda _elf: TABLE)
    monkeypatch.setattr(hang, "channel_at", channel)


def look(*rounds: Sequence[int], moving: bool = False) -> list[Spin]:
    """Look at CPUs whose program counters are ``rounds``, again and again."""
    turns = itertools.cycle(rounds)
    ticket = itertools.count()

    def cpus() -> list[Cpu]:
        word = next(ticket) if moving else 0
        return [Cpu(n, pc, {"RDI": 0x5000, "RAX": word}) for n, pc in enumerate(next(turns))]

    return hang.spins(Arch.X86_64, BUILD, cpus, lambda *_a: b"")  # type: ignore[arg-type]


def test_a_cpu_that_stays_in_the_lock_spins() -> None:
    (spin,) = look([0x1004, 0x2000], [0x1010, 0x2000])
    assert (spin.cpu, spin.function) == (0, "evtchn_write_lock")


def test_a_cpu_that_passes_through_does_not() -> None:
    assert look([0x1004, 0x2000], [0x3000, 0x2000]) == []


def test_a_contended_lock_that_moves_on_does_not() -> None:
    """Seen on arm64 under TCG: both CPUs in _spin_lock at every look, tickets advancing."""
    assert look([0x1004, 0x1010], [0x1010, 0x1004], moving=True) == []


def test_idle_cpus_do_not() -> None:
    assert look([0x2000, 0x2004]) == []


def test_guest_code_does_not() -> None:
    assert look([0x7FFF0000, 0x7FFF0000]) == []


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
    function = "evtchn_write_lock"
    writers, readers, fault = hang.decoded(arch, function, lock)
    assert fault is not None
    spin = Spin(
        cpu=0,
        function=function,
        where="evtchn_write_lock+0x4/0x40",
        port=21,
        word=lock,
        writers=writers,
        readers=readers,
        fault=fault,
    )
    told = words.spin(spin)
    assert told.startswith("CPU0 spins in evtchn_write_lock on port 21: ")
    assert says in told


@pytest.mark.parametrize(
    ("registers", "word"),
    [
        ({"RDI": 0xFFFF83009FFC78C0, "RAX": 8193, "RBX": 9}, 8193),
        ({"RDI": 0xFFFF83009FFC78C0, "RAX": 8193, "RBX": 8195}, None),  # which of the two?
        ({"RDI": 0xFFFF83009FFC78C0, "RAX": 8192, "RBX": 9}, None),  # a writer alone: no hang
    ],
)
def test_without_memory_a_register_tells_the_lock_word(
    registers: dict[str, int], word: int | None
) -> None:
    """A physical server shows its CPUs' registers on the console and nothing else."""

    def nothing(*_: object) -> bytes:
        raise LabError("memory cannot be read")

    hang_spins = hang.spins(
        Arch.X86_64,
        BUILD,  # type: ignore[arg-type]
        lambda: [Cpu(0, 0x1004, registers)],
        nothing,
    )
    assert [(spin.port, spin.word) for spin in hang_spins] == [(None, word)]


@pytest.mark.parametrize(("each", "found"), [(0, 0), (1_000_000, 0), (40_000_000, 1)])
def test_a_cpu_that_did_not_run_does_not_spin(each: int, found: int) -> None:
    """On a machine with too much to do an emulated CPU can stand still inside a lock."""
    ticket = itertools.count()

    def cpus() -> list[Cpu]:
        return [Cpu(0, 0x1004, {"RDI": 0x5000}, ran_ns=next(ticket) * each)]

    spinning = hang.spins(Arch.X86_64, BUILD, cpus, lambda *_a: b"")  # type: ignore[arg-type]
    assert len(spinning) == found


def test_who_waits_for_another_is_not_all_that_is_told() -> None:
    """Interrupts are on in a channel's lock: at one look its CPU was elsewhere."""
    turn = itertools.count()

    def cpus() -> list[Cpu]:
        elsewhere = next(turn) == 4
        return [
            Cpu(0, 0x3000 if elsewhere else 0x1004, {"RDI": 0x5000}),
            Cpu(1, 0x4004, {"RDI": 0x6000}),
        ]

    spinning = hang.spins(Arch.X86_64, BUILD, cpus, lambda *_a: b"")  # type: ignore[arg-type]
    assert [spin.function for spin in spinning] == [
        "evtchn_write_lock",
        "queue_write_lock_slowpath",
    ]
    assert [(spin.cause, spin.port, spin.fault) for spin in spinning] == [
        (True, 21, LockFault.LEAKED_READER),
        (False, None, None),
    ]


def test_where_only_others_wait_that_is_told() -> None:
    spinning = look([0x4004, 0x2000])
    assert [spin.function for spin in spinning] == ["queue_write_lock_slowpath"]
    assert spinning[0].cause


def test_backtraces_follow_the_frames_to_where_the_guest_came_from() -> None:
    stack = {0x9000: (0x9040, 0x3010), 0x9040: (0x9080, 0x4010), 0x9080: (0, 0x7FFF0000)}

    def memory(cpu: int, address: int, size: int) -> bytes:
        if cpu == 2:
            raise LabError("cannot be read")
        return b"".join(word.to_bytes(8, "little") for word in stack[address])

    def cpus() -> list[Cpu]:
        at = {0: 0x1004, 1: 0x7FFF1234, 2: 0x2000}
        return [Cpu(number, pc, {"RBP": 0x9000}) for number, pc in at.items()]

    build: Any = BUILD
    seen = hang.backtraces(Arch.X86_64, build, cpus, memory)
    assert list(map(words.backtrace, seen)) == [
        "CPU0: evtchn_write_lock+0x4/0x40 < do_event_channel_op+0x10/0x40 < "
        "queue_write_lock_slowpath+0x10/0x40",
        "CPU1: in its guest",
        "CPU2: default_idle+0x0/0x40",
    ]


@pytest.mark.parametrize(
    ("vector", "rflags", "entry"),
    [
        (0x31, 0x202, "interrupt 0x31"),
        (0x31, 0x002, "interrupt 0x31 WITH INTERRUPTS OFF"),
        (0x0E, 0x002, "exception 0xe"),
    ],
)
def test_backtraces_go_on_behind_an_interrupt(vector: int, rflags: int, entry: str) -> None:
    base = 0xFFFF830000009000
    saved = bytearray(120)  # from %rbp on, as in struct cpu_user_regs
    for at, value in {0: base + 0x200, 96: 0x3010, 112: rflags}.items():
        saved[at : at + 8] = value.to_bytes(8, "little")
    saved[92] = vector
    inverted = (base + 0x40) ^ (2**64 - 1)
    stack = {
        base: inverted.to_bytes(8, "little") + (0x2010).to_bytes(8, "little"),
        base + 0x40: bytes(saved),
        base + 0x200: (base + 0x300).to_bytes(8, "little") + (0x4010).to_bytes(8, "little"),
        base + 0x300: bytes(16),
    }
    build: Any = BUILD
    (seen,) = hang.backtraces(
        Arch.X86_64,
        build,
        lambda: [Cpu(0, 0x1004, {"RBP": base})],
        lambda _cpu, address, size: stack[address][:size],
    )
    assert words.backtrace(seen) == (
        f"CPU0: evtchn_write_lock+0x4/0x40 < {entry} < do_event_channel_op+0x10/0x40 < "
        "queue_write_lock_slowpath+0x10/0x40"
    )
