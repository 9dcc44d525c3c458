# SPDX-License-Identifier: GPL-2.0-or-later
"""Bring a host up: build what the plan needs, check what booted, start the domUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import cache
from harness.arch import Arch
from harness.config.physical import Host
from harness.domains.dom0 import Dom0
from harness.domains.toolstack import DomU, DomUBoot, Toolstack
from harness.evidence import BringUp, words
from harness.hypervisor import build as builds
from harness.hypervisor.build import Build
from harness.hypervisor.rules import find_rules
from harness.hypervisor.symbols import is_shown
from harness.images.dom0 import DOMU_INITRAMFS, Dom0Image
from harness.machine import Machine
from harness.machine.console import Console
from harness.results.manifest import Ingredient
from harness.run import machines
from harness.run.plan import Plan
from harness.run.recorder import Recorder
from harness.toolstack.choice import Choice, choose
from harness.verdict import LabError

TOOLSTACK_SECONDS = 180.0
_DOMU_SECONDS = 180.0
_LAST_WORDS = 12  # lines of dom0's console


@contextmanager
def stage(recorder: Recorder, host: str, name: str, console: Console) -> Iterator[None]:
    """Time phase ``name`` of bringing ``host`` up; a LabError in it gets evidence: the phase, and
    the last lines of dom0's console."""
    with recorder.phase(host, name):
        try:
            yield
        except LabError as error:
            if error.evidence is None:
                told = (line.text for line in console.tail("dom0", _LAST_WORDS))
                seen = BringUp(stage=name, last_words=tuple(told))
                error.evidence, error.story = seen, error.story or words.story(seen)
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


def toolstack_choice(built: Build, host: Host, update: Callable[[str], None]) -> Choice:
    """Return the toolstack for dom0; build one if no existing one fits the hypervisor."""
    return choose(
        built.source,
        host.arch,
        progress=lambda objects: update(f"{objects} objects of dom0's toolstack compiled"),
        notice=update,
    )


def toolstack(dom0: Dom0, machine: Machine, folder: Path) -> Toolstack:
    """Wait for dom0's libvirt, then connect to it."""
    console, check = machine.console, machine.check
    console.expect("harness: dom0 (libvirtd up|.* failed)", TOOLSTACK_SECONDS, check=check)
    return Toolstack.connect(dom0, folder, timeout=TOOLSTACK_SECONDS, check=check)


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
    boot = DomUBoot(
        image.domu_kernel,
        DOMU_INITRAMFS,
        machines.linux_args(host, snapshot=plan.snapshot),
        type="pv" if host.arch is Arch.X86_64 else "arm",
        memory_mib=host.domu_memory_mib,
        vcpus=host.domu_vcpus,
    )
    for number in range(1, host.domus + 1):
        first = machines.first_cpu(host, number) if plan.pinned else 0
        started(tools.start(f"domu{number}", host.arch, boot, console, first))


def await_domu(domu: DomU, console: Console, check: Callable[[], None]) -> None:
    """Wait until ``domu`` prints on its console that it is up."""
    console.expect("harness: domU up", _DOMU_SECONDS, domu.name, check=check)
