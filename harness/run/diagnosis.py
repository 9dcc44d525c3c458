"""Why does a machine no longer answer?  Looks at it from outside, and changes nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass

from harness.config.physical import Host
from harness.evidence import Backtrace, Hang, words
from harness.hypervisor.build import Build
from harness.machine import Machine
from harness.run import hang
from harness.verdict import HarnessError, HypervisorError, LabError

_LATE_SECONDS = 1.0  # libvirt may be the last to learn that QEMU is gone


@dataclass(frozen=True)
class Diagnosis:
    """Looks at the CPUs of one machine, and at the machine itself."""

    host: Host
    build: Build
    machine: Machine

    def hang(self, symptom: object) -> HypervisorError | None:
        """Return the hang that explains ``symptom`` if a CPU is seen spinning in a lock of Xen;
        LabError if the CPUs cannot be seen."""
        machine = self.machine
        spinning = hang.spins(
            self.host.arch, self.build, machine.cpus, machine.memory, looks=machine.looks
        )
        if not spinning:
            return None
        seen = Hang(cpus=tuple(spinning), backtraces=self.backtraces())
        return HypervisorError(seen, hint=words.after(symptom))

    def backtraces(self) -> tuple[Backtrace, ...]:
        """Return where each CPU is; nothing if they cannot be seen."""
        arch, machine = self.host.arch, self.machine
        try:
            return tuple(hang.backtraces(arch, self.build, machine.cpus, machine.memory))
        except LabError:
            return ()

    def whereabouts(self) -> str:
        """Return the same in words, a line for each CPU."""
        return "\n".join(map(words.backtrace, self.backtraces()))

    def death(self, symptom: HarnessError) -> HarnessError:
        """Return what the machine died of, ``symptom`` if it is not known to be dead."""
        deadline = time.monotonic() + _LATE_SECONDS
        while True:
            try:
                self.machine.check()
            except HarnessError as why:
                return why
            if time.monotonic() > deadline:
                return symptom
            time.sleep(0.1)
