# SPDX-License-Identifier: GPL-2.0-or-later
"""Which CPUs spin: what repeated looks at them mean."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from harness.hypervisor.cpu import Cpu
from harness.hypervisor.symbols import Symbol, Symbols
from harness.run import samples

TABLE = Symbols(
    [
        Symbol("evtchn_write_lock", 0x1000, 0x40, True),
        Symbol("default_idle", 0x2000, 0x40, True),
        Symbol("do_event_channel_op", 0x3000, 0x40, True),
        Symbol("queue_write_lock_slowpath", 0x4000, 0x40, True),
    ]
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_PAUSE", 0.0)


def look(*rounds: Sequence[int], moving: bool = False, stack: int = 0) -> dict[int, list[Cpu]]:
    """Look at CPUs whose program counters are ``rounds``, again and again."""
    turns = itertools.cycle(rounds)
    ticket = itertools.count()

    def cpus() -> list[Cpu]:
        word = next(ticket) if moving else 0
        return [
            Cpu(n, pc, {"RDI": 0x5000, "RAX": word, "RSP": 0x9000 - (stack if pc >= 0x3000 else 0)})
            for n, pc in enumerate(next(turns))
        ]

    return samples.spinning(TABLE, cpus)


def test_a_cpu_that_stays_in_the_lock_spins() -> None:
    (loop,) = look([0x1004, 0x2000], [0x1010, 0x2000]).values()
    assert {cpu.pc for cpu in loop} == {0x1004, 0x1010} and loop[0].number == 0


def test_whatever_the_function_is_called() -> None:
    """A compiler inlines the lock: the CPU is in do_event_channel_op then."""
    assert list(look([0x3004], [0x3010])) == [0]


def test_a_cpu_that_passes_through_does_not() -> None:
    assert look([0x1004, 0x2000], [0x3000, 0x2000]) == {}


def test_a_cpu_that_is_interrupted_there_spins() -> None:
    """Interrupts are on: one look in five finds it in a handler, deeper in the same stack."""
    rounds = [[0x1004]] * 4 + [[0x3000]]
    (loop,) = look(*rounds, stack=0x100).values()
    assert {cpu.pc for cpu in loop} == {0x1004}
    assert look(*rounds, stack=-0x100) == {}  # above: it had left the lock


def test_a_contended_lock_that_moves_on_does_not() -> None:
    """Seen on arm64 under TCG: both CPUs in _spin_lock at every look, tickets advancing."""
    assert look([0x1004, 0x1010], [0x1010, 0x1004], moving=True) == {}


def test_idle_cpus_do_not() -> None:
    assert look([0x2000, 0x2004]) == {}


def test_guest_code_does_not() -> None:
    assert look([0x7FFF0000, 0x7FFF0000]) == {}


@pytest.mark.parametrize(("state", "found"), [(0x3C9, 1), (0x3C5, 0), (0x0, 0)])
def test_a_guest_that_uses_the_same_addresses_does_not(state: int, found: int) -> None:
    """Xen for Arm before 4.18 is linked at 2 MiB, where a guest's program may be as well."""
    cpu = Cpu(0, 0x1004, {"X00": 0x5000, "PSTATE": state})
    assert len(samples.spinning(TABLE, lambda: [cpu])) == found


@pytest.mark.parametrize(("each", "found"), [(0, 0), (1_000_000, 0), (40_000_000, 1)])
def test_a_cpu_that_did_not_run_does_not_spin(each: int, found: int) -> None:
    """On a machine with too much to do an emulated CPU can stand still inside a lock."""
    ticket = itertools.count()

    def cpus() -> list[Cpu]:
        return [Cpu(0, 0x1004, {"RDI": 0x5000}, ran_ns=next(ticket) * each)]

    assert len(samples.spinning(TABLE, cpus)) == found
