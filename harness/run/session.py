# SPDX-License-Identifier: GPL-2.0-or-later
"""A session on a booted host, from its boot to its end: Xen, dom0, domUs and agents."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from harness.agent.build import agent_binary, bare_guest
from harness.agent.client import AgentClient
from harness.agent.wire import AgentLost, OperationInFlight
from harness.config.physical import Host
from harness.domains.call_timeout import Overdue
from harness.domains.dom0 import Dom0
from harness.domains.keys import RunKeys
from harness.domains.toolstack import DomU, Toolstack
from harness.hypervisor.build import Build
from harness.hypervisor.rules import FoundRules, find_rules
from harness.images.dom0 import Dom0Image, dom0_image
from harness.machine import Machine
from harness.machine.console import Console
from harness.machine.lease import Held
from harness.machine.line import Line
from harness.run import agents, bring_up, dom0_steps, leak_check, machines, tear_down
from harness.run.came_up import CameUp
from harness.run.diagnosis import Diagnosis
from harness.run.lock_code import judge_lock_code
from harness.run.plan import Plan
from harness.run.questions import Questions, ask
from harness.run.recorder import Recorder
from harness.run.second_try import twice
from harness.scratch import scratch
from harness.toolstack.choice import Choice
from harness.verdict import HarnessError, HypervisorError, LabError

_SILENT_SECONDS = 3.0  # of an agent; operations of a healthy Xen take milliseconds


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
        return Diagnosis(self.host, self.build, self.machine)

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

        The CPUs are examined once per silence: that is enough to see a hang, and if the machine
        is only slow, it will answer later.
        """
        looked = False

        def watch(silent: float) -> None:
            nonlocal looked
            self.ours()
            self.console.check()
            if silent < _SILENT_SECONDS:
                looked = False
            elif not looked:
                looked = True
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


@contextmanager
def session(
    plan: Plan, host: Host, recorder: Recorder, questions: Questions | None = None
) -> Iterator[Session]:
    """Build Xen, boot ``host`` and start its domUs; after the block check for leaks, destroy the
    domUs and power the machine off.

    If the host does not come up, ``questions`` are asked through dom0, and where they find nothing
    wrong, it may be booted a second time (harness.run.second_try).  Raises LabError, BuildError or
    HypervisorError for the first thing that went wrong.
    """
    progress = recorder.progress
    with recorder.phase(host.name, "build"):
        built = bring_up.hypervisor(plan, host, progress.update)
    if built.origin and built.source.kind != "apt":
        progress.note(f"{host.name:12} {built.flavour} is images/xen/{built.origin}")
    if built.model.how == "recognised":
        progress.note(f"{host.name:12} judged as {built.model.name}: {built.model.source}")
    for note in find_rules(built.source).notes:
        progress.note(f"{host.name:12} {note}")
    progress.update("the lock in its machine code is held against the model")
    judge_lock_code(built, host.name, recorder)
    with recorder.phase(host.name, "images"):
        fit = bring_up.toolstack_choice(plan, built, host, progress.update)
        if fit.why_not:
            progress.note(f"{host.name:12} dom0 alone comes up: {fit.why_not}")
            host = host.model_copy(update={"domus": 0})
        image = dom0_image(host.arch, codename=fit.codename, notice=progress.update)
        agent, bare = agent_binary(host.arch), bare_guest(host.arch)
    recorder.used(*bring_up.ingredients(built, fit, image, agent))
    known = CameUp.of(host, built, image, agent, fit)
    what = _Booting(plan, host, built, fit, image, agent, bare, known, questions)
    with twice(lambda: _booted(what, recorder), known, progress.note) as live:
        yield live


@dataclass(frozen=True)
class _Booting:
    """Everything that is booted, each time anew."""

    plan: Plan
    host: Host
    built: Build
    fit: Choice
    image: Dom0Image
    agent: Path
    bare: Path
    known: CameUp
    questions: Questions | None


@contextmanager
def _booted(what: _Booting, recorder: Recorder) -> Iterator[Session]:
    """Boot the host and bring everything up; undo that after the block."""
    plan, host, progress = what.plan, what.host, recorder.progress
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch())
        keys = RunKeys.new()
        held = stack.enter_context(machines.reserve(host, progress.update))
        console = Console(recorder.directory.console(host.name))
        stack.callback(tear_down.note_console, recorder, host, console)
        with bring_up.stage(recorder, host.name, "boot", console):
            parts = machines.Parts(
                plan, folder, what.built, what.fit, what.image, what.agent, what.bare, keys
            )
            machine = stack.enter_context(machines.machine(host, parts, recorder, console, held))
            machine.power_on()
            progress.update("Xen and dom0 are booting")
            dom0 = _login(recorder, Diagnosis(host, what.built, machine), keys)
            stack.callback(dom0.close)
            if held is not None:
                held.when_lost(dom0.close)
            machine.up()
            bring_up.same_build(dom0, what.built)
            why = what.fit.why_not
            live = Session(host, plan, what.built, what.image, recorder, machine, dom0, None, why)
            live.held = held
            with _explained(live, what.questions):
                live.tools = _toolstack(live, folder, what.questions)
                if live.tools is not None:
                    stack.callback(live.tools.close)
                before = leak_check.observe(dom0, live.tools)
            what.known.note(what.built.source.version, domus=False)
        is_up = False
        try:
            with _explained(live, what.questions):
                with bring_up.stage(recorder, host.name, "domains", console):
                    _start_domus(live)
                with bring_up.stage(recorder, host.name, "agents", console):
                    live.lines = agents.start(machine, dom0, live.domus)
                    live.greet()
                    if plan.snapshot:
                        live.save()
            if live.domus:
                what.known.note(what.built.source.version, domus=True)
            is_up = True
            yield live
        finally:
            recorder.starved(host.name, machine.clock.starved)
            with recorder.phase(host.name, "teardown"):
                tear_down.record_domains(live)
                agents.end(live.lines)
                well = live.status is Status.UP and tear_down.healthy(live)
                if well and tear_down.destroy_domus(live) and is_up:
                    tear_down.compare(live, before)  # what a failed start leaves is no leak


def _login(recorder: Recorder, diagnosis: Diagnosis, keys: RunKeys) -> Dom0:
    """Wait until dom0 can be logged into; HypervisorError if Xen hangs before that."""

    def late(error: LabError) -> None:
        recorder.progress.note(f"{diagnosis.host.name:12} {error}")
        diagnosis.raise_hang(error)

    try:
        return dom0_steps.login(diagnosis.machine, keys, late)
    except LabError as error:
        diagnosis.raise_hang(error)
        raise


@contextmanager
def _explained(live: Session, questions: Questions | None) -> Iterator[None]:
    """If the host does not come up: see ``_explain``."""
    try:
        yield
    except LabError as error:
        _explain(live, questions, error)
        raise


def _explain(live: Session, questions: Questions | None, error: LabError) -> None:
    """Raise HypervisorError if Xen hangs, or gives a wrong answer to ``questions``."""
    with contextlib.suppress(LabError):  # the CPUs cannot be examined
        live.diagnose(error)
    if questions is not None:
        ask(live, questions, error)


def _toolstack(live: Session, folder: Path, questions: Questions | None) -> Toolstack | None:
    """Wait for dom0's toolstack, if it has one; ``questions`` are asked already when it is late."""

    def late(error: LabError) -> None:
        live.recorder.progress.note(f"{live.host.name:12} {error}")
        _explain(live, questions, error)

    if live.why_no_tools:
        dom0_steps.cpus_up(live.machine, late)
        return None
    live.recorder.progress.update("dom0 answers; waiting for its libvirt")
    dom0_steps.toolstack_up(live.machine, late)
    return bring_up.toolstack(live.dom0, live.machine, folder)


def _start_domus(live: Session) -> None:
    def started(domu: DomU) -> None:
        live.domus.append(domu)
        live.recorder.progress.update(f"{domu.name} started")

    if live.host.domus:
        bring_up.start_domus(
            live.plan, live.host, live.image, live.toolstack, live.console, started
        )
    for domu in live.domus:
        bring_up.await_domu(domu, live.console, live.check)
