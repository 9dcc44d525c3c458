"""A booted host: Xen up, dom0 reached, domUs running, agents waiting.  And all of it gone again."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness import cache
from harness.agent.build import agent_binary, bare_guest
from harness.agent.client import AgentClient
from harness.agent.wire import AgentLost, OperationInFlight
from harness.arch import Arch
from harness.config.physical import Host
from harness.domains.dom0 import Dom0
from harness.domains.keys import RunKeys
from harness.domains.patience import Overdue
from harness.domains.toolstack import DomU, DomUBoot, Toolstack
from harness.hypervisor import build as builds
from harness.hypervisor.build import Build
from harness.hypervisor.symbols import is_shown
from harness.images.dom0 import DOMU_INITRAMFS, Dom0Image, dom0_image
from harness.machine import Machine
from harness.machine.console import Console
from harness.machine.line import Line
from harness.results import records
from harness.results.manifest import Ingredient
from harness.run import hang, rig, state
from harness.run.plan import Plan
from harness.run.recorder import Recorder
from harness.scratch import scratch
from harness.toolstack.choice import Choice, choose
from harness.verdict import HarnessError, HypervisorError, LabError

PAYLOAD = "/run/harness"  # in dom0: guests/dom0/stage1 puts the payload there
_TOOLSTACK_SECONDS = 180.0
_DOMU_SECONDS = 180.0
_LATE_SECONDS = 1.0
_SILENT_SECONDS = 3.0  # of an agent; operations of a healthy Xen take milliseconds


@dataclass
class Session:
    """What a test case can reach on one host."""

    host: Host
    plan: Plan
    build: Build
    image: Dom0Image
    recorder: Recorder
    machine: Machine
    dom0: Dom0
    tools: Toolstack | None  # None: no dom0 has one that fits
    why_no_tools: str = ""
    domus: list[DomU] = field(default_factory=list)
    guests: list[DomU] = field(default_factory=list)  # that tests have started besides
    agents: dict[str, AgentClient] = field(default_factory=dict)
    operations: dict[str, int] = field(default_factory=dict)  # recorded, by domain
    lost: HypervisorError | None = None  # once Xen was seen to hang or to crash: how
    _told: bool = False  # a test has ended with that
    _explained: tuple[BaseException, BaseException] | None = None  # the last error, and its cause
    lines: list[Line] = field(default_factory=list)  # to the agents, dom0's first
    saved: dict[str, int] = field(default_factory=dict)  # by domain: operations until the snapshot

    @property
    def toolstack(self) -> Toolstack:
        """dom0's libvirt; LabError where no dom0's toolstack fits this Xen."""
        if self.tools is None:
            raise LabError(f"no toolstack: {self.why_no_tools}", where=self.host.name)
        return self.tools

    @property
    def console(self) -> Console:
        """Every console of the host."""
        return self.machine.console

    def check(self) -> None:
        """Raise for the first thing that died, the most telling first: a crash, QEMU, a domU.

        Xen's death is the fault of Xen once, for the test that met it; then it is the lab's.
        """
        if self.lost and self._told:
            raise LabError(f"Xen was lost before ({self.lost})", where=self.host.name)
        if self.lost:
            raise self.lost
        self.machine.check()
        if not self.saved:
            self.dom0.check()
            if self.tools is not None:
                self.tools.check()

    def listen(self, line: Line) -> None:
        """While ``line`` is silent, look whether that is because Xen crashed or hangs.

        The CPUs are looked at once per silence: a hang shows at any time, a slow machine
        may yet answer.
        """
        looked = False

        def watch(silent: float) -> None:
            nonlocal looked
            self.console.check()
            if silent < _SILENT_SECONDS:
                looked = False
            elif not looked:
                looked = True
                with contextlib.suppress(LabError):  # no CPU can be looked at
                    self.diagnose(f"no word from {line.name} for {silent:.0f} s")

        line.watch = watch

    def restore(self, held: AbstractContextManager[None] | None = None) -> None:
        """Bring back the machine as it was before the first test; ``held`` as for the machine's.

        LabError when it does not come back alive and identical: then it must be booted anew.
        """
        self.machine.restore(held)
        self.lost, self._told = None, False
        _talk(self)
        for name, agent in self.agents.items():
            now, then = _records(agent), self.saved[name]
            if now != then:
                raise LabError(f"{name} has made {now} operations, {then} when it was saved")

    def cause(self, error: BaseException) -> BaseException:
        """Return what is really behind ``error``, which a test ended with.

        A machine that died goes before the test's word.  An operation that did not come
        back is the hypervisor's fault only if a CPU is seen spinning in it; else the
        machine is slow or the guest dead, and nothing was learnt about Xen.  Whoever asks
        again is told the same.
        """
        if self._explained is None or self._explained[0] is not error:
            found = self._cause(error)
            if found is not error and isinstance(found, HarnessError):
                found.after(str(getattr(error, "story", "")))
            self._explained = error, found
            self._told = self.lost is not None
        return self._explained[1]

    def _cause(self, error: BaseException) -> BaseException:
        judged = isinstance(error, HypervisorError) and not isinstance(error, OperationInFlight)
        try:
            self.check()
        except HypervisorError as seen:
            if self.lost is None:  # a crash, which the console told
                self.lost = seen
                self.machine.freeze()
            return error if judged else seen
        except HarnessError as dead:
            return error if judged else self._behind(dead)
        if judged or not isinstance(error, OperationInFlight | AgentLost | Overdue):
            return error
        try:
            self.diagnose(error)
            self.check()
        except HypervisorError as seen:
            return seen
        except LabError as seen:
            return self._late(seen)
        return LabError(
            f"{error}; no CPU spins in a lock of Xen: a slow machine or a dead guest",
            where=self.host.name,
            story=self._whereabouts(),
        )

    def _behind(self, dead: HarnessError) -> HarnessError:
        """Return what is behind ``dead``: a hang of Xen silences dom0, too."""
        if self.lost:
            return dead
        try:
            self.diagnose(dead)
        except HypervisorError as seen:
            return seen
        except LabError:
            pass  # no CPU can be looked at
        dead.story = self._whereabouts()
        return self._late(dead)

    def _late(self, dead: HarnessError) -> HarnessError:
        """Return what the machine died of: libvirt may be the last to learn that QEMU is gone."""
        deadline = time.monotonic() + _LATE_SECONDS
        while True:
            try:
                self.machine.check()
            except HarnessError as why:
                return why
            if time.monotonic() > deadline:
                return dead
            time.sleep(0.1)

    def diagnose(self, symptom: object) -> None:
        """Raise HypervisorError if a CPU is seen spinning in a lock of Xen, which explains
        ``symptom``; LabError if the CPUs cannot be seen."""
        spinning = hang.spins(
            self.host.arch,
            self.build,
            self.machine.cpus,
            self.machine.memory,
            looks=self.machine.looks,
        )
        if spinning:
            what = f"Xen hangs: {hang.explain(self.host.arch, spinning)}"
            self.lost = hang.Hang(what, hint=f"seen after {symptom}", story=self._whereabouts())
            raise self.lost

    def _whereabouts(self) -> str:
        """Return where each CPU is, a line for each; nothing if they cannot be seen."""
        arch, machine = self.host.arch, self.machine
        try:
            seen = hang.backtraces(arch, self.build, machine.cpus, machine.memory)
        except LabError:
            return ""
        return "\n".join(seen)


@contextmanager
def session(plan: Plan, host: Host, recorder: Recorder) -> Iterator[Session]:
    """Build, boot and populate ``host``; on the way out compare, destroy and power off.

    Raises LabError, BuildError or HypervisorError for whatever went wrong first.
    """
    progress = recorder.progress
    with recorder.phase(host.name, "build"):
        built = _build(plan, host, progress.update)
    with recorder.phase(host.name, "images"):
        fit = _fitting(built, host, progress.update)
        if fit.why_not:
            progress.note(f"{host.name:12} only dom0 can be tested: {fit.why_not}")
            host = host.model_copy(update={"domus": 0})
        image = dom0_image(host.arch, codename=fit.codename, notice=progress.update)
        agent, bare = agent_binary(host.arch), bare_guest(host.arch)
    recorder.used(*_ingredients(built, fit, image, agent))
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch())
        keys = RunKeys.new()
        stack.enter_context(rig.turn(host, progress.update))
        with recorder.phase(host.name, "boot"):
            console = Console(recorder.directory.console(host.name))
            stack.callback(_note_console, recorder, host, console)
            parts = rig.Parts(plan, folder, built, fit, image, agent, bare, keys)
            machine = stack.enter_context(rig.machine(host, parts, recorder, console))
            machine.power_on()
            progress.update("Xen and dom0 are booting")
            limit = machine.boot_seconds
            console.expect("harness: dom0 sshd (up|failed)", limit, check=machine.check)
            dom0 = Dom0.connect(machine.ssh, keys, timeout=limit, check=machine.check)
            stack.callback(dom0.close)
            machine.up()
            _same_build(dom0, built)
            if fit.why_not:
                tools = None
                console.expect("harness: dom0 cpus up", _TOOLSTACK_SECONDS, check=machine.check)
            else:
                progress.update("dom0 answers; waiting for its libvirt")
                tools = _toolstack(dom0, machine, folder)
                stack.callback(tools.close)
            before = state.observe(dom0, tools)
        ready = False
        live = Session(host, plan, built, image, recorder, machine, dom0, tools, fit.why_not)
        try:
            with recorder.phase(host.name, "domains"):
                _start_domus(live)
            with recorder.phase(host.name, "agents"):
                _start_agents(live)
                if plan.snapshot:
                    _save(live)
            ready = True
            yield live
        except LabError as error:
            if not ready:  # a test's own errors are for cause() to explain
                live.diagnose(error)
            raise
        finally:
            with recorder.phase(host.name, "teardown"):
                _record_domains(live)
                _end_agents(live)
                if not live.saved and _healthy(live) and _destroy_domus(live):
                    _compare(live, before)


def _build(plan: Plan, host: Host, update: Callable[[str], None]) -> Build:
    return builds.build(
        plan.hypervisor.source,
        plan.hypervisor.flavour,
        host.arch,
        progress=lambda objects: update(f"{objects} objects compiled"),
    )


def _fitting(built: Build, host: Host, update: Callable[[str], None]) -> Choice:
    """Return dom0's toolstack, built if there is none that fits."""
    return choose(
        built.source,
        host.arch,
        progress=lambda objects: update(f"{objects} objects of dom0's toolstack compiled"),
        notice=update,
    )


def _toolstack(dom0: Dom0, machine: Machine, folder: Path) -> Toolstack:
    console, check = machine.console, machine.check
    console.expect("harness: dom0 (libvirtd up|.* failed)", _TOOLSTACK_SECONDS, check=check)
    return Toolstack.connect(dom0, folder, timeout=_TOOLSTACK_SECONDS, check=check)


def _ingredients(built: Build, fit: Choice, image: Dom0Image, agent: Path) -> list[Ingredient]:
    arch = str(built.arch)
    source = built.source
    return [
        Ingredient("source", f"xen ({source.kind})", source.version, source.digest),
        Ingredient(
            "build",
            f"xen {built.flavour} {arch}",
            source.version,
            built.digest,
            {"build_id": built.build_id, "compiler": built.compiler},
        ),
        Ingredient(
            "toolstack",
            f"dom0's {arch}",
            fit.built.version if fit.built else "",
            fit.built.digest if fit.built else "",
            {"how": fit.how, "reason": fit.reason},
        ),
        Ingredient("image", f"dom0 {arch}", image.kernel_version, image.digest),
        Ingredient("image", f"agent {arch}", "", cache.key(agent.read_bytes())),
        *(Ingredient("package", f"{n}:{arch}", version) for n, version in image.packages),
    ]


def _same_build(dom0: Dom0, built: Build) -> None:
    """LabError unless the running Xen is the file that was built (XENVER_build_id)."""
    look = "od -An -v -tx1 /sys/hypervisor/properties/buildid | tr -d ' \\n'"
    running = dom0.run(look).stdout.strip()
    if not is_shown(built.build_id, running):
        raise LabError(
            f"the Xen that booted has build id {running or '(none)'}, not {built.build_id}",
            where=str(built.image),
        )


def _start_domus(live: Session) -> None:
    host = live.host
    boot = DomUBoot(
        live.image.domu_kernel,
        DOMU_INITRAMFS,
        rig.linux_args(host, snapshot=live.plan.snapshot),
        type="pv" if host.arch is Arch.X86_64 else "arm",
        memory_mib=host.domu_memory_mib,
        vcpus=host.domu_vcpus,
    )
    for number in range(1, host.domus + 1):
        first = rig.first_cpu(host, number) if live.plan.pinned else 0
        domu = live.toolstack.start(f"domu{number}", host.arch, boot, live.console, first)
        live.domus.append(domu)
        live.recorder.progress.update(f"{domu.name} started")
    for domu in live.domus:
        live.console.expect("harness: domU up", _DOMU_SECONDS, domu.name, check=live.check)


def _start_agents(live: Session) -> None:
    agent = f"{PAYLOAD}/agent"
    programs = {"dom0": [agent, "serve"]} | {
        domu.name: [agent, "relay", "--domid", str(domu.domid)] for domu in live.domus
    }
    if live.machine.lines:
        live.lines = live.machine.lines
        for line, words in zip(live.lines, programs.values(), strict=False):
            live.dom0.run(on_line(line.name, words))
    else:
        for name, words in programs.items():
            live.lines.append(Line(live.dom0.channel(words), f"agent of {name}"))
    _talk(live)


def _talk(live: Session) -> None:
    """Greet the agents at the ends of their lines."""
    names = ["dom0", *(domu.name for domu in live.domus)]
    for name, line in zip(names, live.lines, strict=False):
        live.listen(line)
        live.agents[name] = AgentClient(line, name)
        live.agents[name].hello()


def on_line(line: str, words: list[str]) -> str:
    """Return a command that leaves ``words`` running with the virtio port ``line`` as stdin
    and stdout.  (The links in /dev/virtio-ports are udev's, which dom0 has not.)"""
    find = f'for p in /sys/class/virtio-ports/*; do [ "$(cat $p/name)" != {line} ] || break; done'
    start = f"exec {shlex.join(words)} <>/dev/${{p##*/}} >&0 2>/dev/console"
    return f"setsid sh -c {shlex.quote(f'{find}; {start}')} </dev/null >/dev/null 2>&1 &"


def _records(agent: AgentClient) -> int:
    """Return how many single operations vCPU 0 has made: fewer after a restore than before it.

    No clock tells: under TCG an x86's TSC goes on where it was (seen with QEMU 7.2).
    """
    collected = agent.collect(0)
    return len(collected.records) + collected.lost


def _save(live: Session) -> None:
    """Let go of what would not survive a restore (SSH and all that runs through it), and save."""
    for domu in live.domus:
        live.toolstack.expect_end(domu.name)
    if live.tools is not None:
        live.tools.close()
    live.dom0.close()
    saved = {name: _records(agent) for name, agent in live.agents.items()}
    live.machine.save()
    live.saved = saved


def _record_domains(live: Session) -> None:
    kinds = {"dom0": "dom0"} | {domu.name: domu.type for domu in live.domus}
    for name, kind in kinds.items():
        live.recorder.add(records.Domain(live.host.name, name, kind, live.operations.get(name, 0)))


def _end_agents(live: Session) -> None:
    """End the agents' streams: they close their ports and let go of each other's pages."""
    for line in live.lines:
        line.hang_up()


def _healthy(live: Session) -> bool:
    try:
        live.check()
    except (LabError, HypervisorError):
        return False
    return live.dom0.alive()


def _destroy_domus(live: Session) -> bool:
    """Destroy all domUs; say whether that could be done.

    Xen closes their channels then, which may be how a lock that was never let go comes to light.
    """
    try:
        for domu in (*live.domus, *live.guests):
            live.toolstack.expect_end(domu.name)
            domu.destroy()
    except LabError as error:
        cause = live.cause(error)
        verdict = cause.verdict if isinstance(cause, HarnessError) else error.verdict
        live.recorder.add(records.Test(live.host.name, "teardown", verdict, 0.0, str(cause)))
        return False
    return True


def _compare(live: Session, before: state.State) -> None:
    """Record what is not as it was; a leak is a test of its own."""
    name = live.host.name
    leaks = state.settle(before, lambda: state.observe(live.dom0, live.tools))
    for leak in leaks:
        live.recorder.add(records.Leak(name, leak.what, leak.before, leak.after))
    verdict, message, story = state.judge(leaks)
    live.recorder.add(records.Test(name, "nothing-leaked", verdict, 0.0, message, story))


def _note_console(recorder: Recorder, host: Host, console: Console) -> None:
    for seen in console.events:
        recorder.add(
            records.ConsoleEvent(
                host.name, seen.line.stream, seen.line.time, seen.event.kind, seen.line.text
            )
        )
