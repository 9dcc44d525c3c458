# SPDX-License-Identifier: GPL-2.0-or-later
"""The CPUs of a machine under the debugger, one of which runs at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from capstone import arm64_const

from harness.hypervisor.code import code
from harness.hypervisor.symbols import symbols
from harness.interleave.force_orders import DebuggedMachine
from harness.interleave.ports import ScenarioPorts
from harness.interleave.reorderings import Executed
from harness.interleave.scenarios import Scenario
from harness.interleave.target import STEP_SECONDS, Stuck, Target, stopped
from harness.interleave.threads import DOM0
from harness.interleave.xen_memory import ChannelMemory
from harness.machine.patience import Deadline
from harness.verdict import LabError

FIRST, SECOND = 0, 1  # the scenarios' threads; each has the CPU of its number
MOST_INSTRUCTIONS = 2000  # of a critical section, or of a send up to what it reads
_OWN_STACK = (arm64_const.ARM64_REG_SP, arm64_const.ARM64_REG_X29)
_STEPS = 3  # for one instruction: one in some thousands returns and has executed nothing

Registers = Mapping[str, int]


def anyhow(_: Registers) -> bool:
    return True


@dataclass
class Cpus:
    """The CPUs of ``debugged``, which make the calls of ``scenario``: CPU N that of thread N."""

    debugged: DebuggedMachine
    target: Target
    memory: ChannelMemory
    scenario: Scenario
    steps: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ports = ScenarioPorts(self.scenario, self.debugged.live.agents, 0)
        syms = self.debugged.live.build.syms
        self.symbols = symbols(syms)
        self._code = code(syms, self.debugged.live.host.arch)

    def note(self, cpu: int, what: str) -> None:
        """Note for the story what ``cpu`` does."""
        self.steps.append(f"CPU{cpu}: {what}")

    def executed(self, registers: Registers) -> Executed:
        """Return the instruction that a CPU with ``registers`` is about to execute."""
        pc = registers["pc"]
        (instruction,) = self._code.instructions(pc, pc + 4)
        memory = None
        for operand in instruction.operands:
            if operand.type == arm64_const.ARM64_OP_MEM and operand.mem.base not in _OWN_STACK:
                name = instruction.reg_name(operand.mem.base)
                memory = registers.get("x30" if name == "lr" else name, 0) + operand.mem.disp
                if operand.mem.index:
                    index = instruction.reg_name(operand.mem.index)
                    memory += registers.get(f"x{index[1:]}", 0) << operand.shift.value
        return Executed(instruction, memory)

    def step(self, cpu: int) -> None:
        """Let ``cpu`` execute one instruction."""
        before = self.target.pc(cpu)
        for _ in range(_STEPS):
            self.debugged.stub.step(cpu)
            if self.target.pc(cpu) != before:
                return
        raise Stuck(f"CPU{cpu} does not leave {self.target.describe(cpu)}")

    def meet(
        self,
        wanted: Mapping[int, tuple[int, Callable[[Registers], bool]]],
        alone: bool,
        seconds: float = STEP_SECONDS,
    ) -> None:
        """Let the machine run until each CPU of ``wanted`` stands at its address, and what goes
        with it holds; a CPU that is there stays halted.  ``alone``: nobody else runs."""
        stub, deadline = self.debugged.stub, Deadline(self.debugged.qemu.clock, seconds)
        places = {address for address, _ in wanted.values()}
        for address in places:
            stub.insert(address)
        missing = set(wanted)
        try:
            while missing:
                stub.go_only(missing if alone else {0, 1} - (set(wanted) - missing))
                stop = stopped(stub, deadline)
                if stop is None:
                    stub.halt()
                    raise Stuck(f"CPUs {sorted(missing)} did not come to their place")
                registers = self.target.registers(stop.cpu)
                address, holds = wanted.get(stop.cpu, (0, bool))
                if stop.cpu in missing and registers["pc"] == address and holds(registers):
                    missing.discard(stop.cpu)
                else:
                    self.debugged.stub.step(stop.cpu)
        finally:
            for address in places:
                stub.remove(address)

    def stand(self, cpu: int, address: int) -> None:
        """Let ``cpu`` alone run until it stands at ``address``."""
        self.meet({cpu: (address, anyhow)}, alone=True)

    @contextmanager
    def started(self) -> Iterator[None]:
        """Start both calls, and halt the machine; in the end let it run.

        Without an error, wait for the calls and close the ports.
        """
        stub = self.debugged.stub
        stub.halt()
        try:
            self.ports.start(DOM0)
            yield
        finally:
            with stub.halted():
                self.target.unwatch()
        self._finish()

    def _finish(self) -> None:
        self.ports.collect_started()
        results = self.ports.join()
        if None in results:
            raise LabError(f"a call of {self.scenario.name} does not return: {results}")
        self.ports.close()
