# SPDX-License-Identifier: GPL-2.0-or-later
"""A hang one level up: in xen-shim, which has the same addresses as the Xen underneath."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from harness.arch import Arch
from harness.evidence import Hang, LockFault, words
from harness.hypervisor.cpu import Cpu
from harness.machine.apic import Lost
from harness.run import level, samples
from harness.run.diagnosis import Diagnosis
from harness.verdict import LabError
from tests.hypervisor.toy_xen import Toy, toy

CHANNEL_SIZE, LEAKED = 12, 2  # of the toy's struct evtchn; a port of d0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_PAUSE", 0.0)


def diagnosis(xen: Toy, shim: Toy, *cpus: tuple[Toy, Cpu], lost: Lost | None = None) -> Diagnosis:
    """Examine a machine whose CPUs each run one of the two, and see its memory."""
    runs = {cpu.number: toy for toy, cpu in cpus}

    def memory(cpu: int, address: int, size: int) -> bytes:
        return runs[cpu].memory(cpu, address, size)

    @contextmanager
    def halted(sign: tuple[int, bytes]) -> Iterator[Any]:
        """As QEMU: with a CPU that sees the sign."""
        address, there = sign
        cpu = next(n for n in runs if memory(n, address, len(there)) == there)
        yield SimpleNamespace(read=lambda address, size: memory(cpu, address, size))

    machine: Any = SimpleNamespace(
        cpus=lambda: [cpu for _, cpu in cpus],
        memory=memory,
        halted=halted,
        looks=10,
        lost_interrupt=lambda: lost,
    )
    host: Any = SimpleNamespace(arch=Arch.X86_64, name="qemu-x86_64")
    return Diagnosis(host, xen.build, machine, shim.build)


def leaked(xen: Toy, number: int) -> Cpu:
    return xen.cpu("here_channel", xen.address("channels") + LEAKED * CHANNEL_SIZE, number)


def test_a_cpu_that_spins_in_the_shim_is_told_as_the_shims() -> None:
    xen, shim = toy(Arch.X86_64, "-O1"), toy(Arch.X86_64, "-O2")
    inside = diagnosis(xen, shim, (shim, leaked(shim, 1)))
    seen = inside.hang("nothing")
    assert seen is not None and isinstance(seen.evidence, Hang)
    assert seen.evidence.in_shim
    (spin,) = seen.evidence.cpus
    assert (spin.cpu, spin.port, spin.fault) == (1, LEAKED, LockFault.LEAKED_READER)
    assert words.message(seen.evidence).startswith("xen-shim hangs: CPU1 spins in evtchn_write")
    assert seen.evidence.backtraces[0].frames


def test_xens_own_hang_goes_first_and_is_told_as_xens() -> None:
    xen, shim = toy(Arch.X86_64, "-O1"), toy(Arch.X86_64, "-O2")
    seen = diagnosis(xen, shim, (xen, leaked(xen, 0)), (shim, leaked(shim, 1))).hang("nothing")
    assert seen is not None and isinstance(seen.evidence, Hang)
    assert not seen.evidence.in_shim
    assert [spin.cpu for spin in seen.evidence.cpus] == [0]
    assert words.message(seen.evidence).startswith("Xen hangs: CPU0")


def test_a_cpu_that_left_the_shim_before_its_memory_was_read_is_not_looked_at() -> None:
    """Its registers are Xen's, and what is in memory there is the shim's by then."""
    xen, shim = toy(Arch.X86_64, "-O1"), toy(Arch.X86_64, "-O2")
    spins = leaked(shim, 0)
    inside = replace(spins, registers=spins.registers | {"IDT": 1})
    passing = replace(inside, pc=shim.address("do_event_channel_op"), registers={"IDT": 2})
    examined = diagnosis(xen, shim, (shim, inside))
    looks = 0

    def cpus() -> list[Cpu]:
        nonlocal looks
        looks += 1
        return [passing if looks % 6 == 1 else inside]  # the next time it is in the shim again

    examined.machine.cpus = cpus  # type: ignore[method-assign]
    seen = examined.hang("nothing")
    assert seen is not None and isinstance(seen.evidence, Hang) and seen.evidence.in_shim


def test_the_interrupt_table_says_where_a_cpu_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the moment in which its registers are read; its memory is another's by then."""
    xen, shim = toy(Arch.X86_64, "-O1"), toy(Arch.X86_64, "-O2")
    monkeypatch.setattr(level, "_first_table", lambda build: 1 if build is shim.build else 2)
    spins = leaked(shim, 0)
    examined = diagnosis(xen, shim, (shim, replace(spins, registers=spins.registers | {"IDT": 1})))
    examined.machine.memory = xen.memory  # type: ignore[method-assign]
    seen = examined.hang("nothing")
    assert seen is not None and isinstance(seen.evidence, Hang) and seen.evidence.in_shim
    assert seen.evidence.cpus[0].fault is LockFault.LEAKED_READER


def test_a_cpu_whose_memory_cannot_be_read_is_at_no_level() -> None:
    """Else the shim's address would be looked up in Xen, and Xen would be said to hang."""
    xen, shim = toy(Arch.X86_64, "-O1"), toy(Arch.X86_64, "-O2")
    examined = diagnosis(xen, shim, (shim, leaked(shim, 1)))

    def memory(*_: int) -> bytes:
        raise LabError("it is not mapped")

    examined.machine.memory = memory  # type: ignore[method-assign]
    assert examined.hang("nothing") is None


def test_a_cpu_that_is_in_xen_now_and_then_does_not_spin_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes Xen's interrupts while it spins in the shim."""
    xen, shim = toy(Arch.X86_64, "-O1"), toy(Arch.X86_64, "-O2")
    monkeypatch.setattr(level, "_first_table", lambda build: 1 if build is shim.build else 2)
    spins = leaked(shim, 0)
    inside = replace(spins, registers=spins.registers | {"IDT": 1})
    looks = 0

    def cpus() -> list[Cpu]:
        nonlocal looks
        looks += 1
        place = xen.address("do_event_channel_op") + looks
        below = replace(inside, pc=place, registers={"IDT": 2}, ran_ns=looks * 10**8)
        return [below if looks // 2 % 5 == 1 else replace(inside, ran_ns=looks * 10**8)]

    examined = diagnosis(xen, shim, (shim, inside))
    examined.machine.cpus = cpus  # type: ignore[method-assign]
    seen = examined.hang("nothing")
    assert seen is not None and isinstance(seen.evidence, Hang) and seen.evidence.in_shim


LOST = Lost(0, 0xFD)


def waiting(xen: Toy, lost: Lost | None) -> Diagnosis:
    """CPU1 spins in Xen, and for no lock."""
    spins = replace(leaked(xen, 1), pc=xen.address("do_event_channel_op"), registers={})
    examined = diagnosis(xen, toy(Arch.X86_64, "-O2"), (xen, spins), lost=lost)
    looks = 0

    def cpus() -> list[Cpu]:
        nonlocal looks
        looks += 1
        return [replace(spins, ran_ns=looks * 10**8)]

    examined.machine.cpus = cpus  # type: ignore[method-assign]
    return replace(examined, shim=None)


def test_who_waits_for_a_cpu_that_was_not_woken_is_no_hang_of_xens() -> None:
    xen = toy(Arch.X86_64, "-O1")
    seen = waiting(xen, None).hang("nothing")
    assert seen is not None and str(seen).startswith("Xen hangs: CPU1")
    with pytest.raises(LabError, match="QEMU has lost an interrupt: CPU0 sleeps"):
        waiting(xen, LOST).hang("nothing")


def test_a_lost_interrupt_explains_silence() -> None:
    xen, shim = toy(Arch.X86_64, "-O1"), toy(Arch.X86_64, "-O2")
    with pytest.raises(LabError, match="QEMU has lost an interrupt"):
        diagnosis(xen, shim, lost=LOST).hang("nothing")


def test_a_lock_that_is_seen_to_be_broken_is_xens_whatever_qemu_has_lost() -> None:
    xen, shim = toy(Arch.X86_64, "-O1"), toy(Arch.X86_64, "-O2")
    seen = diagnosis(xen, shim, (xen, leaked(xen, 1)), lost=LOST).hang("nothing")
    assert seen is not None and isinstance(seen.evidence, Hang)
    assert seen.evidence.cpus[0].fault is LockFault.LEAKED_READER


def test_a_hang_stays_seen_if_the_emulator_cannot_be_asked() -> None:
    def unreadable() -> Lost | None:
        raise LabError("QEMU's monitor does not answer")

    examined = waiting(toy(Arch.X86_64, "-O1"), None)
    examined.machine.lost_interrupt = unreadable  # type: ignore[method-assign]
    seen = examined.hang("nothing")
    assert seen is not None and str(seen).startswith("Xen hangs: CPU1")
    examined.machine.cpus = list  # type: ignore[method-assign]
    with pytest.raises(LabError, match="does not answer"):
        examined.hang("nothing")
