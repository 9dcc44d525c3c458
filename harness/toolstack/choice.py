"""Which toolstack dom0 gets for a hypervisor: the distribution's, or one built from its tree.

domctl and sysctl are Xen's interfaces to its own toolstack only: both sides must have been built
from headers of the same version, and Xen refuses (EACCES) whoever was not.  The number alone is
no proof: between releases a tree may have a new layout and still the old number.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness import apt
from harness.arch import Arch
from harness.hypervisor.make import Progress
from harness.hypervisor.source import Source
from harness.toolstack import build as builds
from harness.toolstack import headers
from harness.toolstack import tree as trees
from harness.verdict import BuildError

_DOM0 = "bookworm"  # the release of Debian that a tree's own toolstack is built for


@dataclass(frozen=True)
class Interfaces:
    """XEN_DOMCTL_INTERFACE_VERSION and XEN_SYSCTL_INTERFACE_VERSION."""

    domctl: int
    sysctl: int

    def __str__(self) -> str:
        return f"domctl {self.domctl:#x}, sysctl {self.sysctl:#x}"


# Debian's releases and the interfaces of their Xen: 4.14, 4.17, 4.20.
TOOLSTACKS = {
    "bullseye": Interfaces(0x12, 0x13),
    "bookworm": Interfaces(0x15, 0x15),
    "trixie": Interfaces(0x17, 0x15),
}


@dataclass(frozen=True)
class Choice:
    """Where dom0's toolstack comes from.

    ``package``: the distribution's, which was built from the same source as the hypervisor;
    ``equal-to``: the distribution's, which was proved to fit; ``built``: made of the hypervisor's
    own tree; ``none``: there is none, and only what needs no toolstack can be tested.
    """

    codename: str  # the release to make dom0 of; "" is the machine's
    how: Literal["package", "equal-to", "built", "none"]
    reason: str  # one line
    built: builds.Toolstack | None = None

    @property
    def files(self) -> Path | None:
        """What dom0 gets beside its packages."""
        return self.built.files if self.built else None

    @property
    def why_not(self) -> str:
        """Why there is no toolstack; "" if there is one."""
        return self.reason if self.how == "none" else ""


def choose(
    source: Source,
    arch: Arch,
    *,
    progress: Progress | None = None,
    notice: apt.Notice = lambda _: None,
) -> Choice:
    """Return the toolstack for a hypervisor built from ``source``; made if need be."""
    wanted = interfaces(source)
    debian = apt.machine_release().distribution == "debian"
    if source.kind in ("apt", "deb"):
        # Elsewhere there is only the machine's own release, for better or worse.
        return packaged(wanted) if debian else Choice("", "package", "the distribution's own")
    if debian and (equal := _equal(source, wanted, arch, notice)):
        return equal
    return _built(source, arch, _DOM0 if debian else "", progress, notice)


def interfaces(source: Source) -> Interfaces | None:
    """Return the versions of the interfaces of ``source``; None if it does not tell."""
    domctl, sysctl = source.interface("domctl"), source.interface("sysctl")
    return None if domctl is None or sysctl is None else Interfaces(domctl, sysctl)


def packaged(wanted: Interfaces | None) -> Choice:
    """Return the choice for the distribution's own Xen with those interfaces."""
    if wanted is None:
        return Choice("", "none", "the source does not tell its domctl and sysctl versions")
    for codename, has in TOOLSTACKS.items():
        if has == wanted:
            return Choice(codename, "package", f"Debian {codename}'s, of the same source package")
    known = "; ".join(f"{codename}: {has}" for codename, has in TOOLSTACKS.items())
    return Choice("", "none", f"no dom0 has a toolstack for {wanted} ({known})")


def _equal(
    source: Source, wanted: Interfaces | None, arch: Arch, notice: apt.Notice
) -> Choice | None:
    """Return the choice of a release whose toolstack is proved to fit; None if none is."""
    for codename, has in TOOLSTACKS.items():
        if has == wanted:
            package = headers.of_package(arch, codename, notice=notice)
            if headers.same(source.tree / headers.PUBLIC, package.folder):
                reason = f"the public headers are those of Debian {codename}'s {package.version}"
                return Choice(codename, "equal-to", reason)
    return None


def _built(
    source: Source, arch: Arch, codename: str, progress: Progress | None, notice: apt.Notice
) -> Choice:
    if not trees.has_tools(source.tree):
        return Choice("", "none", f"{source.version} has no tools/ to build one from")
    if source.release < trees.OLDEST:
        oldest = ".".join(map(str, trees.OLDEST))
        return Choice(
            "", "none", f"{source.version} is older than {oldest}: its tools/ are not built"
        )
    try:
        made = builds.build(source, arch, codename=codename, progress=progress, notice=notice)
    except BuildError as error:
        return Choice("", "none", f"tools/ does not compile: {error}")
    return Choice(codename, "built", f"from tools/ of {source.version}", made)
