# SPDX-License-Identifier: GPL-2.0-or-later
"""Find out why a machine no longer answers, from outside and without changing it."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from harness.config.physical import Host
from harness.evidence import Backtrace, Hang, words
from harness.hypervisor.build import Build
from harness.machine import Machine
from harness.run import hang
from harness.run.level import Level
from harness.verdict import HarnessError, HypervisorError, LabError

_EMULATOR = "that is the emulator's fault and says nothing about Xen; run it again"
_LATE_SECONDS = 1.0  # libvirt may notice late that QEMU has ended


@dataclass(frozen=True)
class Diagnosis:
    """Examines one machine and its CPUs."""

    host: Host
    build: Build
    machine: Machine
    shim: Build | None = None  # in which a guest runs, one level above Xen

    def hang(self, symptom: object) -> HypervisorError | None:
        """Return the hang that explains ``symptom`` if a CPU spins in a lock of Xen, or of the
        shim, else None; LabError if the state of the CPUs cannot be read.

        LabError also if the emulator has lost an interrupt: then a CPU spins because another one
        sleeps, unless what is seen of a lock explains the hang without that.
        """
        seen = self._hang(self.build, symptom) or (
            self._hang(self.shim, symptom) if self.shim is not None else None
        )
        spins = seen.evidence.cpus if seen and isinstance(seen.evidence, Hang) else ()
        if any(map(hang.is_certain, spins)):
            return seen
        try:
            lost = self.machine.lost_interrupt()
        except LabError:
            if seen is None:
                raise
            return seen  # what was seen is not hidden by what cannot be read
        if lost is not None:
            raise LabError(str(lost), where=self.host.name, hint=_EMULATOR) from seen
        return seen

    def _hang(self, build: Build, symptom: object) -> HypervisorError | None:
        seen_by, looks = self._seen(build), self.machine.looks
        spinning = hang.spins(self.host.arch, build, seen_by.cpus, seen_by.memory, looks=looks)
        if not spinning:
            return None
        traces = self._backtraces(build)
        seen = Hang(cpus=tuple(spinning), backtraces=traces, in_shim=build is self.shim)
        return HypervisorError(seen, hint=words.after(symptom))

    def _seen(self, build: Build) -> Machine | Level:
        """Return who looks at the CPUs that run ``build``."""
        if self.shim is None:
            return self.machine
        inside = build is self.shim
        return Level(self.host.arch, self.machine, self.build, self.shim, inside=inside)

    def raise_hang(self, symptom: object) -> None:
        """Raise the hang that explains ``symptom``, if there is one and the CPUs can be read."""
        with contextlib.suppress(LabError):
            seen = self.hang(symptom)
            if seen is not None:
                raise seen

    def backtraces(self) -> tuple[Backtrace, ...]:
        """Return the backtrace of each CPU; none if the state of the CPUs cannot be read."""
        return self._backtraces(self.build)

    def _backtraces(self, build: Build) -> tuple[Backtrace, ...]:
        seen_by = self._seen(build)
        try:
            return tuple(hang.backtraces(self.host.arch, build, seen_by.cpus, seen_by.memory))
        except LabError:
            return ()

    def whereabouts(self) -> str:
        """Return the backtraces in words, one line for each CPU."""
        return "\n".join(map(words.backtrace, self.backtraces()))

    def death(self, symptom: HarnessError) -> HarnessError:
        """Return the error that explains the machine's death; ``symptom`` if it is not dead."""
        deadline = time.monotonic() + _LATE_SECONDS
        while True:
            try:
                self.machine.check()
            except HarnessError as why:
                return why
            if time.monotonic() > deadline:
                return symptom
            time.sleep(0.1)
