"""What a run was asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.config.physical import Host, PhysicalHost
from harness.hypervisor import flavour as flavours
from harness.hypervisor import source as sources
from harness.hypervisor.flavour import Flavour
from harness.hypervisor.source import Source
from harness.verdict import ConfigError

DEFAULT_FLAVOUR = "counter"  # the patched hypervisor that the project exists to validate
DEFAULT_DURATION = 5.0


@dataclass(frozen=True)
class Tree:
    """Where the hypervisor's source comes from; by default the distribution's 4.17."""

    directory: Path | None = None
    repository: str | None = None
    ref: str | None = None
    release: str | None = None  # of the distribution's, such as "4.14"

    def __post_init__(self) -> None:
        if self.directory is not None and self.repository is not None:
            raise ConfigError("--xen-src and --xen-git exclude each other", hint="give one")
        if self.release is not None and (self.directory or self.repository):
            raise ConfigError(
                "--xen-release takes the distribution's source, --xen-src and --xen-git another",
                hint="give one",
            )
        if (self.repository is None) != (self.ref is None):
            raise ConfigError("--xen-git and --xen-ref belong together", hint="give both")

    def source(self) -> Source:
        """Fetch or open the tree."""
        if self.directory is not None:
            return sources.from_dir(self.directory)
        if self.repository is not None and self.ref is not None:
            return sources.from_git(self.repository, self.ref)
        return sources.from_apt(self.release or sources.DEFAULT_RELEASE)


@dataclass(frozen=True)
class Plan:
    """A run: which hosts, which hypervisor, which seed, how long the load."""

    hosts: tuple[Host, ...]
    flavour: str = DEFAULT_FLAVOUR
    tree: Tree = Tree()
    seed: int = 0
    duration: float = DEFAULT_DURATION  # seconds of load per host
    out: Path | None = None
    snapshot: bool = False  # a machine restored to before the first test, for every test
    repeat: int = 1  # how often every test runs
    stub: bool = False  # a debugger can hold single CPUs still; vCPUs do not move between them
    delays: bool = False  # a test build, in which CPUs dawdle where they touch a channel's lock

    def __post_init__(self) -> None:
        if not 0.5 <= self.duration <= 86400:
            raise ConfigError(
                f"{self.duration:g} s is not between half a second and a day", where="--duration"
            )
        servers = [host.name for host in self.hosts if isinstance(host, PhysicalHost)]
        if self.snapshot and servers:
            raise ConfigError(
                f"{servers[0]} is a server: it has no snapshots",
                where="--snapshot",
                hint="leave it out",
            )
        if self.repeat < 1:
            raise ConfigError(f"{self.repeat} is not a number of times", where="--repeat")

    @property
    def pinned(self) -> bool:
        """Whether every vCPU of a QEMU machine has a CPU of its own."""
        return self.stub or self.delays

    def chosen(self, source: Source) -> Flavour:
        """Return what is to be built of ``source``; ConfigError when it cannot be."""
        found = flavours.find(self.flavour, source)
        return flavours.delayed(found, source) if self.delays else found

    def check(self) -> None:
        """Raise ConfigError for what would otherwise stop the run only once it is under way."""
        self.chosen(self.tree.source())
        if self.out is not None and self.out.is_dir() and any(self.out.iterdir()):
            raise ConfigError(
                "the directory is not empty", where=str(self.out), hint="give --out a new one"
            )
