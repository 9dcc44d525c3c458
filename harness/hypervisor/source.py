# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a hypervisor comes from: the distribution, a directory, or a commit."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from filelock import FileLock

from harness import apt, cache, command, git
from harness.config.releases import DEFAULT_RELEASE, RELEASES
from harness.hypervisor import binary
from harness.verdict import ConfigError, LabError

# What a hypervisor build reads of a Xen tree; everything else is toolstack.
PARTS = ("Config.mk", "config", "scripts", "tools/flask", "version.sh", "xen")
# What is unpacked of a commit: that, and the toolstack's own sources.
_UNPACKED = (*PARTS, "tools")

# Left by an earlier build in the same tree, where git's ignore rules cannot tell us.  Only
# what is many, and what would choose a configuration: `make distclean` sees to the rest.
_PRODUCT = re.compile(r".*\.(o|opic)|\..*\.(cmd|d)|\.config(\.old)?")


@dataclass(frozen=True)
class Patch:
    """A patch of the user's that was applied to a tree."""

    file: str  # the mailbox or mail that it came in, as the user named it
    subject: str  # of its mail
    tree: str  # git's id of the whole tree after it


_BECOMES = re.compile(r"\d+\.\d+(-unstable|\.0-rc)")


@dataclass(frozen=True)
class Source:
    """A Xen source tree.  Nothing of ours ever writes to ``tree``."""

    kind: Literal["apt", "dir", "git", "deb"]  # deb: no source, but the distribution's own build
    tree: Path
    version: str  # Debian's version, xen/Makefile's, or that and the commit
    release: tuple[int, int]  # as xen/Makefile says
    digest: str  # of what a hypervisor build reads
    # Of a git tree: the repository (its .git); two clones of one commit are the same source ...
    home: Path | None = field(default=None, compare=False)
    commit: str = ""  # ... and the commit in it that the tree is, or is based on
    series: tuple[Patch, ...] = ()  # what was applied to that, in this order

    @property
    def era(self) -> tuple[int, int]:
        """The release by which to tell what the tree needs with today's tools: of a tree that
        becomes 4.15.0 (4.15-unstable, 4.15.0-rc1) that is 4.14, because nobody knows which of
        4.15's corrections it has already."""
        major, minor = self.release
        return (major, minor - 1) if _BECOMES.match(self.version) else self.release

    def interface(self, name: Literal["domctl", "sysctl"]) -> int | None:
        """Return the version of an interface to the toolstack; None if the tree has none."""
        header = self.tree / "xen" / "include" / "public" / f"{name}.h"
        try:
            text = header.read_text(errors="replace")
        except OSError:
            return None
        macro = f"XEN_{name.upper()}_INTERFACE_VERSION"
        found = re.search(rf"^#define\s+{macro}\s+(0x[0-9a-fA-F]+|\d+)\s*$", text, re.MULTILINE)
        return int(found[1], 0) if found else None


def from_apt(prefix: str = DEFAULT_RELEASE) -> Source:
    """Return the distribution's source package of Xen ``prefix``, fetched into the cache.

    On Debian the other releases of Xen come from the other releases of Debian.  Where the
    archive has lost the source of one, its binary packages stand in for it (kind "deb").
    LabError when apt offers none, or cannot be reached.
    """
    codename = RELEASES.get(prefix, "") if apt.machine_release().distribution == "debian" else ""
    try:
        package = apt.source_package("xen", prefix, codename=codename)
    except LabError as error:
        found = binary.from_packages(prefix, codename) if codename else None
        if found is None:
            raise error
        return Source("deb", found.tree, found.version, _numbers(prefix), found.digest)
    return _describe("apt", package.tree, package.version)


def _numbers(release: str) -> tuple[int, int]:
    major, _, minor = release.partition(".")
    return int(major), int(minor)


def from_dir(tree: Path) -> Source:
    """Return the user's own tree, as it is now, uncommitted changes included."""
    found = _describe("dir", tree.expanduser().resolve(), None)
    if not (found.tree / ".git").exists():
        return found
    try:
        home = git_dir(found.tree)
        return replace(found, home=home, commit=_commit(home, "HEAD"))
    except LabError:  # no commit yet, or git will not say: not the owner, no git
        return found


def from_git(repo: str, ref: str) -> Source:
    """Return commit ``ref`` of ``repo``: a local repository or anything ``git fetch`` takes.

    The commit is copied into the cache; the repository's work tree is not touched.
    ConfigError when there is no such repository or commit.
    """
    git.repository(repo, repo)
    git.revision(ref, "--xen-ref")
    local = Path(repo).expanduser()
    try:
        if local.is_dir():
            home = git_dir(local)
            commit = _commit(home, ref)
        else:
            home = _fetch(repo, ref)
            commit = _commit(home, "FETCH_HEAD")
    except command.CommandFailed as error:
        raise ConfigError(
            f"no commit {ref}: {git.said(error)}", where=repo, hint="see --xen-git and --xen-ref"
        ) from error

    found = _describe("git", _unpacked(home, commit), None)
    version = f"{found.version} {commit[:12]}"
    return replace(found, version=version, home=home, commit=commit)


def patched(source: Source, home: Path, series: tuple[Patch, ...]) -> Source:
    """Return ``source`` as it is after ``series``: the last one's tree, in the repository ``home``.

    The key in the cache is the tree's id, so the same content is there once, and built once.
    """
    # What the distribution says of its own package (its toolstack fits) does not hold any more.
    kind: Literal["dir", "git"] = "git" if source.kind == "git" else "dir"
    count = f"{len(series)} patch{'es' if len(series) > 1 else ''}"
    found = _describe(kind, _unpacked(home, series[-1].tree), f"{source.version} + {count}")
    return replace(found, home=source.home, commit=source.commit, series=series)


def _unpacked(home: Path, treeish: str) -> Path:
    """Return what we need of a commit or tree of the repository ``home``, copied into the cache."""

    def unpack(folder: Path) -> None:
        tarball = folder / "tree.tar"
        there = git.run("ls-tree", "--name-only", treeish, "--", *_UNPACKED, home=home).splitlines()
        what: tuple[str | Path, ...] = ("--format=tar", "-o", tarball, treeish, "--", *there)
        git.run("archive", *what, home=home, env=git.unfiltered(home))
        own = "--no-same-owner"  # not a user that the tree names
        command.run([command.which("tar", "tar"), own, "-xf", tarball, "-C", folder])
        tarball.unlink()

    return cache.entry("xen-trees", treeish, unpack)


def files(tree: Path, parts: Sequence[str] = PARTS) -> list[Path]:
    """Return the files (absolute, sorted) of ``tree`` below ``parts``, which a build reads.

    In a git work tree that is what git knows or would add; elsewhere everything but
    objects and the configuration of an earlier build.
    """
    known = _git_files(tree, parts) if (tree / ".git").exists() else None
    return sorted(known if known is not None else _walk(tree, parts))


def _describe(kind: Literal["apt", "dir", "git"], tree: Path, version: str | None) -> Source:
    makefile = tree / "xen" / "Makefile"
    try:
        text = makefile.read_text(errors="replace")
    except OSError as error:
        raise ConfigError(
            f"not a Xen source tree: xen/Makefile: {error.strerror}",
            where=str(tree),
            hint="give the directory that holds xen/ and Config.mk",
        ) from error
    major, minor, extra = (
        _assigned(text, name) for name in ("XEN_VERSION", "XEN_SUBVERSION", "XEN_EXTRAVERSION")
    )
    if not (major.isdigit() and minor.isdigit()):
        raise ConfigError("xen/Makefile gives no XEN_VERSION and XEN_SUBVERSION", where=str(tree))
    try:
        digest = cache.digest_files(files(tree), base=tree)
    except OSError as error:
        raise LabError(
            f"cannot read the source: {error.strerror}", where=str(error.filename or tree)
        ) from error
    return Source(
        kind, tree, version or f"{major}.{minor}{extra}", (int(major), int(minor)), digest
    )


def _assigned(makefile: str, name: str) -> str:
    """Return what ``makefile`` assigns to ``name``, without references to other variables."""
    found = re.search(rf"^(?:export\s+)?{name}\s*[:?]?=\s*(.*)$", makefile, re.MULTILINE)
    return re.sub(r"\$\([^)]*\)", "", found[1]).strip() if found else ""


def _git_files(tree: Path, parts: Sequence[str]) -> list[Path] | None:
    """Return what git tracks or would add; None if git will not say (not the owner, no git)."""
    listing = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *parts]
    try:
        out = git.run(*listing, tree=tree)
    except LabError:
        return None
    paths = {tree / name for name in out.split("\0") if name}
    return [path for path in paths if path.is_symlink() or path.is_file()]


def _walk(tree: Path, parts: Sequence[str]) -> Iterator[Path]:
    for part in parts:
        if (tree / part).is_file():
            yield tree / part
        for folder, _, names in os.walk(tree / part):
            yield from (Path(folder, name) for name in names if not _PRODUCT.fullmatch(name))


def git_dir(repo: Path) -> Path:
    """Return the .git of ``repo``, a work tree or a bare repository; CommandFailed without one."""
    return Path(git.run("rev-parse", "--absolute-git-dir", tree=repo).splitlines()[-1])


def _commit(home: Path, ref: str) -> str:
    """Return the full id of commit ``ref`` of the repository ``home`` (its .git)."""
    said = git.run("rev-parse", "--verify", git.END, f"{ref}^{{commit}}", home=home)
    return said.splitlines()[-1]


def _fetch(url: str, ref: str) -> Path:
    """Return a bare repository in the cache whose FETCH_HEAD is ``ref`` of ``url``."""
    if re.search(r"[:*^]|^\+", ref):  # a refspec: it would write other refs than FETCH_HEAD
        raise ConfigError(
            f"{ref!r} names no commit of another repository",
            where="--xen-ref",
            hint="give a branch, a tag or the full id of a commit",
        )
    shelf = cache.shelf("xen-git-remotes")
    home = shelf / cache.key(url, ref)
    try:
        with FileLock(f"{home}.lock"):
            if home.exists():
                cache.trusted(home)
            git.run("init", "-q", "--bare", home)
            git.run("fetch", "-q", "--depth=1", git.END, url, ref, home=home)
    except OSError as error:
        raise LabError(f"cannot write the cache: {error.strerror}", where=str(shelf)) from error
    return home
