# SPDX-License-Identifier: GPL-2.0-or-later
"""The plan of a run: its options, with hosts looked up and source tree opened."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar

from harness.config.host import EMULATION, Domains, EmulationHost
from harness.config.lab import host, load_lab
from harness.config.options import DEFAULT_HOST, RunOptions, XenOptions
from harness.config.physical import Host, PhysicalHost
from harness.config.releases import DEFAULT_RELEASE
from harness.hypervisor import flavour as flavours
from harness.hypervisor import qemu, series
from harness.hypervisor import source as sources
from harness.hypervisor.flavour import Flavour
from harness.hypervisor.qemu import QemuSource
from harness.hypervisor.recipe import How
from harness.hypervisor.source import Source
from harness.verdict import ConfigError

_ALONE = "give it a run of its own"


@dataclass(frozen=True, kw_only=True)
class Hypervisor:
    """The Xen under test: an opened source tree, the flavour's patches for it, how it is built."""

    source: Source
    flavour: Flavour
    how: How = field(default_factory=How)


@dataclass(frozen=True, kw_only=True)
class TestPlan:
    """What every run of tests has, whatever they are run on."""

    __test__: ClassVar[bool] = False  # pytest: this is a value, not a test class
    hosts: tuple[Domains, ...]
    seed: int = 0
    duration: float = RunOptions.duration  # seconds of load per host
    out: Path | None = None
    snapshot: bool = False  # restore the machine before each test
    repeat: int = 1  # how many times each test runs
    keep_going: bool = False  # continue after a test that did not pass
    strict: bool = False  # MISS where more than a third of a host's tests was skipped


@dataclass(frozen=True, kw_only=True)
class EmulationPlan(TestPlan):
    """A run on QEMU's emulation."""

    hosts: tuple[EmulationHost, ...] = (EMULATION,)
    qemu: QemuSource


@dataclass(frozen=True, kw_only=True)
class Plan(TestPlan):
    """A run: which hosts, which hypervisor, which seed, how long the load."""

    hosts: tuple[Host, ...]
    hypervisor: Hypervisor
    keep: bool = False  # go on from a booted machine in the cache; if there is none, keep one
    dom0_alone: bool = False  # bring up no toolstack and no domU: no test needs them
    stub: bool = False  # start QEMU's gdbstub, which can hold single CPUs; pin vCPUs
    lines: bool = False  # note which lines of Xen's event channels run; under TCG, from a boot
    delays: bool = False  # a test build that delays CPUs where they use a channel's lock

    def __post_init__(self) -> None:
        servers = [host.name for host in self.hosts if isinstance(host, PhysicalHost)]
        if self.lines:
            self._can_see_lines()
        if self.snapshot and servers:
            raise ConfigError(
                f"{servers[0]} is a physical server: it has no snapshots",
                where="--snapshot",
                hint="leave this option out",
            )

    def _can_see_lines(self) -> None:
        for each in self.hosts:
            if isinstance(each, PhysicalHost) or each.accel == "kvm":
                why = "is a physical server" if isinstance(each, PhysicalHost) else "wants KVM"
                raise ConfigError(
                    f"{each.name} {why}: only QEMU's TCG sees which instructions run",
                    where="--lines",
                    hint="leave this option out, or take a host with accel: tcg or auto",
                )

    @property
    def pinned(self) -> bool:
        """True if every vCPU of a machine under QEMU is pinned to a CPU of its own."""
        return self.stub or self.delays


def plan_of(options: RunOptions) -> Plan | EmulationPlan:
    """Return the plan for ``options``: of the emulation, if that is the host, else ``make_plan``.

    ConfigError if an option does not go with the host.
    """
    if EMULATION.name in options.host:
        return _emulation_plan(options)
    if options.qemu_src is not None:
        raise ConfigError(
            "only QEMU's emulation has that source",
            where="--qemu-src",
            hint=f"give --host {EMULATION.name} as well",
        )
    return make_plan(options)


def _emulation_plan(options: RunOptions) -> EmulationPlan:
    if len(set(options.host)) > 1:
        raise ConfigError(
            "it is tested alone: there is no Xen to build", where=EMULATION.name, hint=_ALONE
        )
    plain = type(options)()
    of_xen = [each.name for each in fields(XenOptions)]
    for name in (*of_xen, "snapshot", "no_snapshot", "lines"):
        if getattr(options, name) != getattr(plain, name):
            raise ConfigError(
                "there is no Xen, and no machine",
                where=f"--{name.replace('_', '-')}",
                hint=f"leave the option out with --host {EMULATION.name}",
            )
    source = options.qemu_src
    return EmulationPlan(
        qemu=qemu.from_apt() if source is None else qemu.from_dir(source),
        seed=_seed(options),
        duration=options.duration,
        out=options.out,
        repeat=options.repeat,
        keep_going=options.keep_going,
        strict=options.strict,
    )


def _seed(options: RunOptions) -> int:
    return secrets.randbits(32) if options.seed is None else options.seed


def make_plan(options: RunOptions, hypervisor: Hypervisor | None = None) -> Plan:
    """Return the plan for ``options``: look up the hosts, open the source tree (unless it is given
    as ``hypervisor``), choose a seed.

    ConfigError if something does not exist; LabError if the source cannot be fetched.
    """
    return Plan(
        hosts=find_hosts(options),
        hypervisor=hypervisor or open_hypervisor(options),
        seed=_seed(options),
        duration=options.duration,
        out=options.out,
        keep=not (options.no_snapshot or options.lines),
        lines=options.lines,
        snapshot=options.snapshot,
        repeat=options.repeat,
        keep_going=options.keep_going,
        strict=options.strict,
    )


def find_hosts(options: RunOptions) -> tuple[Host, ...]:
    """Return the hosts that ``options`` name, each once; ConfigError if one does not exist."""
    lab = load_lab(options.lab)
    return tuple(host(lab, name) for name in dict.fromkeys(options.host or (DEFAULT_HOST,)))


def open_hypervisor(options: XenOptions, *, delays: bool = False) -> Hypervisor:
    """Open the source that ``options`` name and find the flavour for it.

    ConfigError if the source or flavour does not exist, LabError if it cannot be fetched.
    """
    source = open_source(options)
    found = flavours.find(options.flavour, source, options.model)
    chosen = flavours.delayed(found, source) if delays else found
    return Hypervisor(source=source, flavour=chosen, how=how_to_build(options))


def how_to_build(options: XenOptions) -> How:
    """Return how ``options`` want Xen built; ConfigError if there is no such compiler."""
    return How(compiler=options.compiler, debug=not options.release_build)


def open_source(options: XenOptions) -> Source:
    """Fetch or open the source tree that ``options`` name, and apply their series to it; errors as
    of open_hypervisor."""
    mails = series.read(options.series)  # a mistake there is told before anything is fetched
    source = _open_tree(options)
    return series.apply(source, mails) if mails else source


def _open_tree(options: XenOptions) -> Source:
    if options.xen_src is not None:
        return sources.from_dir(options.xen_src)
    if options.xen_git is not None and options.xen_ref is not None:
        return sources.from_git(options.xen_git, options.xen_ref)
    return sources.from_apt(options.xen_release or DEFAULT_RELEASE)
