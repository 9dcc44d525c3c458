# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest under QEMU and its gdbstub, which makes it take the accesses of a test in any order.

As in ``interleave reorder``: an access that is made early is made by the debugger, in memory.  When
the CPU comes to the instruction, a load alone finds what was there when it was made, and a store
leaves no trace.  No register is written, and no instruction is left out.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import capstone
from elftools.elf.elffile import ELFFile

from harness.arch import NAMES, Arch
from harness.machine.rsp import Stub
from tests.real.litmus.orders import Access, accesses, orders
from tests.real.litmus.shapes import Outcome, Shape

_GUEST = Path(__file__).with_name("guest.S")
_RAM = 0x40080000  # of QEMU's machine "virt"
_CPUS = (0, 1)
_PC = 32 * 8  # where it is in the stub's answer to "g"
_SECONDS = 20.0


@dataclass(frozen=True)
class Guest:
    """The guest's machine code: symbols, and the threads of each shape."""

    elf: Path
    symbols: dict[str, int]
    threads: dict[str, tuple[tuple[capstone.CsInsn, ...], ...]]


def built(shapes: Sequence[Shape], folder: Path) -> Guest:
    """Assemble the guest with the threads of ``shapes``."""
    lines = [_GUEST.read_text()]
    for number, shape in enumerate(shapes):
        for cpu, thread in enumerate(shape.threads):
            own = [line.replace("L", f"L{number}_{cpu}") for line in thread]
            lines += [f"t{number}_{cpu}:", *own, f"e{number}_{cpu}:", "ret"]
    source, elf = folder / "litmus.s", folder / "litmus.elf"
    source.write_text("\n".join(lines) + "\n")
    triplet = NAMES[Arch.ARM64].triplet
    made = folder / "litmus.o"
    subprocess.run([f"{triplet}-as", source, "-o", made], check=True)
    subprocess.run([f"{triplet}-ld", f"-Ttext={_RAM:#x}", made, "-o", elf], check=True)
    return _read(elf, shapes)


def _read(elf: Path, shapes: Sequence[Shape]) -> Guest:
    decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    decoder.detail = True
    with elf.open("rb") as file:
        read = ELFFile(file)
        text = read.get_section_by_name(".text")
        code, base = text.data(), text["sh_addr"]
        symbols = {
            one.name: one["st_value"]
            for one in read.get_section_by_name(".symtab").iter_symbols()
        }  # fmt: skip
    threads = {}
    for number, shape in enumerate(shapes):
        spans = [(symbols[f"t{number}_{cpu}"], symbols[f"e{number}_{cpu}"]) for cpu in _CPUS]
        threads[shape.name] = tuple(
            tuple(decoder.disasm(code[start - base : end - base], start)) for start, end in spans
        )
    return Guest(elf, symbols, threads)


@contextmanager
def running(guest: Guest, folder: Path) -> Iterator[Machine]:
    """Start the guest under QEMU; it is halted, and waits for threads."""
    socket = folder / "gdb"
    process = subprocess.Popen(
        [
            *("qemu-system-aarch64", "-machine", "virt", "-cpu", "max", "-smp", "2", "-m", "64"),
            *("-accel", "tcg", "-display", "none", "-serial", "none", "-monitor", "none"),
            *("-nodefaults", "-kernel", guest.elf, "-S"),
            *("-chardev", f"socket,id=gdb,path={socket},server=on,wait=off", "-gdb", "chardev:gdb"),
        ]
    )
    try:
        stub = Stub(socket)
        try:
            yield Machine(stub, guest)
        finally:
            stub.close()
    finally:
        process.kill()
        process.wait()


@dataclass
class Machine:
    """Two CPUs, halted, one of which runs at a time."""

    stub: Stub
    guest: Guest

    def outcomes(self, shape: Shape) -> set[Outcome]:
        """Let the CPUs run ``shape`` in every order; return what comes of it."""
        threads = self.guest.threads[shape.name]
        return {self._run(threads, order) for order in orders(threads)}

    def _run(self, threads: Sequence[Sequence[capstone.CsInsn]], order: Sequence[int]) -> Outcome:
        for word in ("x", "y"):
            self.put(word, 0)
        for cpu in _CPUS:
            box = self.guest.symbols["mailbox"] + 8 * cpu
            self.stub.write(cpu, box, threads[cpu][0].address.to_bytes(8, "little"))
            self._stand(cpu, threads[cpu][0].address)
        taken = [_Thread(self, cpu, list(accesses(threads[cpu]))) for cpu in _CPUS]
        flat = [(cpu, one) for cpu in _CPUS for one in taken[cpu].left]
        for cpu, access in (flat[number] for number in order):
            taken[cpu].make(access)
        read: list[int] = []
        for cpu in _CPUS:
            self._stand(cpu, self.guest.symbols["back"])
            registers = self.stub.registers(cpu)
            read += [int.from_bytes(registers[8 * n : 8 * n + 4], "little") for n in (0, 2)]
        return (*read, self.get("x"), self.get("y"))

    def _stand(self, cpu: int, address: int) -> None:
        """Let ``cpu`` alone run until it stands at ``address``."""
        self.stub.insert(address)
        try:
            while self.pc(cpu) != address:
                self.stub.go_only([cpu])
                assert self.stub.wait(_SECONDS) is not None, f"CPU{cpu} does not come"
        finally:
            self.stub.remove(address)

    def pc(self, cpu: int) -> int:
        return int.from_bytes(self.stub.registers(cpu)[_PC : _PC + 8], "little")

    def step_to(self, cpu: int, address: int) -> None:
        while self.pc(cpu) != address:
            self.stub.step(cpu)

    def step_over(self, cpu: int, address: int) -> None:
        while self.pc(cpu) == address:
            self.stub.step(cpu)

    def register(self, cpu: int, name: str) -> int:
        at = int(name[1:]) * 8
        return int.from_bytes(self.stub.registers(cpu)[at : at + 4], "little")

    def get(self, word: str) -> int:
        return int.from_bytes(self.stub.read(0, self.guest.symbols[word], 4), "little")

    def put(self, word: str, value: int) -> None:
        self.stub.write(0, self.guest.symbols[word], value.to_bytes(4, "little"))


@dataclass
class _Thread:
    """What one CPU has still to do."""

    machine: Machine
    cpu: int
    left: list[Access]  # whose instructions have not been executed
    early: dict[int, int | None] = field(default_factory=dict)  # by instruction: what a load found

    def make(self, access: Access) -> None:
        """Make ``access`` now: by its instruction if that is next, else early."""
        machine = self.machine
        if access != self.left[0]:
            if access.store:
                machine.put(access.word, machine.register(self.cpu, access.data))
            self.early[access.index] = None if access.store else machine.get(access.word)
            return
        self._execute(access)
        while self.left and self.left[0].index in self.early:
            self._execute_early(self.left[0])

    def _execute(self, access: Access) -> None:
        self.machine.step_to(self.cpu, access.instruction.address)
        self.machine.step_over(self.cpu, access.instruction.address)
        self.left.remove(access)

    def _execute_early(self, access: Access) -> None:
        """Let the CPU execute the instruction of an access that has been made."""
        present, found = self.machine.get(access.word), self.early[access.index]
        if found is not None:
            self.machine.put(access.word, found)
        self._execute(access)
        self.machine.put(access.word, present)
