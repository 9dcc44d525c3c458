# SPDX-License-Identifier: GPL-2.0-or-later
"""Which toolstack dom0 gets for a hypervisor: the distribution's, or one built from a tree.

domctl and sysctl are Xen's interfaces to its own toolstack only: both sides must have been built
from headers of the same version, and Xen refuses (EACCES) whoever was not.  The number alone is
no proof: between releases a tree may have a new layout and still the old number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness import apt
from harness.arch import Arch
from harness.command import CommandFailed
from harness.hypervisor.make import Progress
from harness.hypervisor.source import Source
from harness.toolstack import build as builds
from harness.toolstack import headers, version_word
from harness.toolstack import tree as trees
from harness.toolstack.interface import Interface, interface
from harness.toolstack.recipe import Compiler
from harness.toolstack.sysroot import sysroot
from harness.toolstack.version_word import Interfaces
from harness.verdict import BuildError, LabError

_DOM0 = "bookworm"  # the release of Debian that a tree's own toolstack is built for

# Debian's releases and the interfaces of their Xen: 4.14, 4.17, 4.20.
TOOLSTACKS = {
    "bullseye": Interfaces(0x12, 0x13),
    "bookworm": Interfaces(0x15, 0x15),
    "trixie": Interfaces(0x17, 0x15),
}


@dataclass(frozen=True)
class Choice:
    """Where dom0's toolstack comes from.

    ``package``: the distribution's, for the distribution's own Xen; ``equal-to``: another one that
    was proved to fit; ``built``: made of the hypervisor's own tree; ``none``: there is none, and
    only what needs no toolstack can be tested.
    """

    codename: str  # the release to make dom0 of; "" is the machine's
    how: Literal["package", "equal-to", "built", "none"]
    reason: str  # one line
    built: builds.Toolstack | None = None
    words: Path | None = None  # the library that presents the versions that this Xen wants

    @property
    def files(self) -> Mapping[str, Path]:
        """What dom0 gets beside its packages, by path below its /run/harness/toolstack."""
        found = {}
        if self.built is not None:
            paths = sorted(path for path in self.built.files.rglob("*") if path.is_file())
            found = {str(path.relative_to(self.built.files)): path for path in paths}
        return found | ({self.words.name: self.words} if self.words else {})

    @property
    def why_not(self) -> str:
        """Why there is no toolstack; "" if there is one."""
        return self.reason if self.how == "none" else ""


@dataclass(frozen=True)
class _Candidate:
    """A toolstack that is there already."""

    name: str
    codename: str
    has: Interfaces
    interface: Interface
    built: builds.Toolstack | None = None


def choose(
    source: Source,
    arch: Arch,
    *,
    progress: Progress | None = None,
    notice: apt.Notice = lambda _: None,
) -> Choice:
    """Return the toolstack for a hypervisor built from ``source``; made if need be."""
    wanted = version_word.interfaces(source)
    debian = apt.machine_release().distribution == "debian"
    if source.kind in ("apt", "deb"):
        # Elsewhere there is only the machine's own release, for better or worse.
        return packaged(wanted) if debian else Choice("", "package", "the distribution's own")
    if wanted is None:
        return packaged(wanted)
    if debian and (same := _same_headers(source, wanted, arch, notice)):
        return same
    if why_not := _unfit(source):
        return _equal(source, wanted, arch, debian, notice) or Choice("", "none", why_not)
    codename = _DOM0 if debian else ""
    try:
        job = builds.Job.of(source, arch, codename, notice)
        if not job.is_made:
            equal = _equal(source, wanted, arch, debian, notice)
            if equal is not None:
                return equal
        made = job.run(progress)
    except BuildError as error:
        return Choice("", "none", f"tools/ does not compile: {error}")
    return Choice(codename, "built", f"from tools/ of {made.version}", made)


def no_toolstack(why: str) -> Choice:
    """Return the choice of a dom0 without a toolstack, for tests that need dom0 alone."""
    debian = apt.machine_release().distribution == "debian"
    return Choice(_DOM0 if debian else "", "none", why)


def packaged(wanted: Interfaces | None) -> Choice:
    """Return the choice for the distribution's own Xen with those interfaces."""
    if wanted is None:
        return Choice("", "none", "the source does not tell its domctl and sysctl versions")
    for codename, has in TOOLSTACKS.items():
        if has == wanted:
            return Choice(codename, "package", f"Debian {codename}'s own, for {wanted}")
    known = "; ".join(f"{codename}: {has}" for codename, has in TOOLSTACKS.items())
    return Choice("", "none", f"no dom0 has a toolstack for {wanted} ({known})")


def _unfit(source: Source) -> str:
    """Return why no toolstack can be built from ``source``."""
    if source.release < trees.OLDEST:
        oldest = ".".join(map(str, trees.OLDEST))
        return f"{source.version} is older than {oldest}: its tools/ are not built"
    if not trees.has_tools(source.tree):
        return f"{source.version} has no tools/ to build one from"
    return ""


def _same_headers(
    source: Source, wanted: Interfaces, arch: Arch, notice: apt.Notice
) -> Choice | None:
    """Return the release whose Xen has the headers of ``source``, byte for byte."""
    for codename, has in TOOLSTACKS.items():
        if has == wanted:
            package = headers.of_package(arch, codename, notice=notice)
            if headers.same(source.tree / headers.PUBLIC, package.folder):
                reason = f"the public headers are those of Debian {codename}'s {package.version}"
                return Choice(codename, "equal-to", reason)
    return None


def _equal(
    source: Source, wanted: Interfaces, arch: Arch, debian: bool, notice: apt.Notice
) -> Choice | None:
    """Return a toolstack that is there already and is proved to fit; None if none is."""
    root = sysroot(arch, codename=_DOM0 if debian else "", notice=notice)
    compiler = Compiler(arch, root.tree, Path("/"))
    try:
        here = interface(source.tree / headers.PUBLIC, compiler)
    except CommandFailed:
        return None  # whoever builds it will say what does not compile
    for candidate in _candidates(wanted, compiler, root.digest, debian, notice):
        if here.lacks(candidate.interface):
            continue
        count = f"{len(candidate.interface.types)} types, {len(candidate.interface.constants)}"
        reason = f"{candidate.name} ({candidate.has}): {count} constants are the same here"
        words = None
        if candidate.has != wanted:
            words = version_word.library(candidate.has, wanted, compiler)
        return Choice(candidate.codename, "equal-to", reason, candidate.built, words)
    return None


def _candidates(
    wanted: Interfaces, compiler: Compiler, root: str, debian: bool, notice: apt.Notice
) -> Iterator[_Candidate]:
    """Yield the toolstacks that are there, those that were built first."""
    arch = compiler.arch
    for made in builds.existing(arch, root):
        name = f"that of {made.version}"
        codename = _DOM0 if debian else ""
        yield _Candidate(name, codename, made.interfaces, made.interface, made)
    for codename, has in TOOLSTACKS.items() if debian else ():
        if codename != _DOM0 and has != wanted:
            continue  # another release's index would have to be fetched, for little hope
        try:
            package = headers.of_package(arch, codename, notice=notice)
            found = interface(package.folder, compiler)
        except LabError as error:
            notice(f"Debian {codename}'s toolstack is not considered: {error.what}")
            continue
        name = f"Debian {codename}'s of {package.version}"
        yield _Candidate(name, codename, has, found)
