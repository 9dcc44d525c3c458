# SPDX-License-Identifier: GPL-2.0-or-later
"""A session on a booted host, from its boot to its end: Xen, dom0, domUs and agents."""

from __future__ import annotations

import contextlib
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum

from harness.agent.client import AgentClient
from harness.agent.wire import AgentLost, OperationInFlight
from harness.config.host import QemuHost
from harness.config.physical import Host
from harness.domains.call_timeout import Overdue
from harness.domains.dom0 import Dom0
from harness.domains.toolstack import DomU, Toolstack
from harness.hypervisor.build import Build
from harness.hypervisor.rules import FoundRules, find_rules
from harness.images.dom0 import Dom0Image
from harness.machine import Machine
from harness.machine.console import Console
from harness.machine.lease import Held
from harness.machine.line import Line
from harness.run import agents
from harness.run.diagnosis import Diagnosis
from harness.run.plan import Plan
from harness.run.recorder import Recorder
from harness.verdict import HarnessError, HypervisorError, LabError

SHIM = "shim"  # the type of a guest inside xen-shim

_SILENT_SECONDS = 3.0  # of an agent; operations of a healthy Xen take milliseconds
_MORE_SELDOM = 3  # times as long until the CPUs are examined again


class Status(StrEnum):
    """The state of a session.

    UP --save()--> SAVED          both --Xen hangs or crashes--> LOST --cause()--> REPORTED
                     ^------------------restore()------------------/------------------/
    """

    UP = "up"  # Xen, dom0 and the domUs run
    SAVED = "up, restorable"  # the same, but only the agents can be reached: SSH was closed
    LOST = "lost"  # Xen hung or crashed in the test that runs now: a FAIL of this test
    REPORTED = "lost before"  # Xen was lost in an earlier test: for later tests the lab is at fault


@dataclass
class Session:
    """Everything on one host that a test case can use."""

    host: Host
    plan: Plan
    build: Build
    image: Dom0Image
    recorder: Recorder
    machine: Machine
    dom0: Dom0
    tools: Toolstack | None  # None: no toolstack fits this Xen
    why_no_tools: str = ""
    held: Held | None = None  # a server's lease; None: a machine of our own
    domus: list[DomU] = field(default_factory=list)
    guests: list[DomU] = field(default_factory=list)  # domUs that tests have started
    shim: Build | None = None  # xen-shim, once a test has wanted a guest inside it
    agents: dict[str, AgentClient] = field(default_factory=dict)
    operations: dict[str, int] = field(default_factory=dict)  # recorded, by domain
    status: Status = Status.UP
    lost: HypervisorError | None = None  # if LOST or REPORTED: what happened to Xen
    stuck: str = ""  # an operation that never returned, for an unknown reason
    _explained: tuple[BaseException, BaseException] | None = None  # the last error, and its cause
    _examining: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    lines: list[Line] = field(default_factory=list)  # to the agents, dom0's first
    saved: dict[str, int] = field(
        default_factory=dict
    )  # by domain: operations made before the snapshot

    @property
    def rules(self) -> FoundRules:
        """The model's changed rules that hold in this Xen, and what decided it."""
        return find_rules(self.build.source)

    @property
    def toolstack(self) -> Toolstack:
        """dom0's libvirt; LabError if no toolstack fits this Xen."""
        if self.tools is None:
            raise LabError(f"no toolstack: {self.why_no_tools}", where=self.host.name)
        return self.tools

    @property
    def console(self) -> Console:
        """Every console of the host."""
        return self.machine.console

    @property
    def diagnosis(self) -> Diagnosis:
        """Examines the machine from outside."""
        in_shim = any(guest.type == SHIM for guest in self.guests)
        # Nobody reads the memory of a guest on a server.
        shim = self.shim if in_shim and isinstance(self.host, QemuHost) else None
        return Diagnosis(self.host, self.build, self.machine, shim)

    def ours(self) -> None:
        """LeaseLost if somebody else may use the host: then nothing that is seen says anything."""
        if self.held is not None:
            self.held.check()

    def check(self) -> None:
        """Raise if something has died; checked in this order: a crash on a console, QEMU, a domU.

        That Xen died is HypervisorError in the state LOST, and LabError once it is REPORTED.
        LeaseLost before everything else.
        """
        self.ours()
        match self.status:
            case Status.REPORTED:
                raise LabError(f"Xen was {self.status} ({self.lost})", where=self.host.name)
            case Status.LOST:
                assert self.lost is not None
                raise self.lost
            case Status.SAVED:
                self.machine.check()
            case Status.UP:
                self.machine.check()
                self.dom0.check()
                if self.tools is not None:
                    self.tools.check()

    def ready(self) -> None:
        """Raise if the next test cannot begin: as ``check`` if something died; LabError if an
        operation of an earlier test never returned."""
        self.check()
        if self.stuck:
            raise LabError(f"{self.stuck}, in an earlier test", where=self.host.name)

    def listen(self, line: Line) -> None:
        """While ``line`` is silent, check whether Xen has crashed or hangs.

        The CPUs are examined a few times in a silence, ever more seldom: the first time they may
        have been in an interrupt, and if the machine is only slow, it will answer later.
        """
        due = _SILENT_SECONDS

        def watch(silent: float) -> None:
            nonlocal due
            self.ours()
            self.console.check()
            if silent < _SILENT_SECONDS:
                due = _SILENT_SECONDS
            elif silent >= due:
                due = _MORE_SELDOM * silent
                with contextlib.suppress(LabError):  # the CPUs cannot be examined
                    self.diagnose(f"no answer from {line.name} for {silent:.0f} s")

        line.watch = watch

    # -- the cause of an error -----------------------------------------------------------

    def cause(self, error: BaseException) -> BaseException:
        """Return the cause of ``error``, with which a test ended.

        If the machine died, that is the cause, whatever the test raised.  If an operation did
        not return, it is the hypervisor's fault only if a CPU spins in it; else the machine is
        slow or the guest is dead, which says nothing about Xen.  A second call with the same
        ``error`` returns the same.
        """
        if self._explained is None or self._explained[0] is not error:
            found = self._cause(error)
            if found is not error and isinstance(found, HarnessError):
                found.after(str(getattr(error, "story", "")))
            self._explained = error, found
            if self.status is Status.LOST:
                self._become(Status.REPORTED)
        return self._explained[1]

    def diagnose(self, symptom: object) -> None:
        """Raise HypervisorError if a CPU spins in a lock of Xen, which explains ``symptom``;
        LabError if the CPUs cannot be examined.

        Several lines fall silent at the same time, and each has a thread that asks: one of them
        examines the CPUs, and what it finds is what the others are told.
        """
        with self._examining:
            if self.lost is not None:
                raise self.lost
            seen = self.diagnosis.hang(symptom)
            if seen is not None:
                self._lose(seen)
                raise seen

    def _cause(self, error: BaseException) -> BaseException:
        try:
            self.ours()
        except LabError as lost:  # what the test saw may be somebody else's doing, even a crash
            return lost
        judged = isinstance(error, HypervisorError) and not isinstance(error, OperationInFlight)
        try:
            self.check()
        except HypervisorError as seen:
            if self.status is not Status.LOST:  # a crash, which was seen on the console
                self._lose(seen)
                self.machine.freeze()
            return error if judged else seen
        except HarnessError as dead:
            return error if judged else self._behind(dead)
        if judged or not isinstance(error, OperationInFlight | AgentLost | Overdue):
            return error
        self.stuck = str(error)
        try:
            self.diagnose(error)
            self.check()
        except HypervisorError as seen:
            return seen
        except LabError as seen:
            return self.diagnosis.death(seen)
        nothing = LabError(
            f"{error}; no CPU spins in a lock of Xen: a slow machine or a dead guest",
            where=self.host.name,
            story=self.diagnosis.whereabouts(),
        )
        nothing.evidence = error.evidence
        return nothing

    def _behind(self, dead: HarnessError) -> HarnessError:
        """Return the cause of ``dead``: if dom0 does not answer, a hang of Xen may be the cause."""
        if self.status is Status.REPORTED:
            return dead
        try:
            self.diagnose(dead)
        except HypervisorError as seen:
            return seen
        except LabError:
            pass  # the CPUs cannot be examined
        dead.story = self.diagnosis.whereabouts()
        return self.diagnosis.death(dead)

    def _lose(self, seen: HypervisorError) -> None:
        self.lost = seen
        self._become(Status.LOST)

    def _become(self, status: Status) -> None:
        self.status = status
        self.recorder.progress.update(f"Xen is {status}")

    # -- snapshots -------------------------------------------------------------------------

    def save(self) -> None:
        """Save a snapshot before the first test; before, close what would not survive a restore
        (SSH and all connections through it)."""
        for domu in self.domus:
            self.toolstack.expect_end(domu.name)
        if self.tools is not None:
            self.tools.close()
        self.dom0.close()
        saved = agents.operations(self.agents)
        self.machine.save()
        self.saved = saved
        self._become(Status.SAVED)

    def restore(self, held: AbstractContextManager[None] | None = None) -> None:
        """Restore the machine as it was before the first test; ``held`` as in Machine.restore.

        LabError if an agent does not answer or its count of operations is not that of the
        snapshot: then the machine must be booted again.
        """
        self.machine.restore(held)
        self.lost, self.stuck = None, ""
        self._become(Status.SAVED)
        self.greet()
        for name, made in agents.operations(self.agents).items():
            if made != self.saved[name]:
                raise LabError(
                    f"the restore failed: {name} has made {made} operations, "
                    f"and {self.saved[name]} when the machine was saved"
                )

    def greet(self) -> None:
        """Connect to the agents on their lines."""
        domids = {"dom0": 0} | {domu.name: domu.domid for domu in self.domus}
        self.agents |= agents.greet(domids, self.lines, self.listen)
