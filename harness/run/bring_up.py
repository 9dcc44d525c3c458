# SPDX-License-Identifier: GPL-2.0-or-later
"""Bring a host up: build what the plan needs, check what booted, start the domUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import cache
from harness.arch import Arch
from harness.config.physical import Host
from harness.domains.call_timeout import Overdue
from harness.domains.dom0 import Dom0
from harness.domains.toolstack import DomU, DomUBoot, NotStarted, Toolstack
from harness.evidence import BringUp, words
from harness.hypervisor import build as builds
from harness.hypervisor.build import Build
from harness.hypervisor.rules import find_rules
from harness.hypervisor.symbols import is_shown
from harness.images.dom0 import DOMU_INITRAMFS, Dom0Image
from harness.machine import Machine
from harness.machine.console import Console, LineMissing
from harness.results.manifest import Ingredient
from harness.run import machines
from harness.run.dom0_steps import last_words
from harness.run.plan import Plan
from harness.run.recorder import Recorder
from harness.toolstack.choice import Choice, choose, no_toolstack
from harness.verdict import LabError

_TOOLSTACK_SECONDS = 180.0
_DOMU_SECONDS = 180.0


@contextmanager
def stage(recorder: Recorder, host: str, name: str, console: Console) -> Iterator[None]:
    """Time phase ``name`` of bringing ``host`` up; a LabError in it gets evidence: the phase, and
    the last lines of dom0's console."""
    with recorder.phase(host, name):
        try:
            yield
        except LabError as error:
            if error.evidence is None:
                error.evidence = BringUp(stage=name, last_words=last_words(console))
            error.story = error.story or words.story(error.evidence)
            raise


def hypervisor(plan: Plan, host: Host, update: Callable[[str], None]) -> Build:
    """Build the Xen of ``plan`` for ``host`` and return the build."""
    return builds.build(
        plan.hypervisor.source,
        plan.hypervisor.flavour,
        host.arch,
        plan.hypervisor.how,
        progress=lambda objects: update(f"{objects} objects compiled"),
    )


def toolstack_choice(plan: Plan, built: Build, host: Host, update: Callable[[str], None]) -> Choice:
    """Return the toolstack for dom0; build one if no existing one fits the hypervisor.

    None, where ``plan`` wants dom0 alone.
    """
    if plan.dom0_alone:
        return no_toolstack("the fixtures of the tests want nothing else")
    return choose(
        built.source,
        host.arch,
        progress=lambda objects: update(f"{objects} objects of dom0's toolstack compiled"),
        notice=update,
    )


def toolstack(dom0: Dom0, machine: Machine, folder: Path) -> Toolstack:
    """Connect to dom0's libvirt, which is up."""
    return Toolstack.connect(dom0, folder, timeout=_TOOLSTACK_SECONDS, check=machine.check)


def ingredients(built: Build, fit: Choice, image: Dom0Image, agent: Path) -> list[Ingredient]:
    """Return the ingredients of the run for its manifest."""
    arch = str(built.arch)
    source = built.source
    return [
        Ingredient("source", f"xen ({source.kind})", source.version, source.digest),
        *(
            Ingredient("patch", patch.subject, "", "", {"file": patch.file, "tree": patch.tree})
            for patch in source.series
        ),
        Ingredient(
            "build",
            f"xen {built.flavour} {arch}",
            source.version,
            built.digest,
            {
                "build_id": built.build_id,
                "compiler": built.compiler,
                "flavour_from": built.origin,
                "model": f"{built.model.name}, {built.model.how}: {built.model.source}",
            },
        ),
        Ingredient(
            "rules",
            "of the model",
            source.version,
            "",
            {
                found.rule: f"{'holds' if found.holds else 'does not hold'}: {found.told}"
                for found in find_rules(source).findings
            },
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


def same_build(dom0: Dom0, built: Build) -> None:
    """Raise LabError unless the running Xen has the build id of ``built`` (XENVER_build_id)."""
    look = "od -An -v -tx1 /sys/hypervisor/properties/buildid | tr -d ' \\n'"
    running = dom0.run(look).stdout.strip()
    if not is_shown(built.build_id, running):
        raise LabError(
            f"the Xen that booted has build id {running or '(none)'}, not {built.build_id}",
            where=str(built.image),
        )


def start_domus(
    plan: Plan,
    host: Host,
    image: Dom0Image,
    tools: Toolstack,
    console: Console,
    started: Callable[[DomU], None],
) -> None:
    """Start the domUs of ``host``; call ``started`` with each as soon as it runs."""
    for number in range(1, host.domus + 1):
        boot = DomUBoot(
            image.domu_kernel,
            DOMU_INITRAMFS,
            machines.linux_args(host, snapshot=plan.snapshot, domu=number),
            type="pv" if host.arch is Arch.X86_64 else "arm",
            memory_mib=host.domu_memory_mib,
            vcpus=host.domu_vcpus,
        )
        first = machines.first_cpu(host, number) if plan.pinned else 0
        name = f"domu{number}"
        try:
            started(tools.start(name, host.arch, boot, console, first))
        except NotStarted as error:
            error.evidence = _domu_not_up(name, error.what, console)
            raise
        except Overdue as error:
            error.evidence = _domu_not_up(name, error.what, console, late=True)
            raise


def await_domu(domu: DomU, console: Console, check: Callable[[], None]) -> None:
    """Wait until ``domu`` prints on its console that it is up."""
    try:
        console.expect("harness: domU up", _DOMU_SECONDS, domu.name, check=check)
    except LineMissing as error:
        error.evidence = _domu_not_up(domu.name, error.what, console, late=True)
        raise


def _domu_not_up(name: str, reason: str, console: Console, *, late: bool = False) -> BringUp:
    words = last_words(console, name) or last_words(console)
    return BringUp(stage="domains", domain=name, reason=reason, late=late, last_words=words)
