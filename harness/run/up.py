# SPDX-License-Identifier: GPL-2.0-or-later
"""Bring a host up for a session: from a snapshot of an earlier run, or by booting it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from harness.agent.build import agent_binary, bare_guest
from harness.config.physical import Host
from harness.domains.dom0 import Dom0
from harness.domains.keys import RunKeys
from harness.domains.toolstack import DomU, Toolstack
from harness.hypervisor.build import Build
from harness.hypervisor.rules import find_rules
from harness.images.dom0 import Dom0Image, dom0_image
from harness.machine import Machine
from harness.machine.console import Console
from harness.machine.kept import Kept
from harness.machine.lease import Held
from harness.run import agents, bring_up, dom0_steps, leak_check, machines, snapshot, tear_down
from harness.run.came_up import CameUp
from harness.run.diagnosis import Diagnosis
from harness.run.lock_code import judging
from harness.run.plan import Plan
from harness.run.questions import Questions, ask
from harness.run.recorder import Recorder
from harness.run.second_try import twice
from harness.run.session import Session, Status
from harness.scratch import scratch
from harness.toolstack.choice import Choice
from harness.verdict import HarnessError, HypervisorError, LabError


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
    with judging(built, host.name, recorder) as judge:
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
        with twice(lambda: _up(what, recorder), known, progress.note) as live:
            progress.update("the lock in its machine code is held against the model")
            judge()
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


@dataclass(frozen=True)
class _Place:
    """Where a host comes up: what lasts as long as its machine is on."""

    stack: contextlib.ExitStack
    folder: Path  # scratch
    keys: RunKeys
    held: Held | None
    machine: Machine


@contextmanager
def _up(what: _Booting, recorder: Recorder) -> Iterator[Session]:
    """Bring the host up from a snapshot; by booting it where there is none, or it does not come
    up."""
    with contextlib.ExitStack() as stack:
        try:
            live = stack.enter_context(_running(what, recorder))
        except snapshot.NotRestored as error:
            recorder.progress.note(f"{what.host.name:12} booting it instead: {error}")
            plan = replace(what.plan, keep=False)
            live = stack.enter_context(_running(replace(what, plan=plan), recorder))
        yield live


@contextmanager
def _running(what: _Booting, recorder: Recorder) -> Iterator[Session]:
    """Bring the host and everything on it up; undo that after the block.

    NotRestored if there was a snapshot, and it did not come up.
    """
    host, progress = what.host, recorder.progress
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch())
        keys = RunKeys.new()
        held = stack.enter_context(machines.reserve(host, progress.update))
        console = Console(recorder.directory.console(host.name))
        stack.callback(tear_down.note_console, recorder, host, console)
        parts = machines.Parts(
            what.plan, folder, what.built, what.fit, what.image, what.agent, what.bare, keys
        )
        named = partial(snapshot.key, what.built, what.known, what.bare)
        machine = stack.enter_context(machines.machine(host, parts, recorder, console, held, named))
        place = _Place(stack, folder, keys, held, machine)
        if machine.kept is not None:
            live, before = _restored(what, recorder, place, machine.kept)
        else:
            live, before = _booted(what, recorder, place)
        is_up = False
        try:
            with _explained(live, what.questions):
                if machine.kept is None:
                    _complete(live, before)
                if what.plan.snapshot:
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


def _booted(what: _Booting, recorder: Recorder, place: _Place) -> tuple[Session, leak_check.State]:
    """Boot the host until dom0 and its toolstack are up; return that, and what there is in dom0."""
    host, machine = what.host, place.machine
    with bring_up.stage(recorder, host.name, "boot", machine.console):
        machine.power_on()
        recorder.progress.update("Xen and dom0 are booting")
        dom0 = _login(recorder, Diagnosis(host, what.built, machine), place.keys)
        live = _session(what, recorder, place, dom0)
        machine.up()
        bring_up.same_build(dom0, what.built)
        with _explained(live, what.questions):
            live.tools = _toolstack(live, place.folder, what.questions)
            if live.tools is not None:
                place.stack.callback(live.tools.close)
            before = leak_check.observe(dom0, live.tools)
        what.known.note(what.built.source.version, domus=False)
    return live, before


def _complete(live: Session, before: leak_check.State) -> None:
    """Start the domUs and the agents; keep all that in the cache, if the plan wants it."""
    recorder, name, console = live.recorder, live.host.name, live.console
    with bring_up.stage(recorder, name, "domains", console):
        _start_domus(live)
    with bring_up.stage(recorder, name, "agents", console):
        live.lines = agents.start(live.machine, live.dom0, live.domus)
        live.greet()
        if live.machine.entry:
            recorder.progress.update("keeping a snapshot in the cache, for the next run")
            snapshot.keep(live, before)


def _restored(
    what: _Booting, recorder: Recorder, place: _Place, kept: Kept
) -> tuple[Session, leak_check.State]:
    """Go on from a snapshot: nothing is believed of it that cannot be seen.

    NotRestored, with the snapshot removed, if anything is not as it was.
    """
    host, machine = what.host, place.machine
    try:
        with recorder.phase(host.name, "boot"):
            facts = snapshot.Facts.of(kept)
            recorder.progress.update(f"restoring the machine that was kept on {facts.when}")
            machine.power_on()
            dom0 = snapshot.log_in(machine, place.keys)
            live = _session(what, recorder, place, dom0)
        with recorder.phase(host.name, "domains"):
            if not live.why_no_tools:
                live.tools = bring_up.toolstack(dom0, machine, place.folder)
                place.stack.callback(live.tools.close)
                live.domus = snapshot.domus(facts, live.tools, machine.console)
        with recorder.phase(host.name, "agents"):
            live.lines = machine.lines
            live.greet()
            snapshot.same(facts, agents.operations(live.agents))
    except (HarnessError, OSError) as error:
        kept.discard()
        raise snapshot.NotRestored(f"{error} (a snapshot, now removed)") from error
    return live, facts.before


def _session(what: _Booting, recorder: Recorder, place: _Place, dom0: Dom0) -> Session:
    """Return the session of a machine into whose ``dom0`` we are logged in."""
    why = what.fit.why_not
    machine = place.machine
    live = Session(what.host, what.plan, what.built, what.image, recorder, machine, dom0, None, why)
    live.held = place.held
    place.stack.callback(dom0.close)
    if place.held is not None:
        place.held.when_lost(dom0.close)
    return live


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
    """Raise HypervisorError if Xen crashed, hangs, or gives a wrong answer to ``questions``.

    What failed first may be the connection to dom0: Xen prints its panic a moment later.
    """
    died = live.diagnosis.death(error)
    if isinstance(died, HypervisorError):
        raise died
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
