# SPDX-License-Identifier: GPL-2.0-or-later
"""Who called whom: stacks walked up to where the guest came from, interrupts included."""

from __future__ import annotations

import pytest

from harness.arch import Arch
from harness.hypervisor.code import code
from harness.hypervisor.cpu import Cpu
from harness.hypervisor.prologue import prologue
from harness.hypervisor.stack import stack
from harness.verdict import LabError
from tests.hypervisor.toy_xen import Toy, toy

BASE = 0xFFFF830000009000


@pytest.fixture
def xen() -> Toy:
    return toy(Arch.X86_64, "-O1")


def words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "little") for number in numbers)


def returns(xen: Toy, function: str, callee: str) -> int:
    """Return where ``callee`` returns to in ``function``."""
    symbol, target = xen.symbols[function], xen.address(callee)
    for one in code(xen.elf, xen.arch).instructions(symbol.address, symbol.address + symbol.size):
        if one.mnemonic in ("call", "bl") and one.operands[0].imm & (1 << 64) - 1 == target:
            return int(one.address + one.size)
    raise AssertionError(f"{function} does not call {callee}")


def functions(xen: Toy, cpu: Cpu, memory: dict[int, bytes]) -> list[str]:
    def read(_cpu: int, address: int, size: int) -> bytes:
        for start, data in memory.items():
            if start <= address and address + size <= start + len(data):
                return data[address - start : address - start + size]
        raise LabError("cannot be read")

    return [text.partition("+")[0] for text in stack(xen.elf, xen.arch, cpu, read).texts]


def test_the_frames_are_followed_to_the_outermost(xen: Toy) -> None:
    # _spin_lock calls nobody: gcc gives it no frame, its return address is on top of the stack.
    memory = {
        BASE: words(returns(xen, "send_guest_vcpu_virq", "_spin_lock")),
        BASE + 0x38: words(
            0, BASE + 0x80, returns(xen, "do_event_channel_op", "send_guest_vcpu_virq")
        ),
        BASE + 0x78: words(0, BASE + 0xC0, returns(xen, "_start", "do_event_channel_op")),
        BASE + 0xB8: words(0, 0, 0x7FFF0000),
    }
    cpu = Cpu(0, xen.address("here_spinlock"), {"RBP": BASE + 0x40, "RSP": BASE})
    told = ["_spin_lock", "send_guest_vcpu_virq", "do_event_channel_op", "_start"]
    assert functions(xen, cpu, memory) == told


def test_where_memory_cannot_be_read_it_ends_early(xen: Toy) -> None:
    cpu = Cpu(0, xen.address("here_spinlock"), {"RBP": BASE, "RSP": BASE})
    assert functions(xen, cpu, {}) == ["_spin_lock"]


def test_the_words_that_xen_printed_are_its_memory(xen: Toy) -> None:
    back = words(returns(xen, "send_guest_vcpu_virq", "_spin_lock"))
    cpu = Cpu(
        0,
        xen.address("here_spinlock"),
        {"RBP": BASE, "RSP": BASE},
        stack_at=BASE,
        stack=back,
    )
    assert functions(xen, cpu, {}) == ["_spin_lock", "send_guest_vcpu_virq"]


def test_a_guest_has_no_stack_in_xen(xen: Toy) -> None:
    assert functions(xen, Cpu(1, 0x7FFF1234, {"RBP": BASE}), {}) == []


@pytest.mark.parametrize(
    ("vector", "rflags", "entry"),
    [
        (0x31, 0x202, "interrupt 0x31"),
        (0x31, 0x002, "interrupt 0x31 WITH INTERRUPTS OFF"),
        (0x0E, 0x002, "exception 0xe"),
    ],
)
def test_they_go_on_behind_an_interrupt(xen: Toy, vector: int, rflags: int, entry: str) -> None:
    saved = bytearray(160)  # struct cpu_user_regs, from r15 on
    rip = xen.address("here_channel")
    for at, value in {32: BASE + 0x200, 128: rip, 144: rflags, 152: BASE + 0x1C0}.items():
        saved[at : at + 8] = words(value)
    saved[124] = vector
    inverted = (BASE + 0x60) ^ (2**64 - 1)
    memory = {
        BASE: words(xen.address("_start")),
        BASE + 0x40: bytes(saved),
        BASE + 0x200: words(BASE + 0x300, returns(xen, "_start", "do_event_channel_op")),
    }
    cpu = Cpu(0, xen.address("here_spinlock"), {"RBP": inverted, "RSP": BASE})
    told = functions(xen, cpu, memory)
    assert told[:2] == ["_spin_lock", entry]
    assert told[2].startswith("evtchn_write_lock (event_channel.c:")
    assert told[-2:] == ["do_event_channel_op", "_start"]


def arm_frame(pc: int, stack: int, **general: int) -> bytes:
    """Return a struct cpu_user_regs of arm64, up to the program counter."""
    saved = bytearray(264)
    for name, value in {"x31": stack, "x32": pc, **general}.items():
        at = 8 * int(name[1:])
        saved[at : at + 8] = words(value)
    return bytes(saved)


@pytest.mark.parametrize("from_guest", [False, True])
def test_they_go_on_behind_an_interrupt_of_arm64(from_guest: bool) -> None:
    # An interrupt came while the CPU spun for a lock, and its handler spins for the same one.
    xen = toy(Arch.ARM64, "-O1")
    spins = xen.address("here_spinlock")
    base = BASE + 0x40  # of struct cpu_user_regs; below it the frame of do_trap_irq
    outer = base + 0x180
    memory = {
        base: arm_frame(
            spins,
            2**64 - 1 if from_guest else outer,
            x30=returns(xen, "send_guest_vcpu_virq", "_spin_lock"),
        ),
    }
    back = returns(xen, "do_trap_irq", "_spin_lock")
    at = prologue(xen.elf, xen.address("do_trap_irq"), back)
    below = bytearray(-at.stack)
    place = at.saved[30] - at.stack
    below[place : place + 8] = words(xen.address("_start"))
    memory[base + at.stack] = bytes(below)
    cpu = Cpu(0, spins, {"SP": base + at.stack, "X29": base + at.stack, "X30": back})
    told = functions(xen, cpu, memory)
    assert told[:2] == ["_spin_lock", "do_trap_irq"]
    if from_guest:
        assert "interrupt" not in told
    else:
        assert told[2:] == ["interrupt", "_spin_lock", "send_guest_vcpu_virq"]
