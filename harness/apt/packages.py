# SPDX-License-Identifier: GPL-2.0-or-later
"""Ask apt for source trees, sets of binary packages, and their files."""

from __future__ import annotations

import functools
import hashlib
import re
import subprocess
import tempfile
import urllib.parse
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

from harness import cache, command
from harness.apt.deb import POOL
from harness.apt.root import AptRoot, Notice, open_root
from harness.arch import NAMES, Arch
from harness.verdict import LabError

_URI_LINE = re.compile(r"^'[^']*' (\S+\.deb) (\d+) SHA256:([0-9a-f]{64})\s*$", re.MULTILINE)
_UNKNOWN = re.compile(r"^E: (Unable to locate package .*|Package .* has no installation .*)$", re.M)
_UNMET = re.compile(r"^ +(\S+ : Depends: .*)$", re.MULTILINE)


@dataclass(frozen=True)
class Deb:
    """One binary package file; ``sha256`` names it in the pool, ``size`` is in bytes."""

    name: str
    version: str
    arch: str  # dpkg architecture of the package itself: "all" is possible
    filename: str
    sha256: str
    size: int


class Source(NamedTuple):
    """An unpacked source package: its full Debian version and its tree, read-only."""

    version: str
    tree: Path


class _Gone(Exception):
    """The archive's index lists files that the archive does not have (404)."""

    def __init__(self, debs: Sequence[Deb]) -> None:
        super().__init__(f"{len(debs)} packages")
        self.debs = debs


def _quiet(_: str) -> None:
    """Drop a notice."""


def source_package(
    name: str, version_prefix: str = "", *, codename: str = "", notice: Notice = _quiet
) -> Source:
    """Return the newest source package ``name`` whose upstream version has the prefix.

    "4.17" selects 4.17.5 but not 4.170.  The package is searched in the distribution's release
    ``codename`` (default: the release of this computer).  If the index lists a version that the
    archive no longer has, the next older version is tried, with a notice.  If the archive has
    no version completely, upstream's tarball alone is used.
    """
    root = _source_root(codename, notice)
    versions = _source_versions(root, name, version_prefix)
    for version in versions:
        tree = _source_tree(root, name, version, _WHOLE)
        if tree is not None:
            return Source(version, tree)
        notice(f"{name} {version} is in the index but not in the archive: trying an older one")
    for version in versions:  # archives keep upstream's tarball longer than the other files
        tree = _source_tree(root, name, version, _UPSTREAM)
        if tree is not None:
            upstream = version.rsplit("-", 1)[0]
            return Source(f"{upstream} (upstream's, without the distribution's patches)", tree)
    raise LabError(
        f"no source package {name} {version_prefix or '(any version)'} in {root.what}"
        if not versions
        else f"the archive lists source package {name} {', '.join(versions)} but has none of them",
        where="apt",
        hint="give a tree of your own",
    )


def source_versions(name: str, *, codename: str = "", notice: Notice = _quiet) -> list[str]:
    """Return the Debian versions of source package ``name`` in the index of release ``codename``
    (default: that of this computer), the newest first."""
    return _source_versions(_source_root(codename, notice), name, "")


def resolve(
    arch: Arch, packages: Iterable[str], *, recommends: bool = False, notice: Notice = _quiet
) -> tuple[Deb, ...]:
    """Return all packages that apt would install for ``packages`` on an empty machine.

    Of ``a|b``, the first package that the release has is used.
    """
    root = open_root(NAMES[arch].debian, types="deb", notice=notice)
    return _resolve(root, sorted(set(packages)), recommends)


def download(arch: Arch, debs: Iterable[Deb], *, notice: Notice = _quiet) -> dict[str, Path]:
    """Return the file of every package, by package name; download those not in the pool."""
    debs = tuple(debs)
    root = open_root(NAMES[arch].debian, types="deb", notice=notice)
    try:
        return _download(root, debs, notice)
    except _Gone as gone:
        raise _not_there(root, gone.debs) from None


def fetch(
    arch: Arch,
    packages: Iterable[str],
    *,
    recommends: bool = False,
    codename: str = "",
    notice: Notice = _quiet,
) -> dict[Deb, Path]:
    """Resolve ``packages`` and download them; return each package's file.

    The packages are those of the distribution's release ``codename`` (default: the release of this
    computer).  If the archive does not have a file that its index lists (404), the index is
    fetched again.  If that does not help, the suites that list the file (security, updates) are
    not used until the next refresh, with a notice.
    """
    wanted = sorted(set(packages))
    debian = NAMES[arch].debian
    root = open_root(debian, types="deb", notice=notice, codename=codename)
    for attempt in range(4):
        debs = _resolve(root, wanted, recommends)
        try:
            files = _download(root, debs, notice)
        except _Gone as gone:
            if attempt == 0:
                root = open_root(
                    debian, types="deb", notice=notice, refresh=True, codename=codename
                )
                continue
            _give_up_suites(root, gone.debs, notice)
            continue
        return {deb: files[deb.name] for deb in debs}
    raise LabError(f"{root.what}: the archive and its index do not agree", where="apt")


def _first_known(root: AptRoot, word: str) -> str:
    """Return the first of the packages ``a|b`` that ``root`` has; the last if it has none."""
    *names, last = word.split("|") if not word.startswith("^") else [word]

    def known(name: str) -> bool:
        try:
            return bool(root.apt("apt-cache", "show", "--no-all-versions", name))
        except command.CommandFailed:
            return False  # "No packages found"

    there = (name for name in names if root.answer(["known", name], partial(known, name)))
    return next(there, last)


def _resolve(root: AptRoot, packages: Sequence[str], recommends: bool) -> tuple[Deb, ...]:
    def ask() -> list[tuple[object, ...]]:
        option = "--install-recommends" if recommends else "--no-install-recommends"
        try:
            said = root.apt("apt-get", "install", "--yes", "--print-uris", option, *packages)
        except command.CommandFailed as error:
            raise _unresolved(root, error) from error
        return [astuple(_deb(*found)) for found in _URI_LINE.findall(said)]

    with root.lock():
        packages = [_first_known(root, word) for word in packages]
        rows = cast(list[list[object]], root.answer(["resolve", packages, recommends], ask))
    return tuple(Deb(*row) for row in rows)  # type: ignore[arg-type]


def _deb(filename: str, size: str, sha256: str) -> Deb:
    name, version, tail = filename.split("_")
    arch = tail.removesuffix(".deb")
    return Deb(name, urllib.parse.unquote(version), arch, filename, sha256, int(size))


def _unresolved(root: AptRoot, error: command.CommandFailed) -> LabError:
    found = _UNKNOWN.findall(error.output) or _UNMET.findall(error.output)
    what = "; ".join(found) if found else error.what
    return LabError(f"{root.what}: {what}", where="apt-get install")


def _download(root: AptRoot, debs: Sequence[Deb], notice: Notice) -> dict[str, Path]:
    pool = cache.shelf(POOL)
    files = {deb.name: pool / f"{deb.sha256}.deb" for deb in debs}
    missing = [deb for deb in debs if not _is_there(files[deb.name])]
    if not missing:
        return files
    size = sum(deb.size for deb in missing) / 1e6
    notice(f"downloading {len(missing)} of {len(debs)} {root.what}, {size:.0f} MB")
    with tempfile.TemporaryDirectory(prefix=".new-", dir=pool) as scratch:
        trouble = ""
        words = [f"{deb.name}={deb.version}" for deb in missing]
        try:
            with root.lock():
                root.apt("apt-get", "download", *words, cwd=Path(scratch), timeout=3600)
        except command.CommandFailed as error:
            trouble = error.output
        for deb in missing:
            got = Path(scratch, deb.filename)
            if got.is_file() and hashlib.sha256(got.read_bytes()).hexdigest() == deb.sha256:
                got.replace(files[deb.name])
    gone = [deb for deb in missing if not files[deb.name].is_file()]
    if gone and "404" in trouble:
        raise _Gone(gone)
    if gone:
        raise _no_download(root, gone[0].filename, trouble)
    return files


def _is_there(path: Path) -> bool:
    """Return whether the package is in the pool; LabError if another could have put it there.

    Whoever unpacks it looks at its content (harness.apt.deb).
    """
    try:
        return cache.trusted(path).is_file()
    except FileNotFoundError:
        return False


def _no_download(root: AptRoot, name: str, output: str) -> LabError:
    complaint = re.search(r"^E: (.*)$", output, re.MULTILINE)
    return LabError(
        f"cannot download {name} ({root.what}): {complaint[1] if complaint else 'apt failed'}",
        where="apt-get download",
        hint="check the network and apt's proxy",
    )


def _not_there(root: AptRoot, debs: Sequence[Deb]) -> LabError:
    names = ", ".join(deb.filename for deb in debs[:3])
    return LabError(f"{root.what}: the archive lists {names} but does not have it", where="apt")


def _give_up_suites(root: AptRoot, debs: Sequence[Deb], notice: Notice) -> None:
    suites = set()
    with root.lock():
        for deb in debs:
            for line in root.apt("apt-cache", "madison", deb.name).splitlines():
                cells = [cell.strip() for cell in line.split("|")]
                if len(cells) == 3 and cells[1] == deb.version:
                    suites.add(cells[2].split()[1].rsplit("/", 1)[0])
        extra = {suite for suite in suites if re.search(r"[-/]", suite)}
        if not extra:  # the release itself: nothing would be left
            raise _not_there(root, debs)
        root.drop(extra)
    notice(f"{root.what}: {', '.join(sorted(extra))} lists files that it does not have; not used")


def _source_root(codename: str, notice: Notice) -> AptRoot:
    native = command.run([command.which("dpkg", "dpkg"), "--print-architecture"]).strip()
    return open_root(native, types="deb-src", notice=notice, codename=codename)


def _source_versions(root: AptRoot, name: str, prefix: str) -> list[str]:
    def ask() -> list[str]:
        try:
            said = root.apt("apt-cache", "showsrc", "--only-source", name)
        except command.CommandFailed:
            return []  # "Unable to locate package"
        found = set(re.findall(r"^Version: (\S+)$", said, re.MULTILINE))
        return sorted(found, key=functools.cmp_to_key(_compare), reverse=True)

    with root.lock():
        versions = cast(list[str], root.answer(["source", name], ask))
    upstream = re.compile(rf"^(?:\d+:)?{re.escape(prefix)}(?!\d)")
    return [version for version in versions if not prefix or upstream.match(version)]


def _compare(left: str, right: str) -> int:
    """Order two Debian versions as dpkg does."""
    if left == right:
        return 0
    dpkg = command.which("dpkg", "dpkg")
    less = subprocess.run([dpkg, "--compare-versions", left, "lt", right], check=False)
    return -1 if less.returncode == 0 else 1


# Which files of a source package to download: options of apt-get.
_WHOLE: tuple[str, ...] = ()
_UPSTREAM = ("--tar-only",)
# Options of tar for upstream's tarball.  As root, it would give the files to the users it names.
UNPACK = ("--no-same-owner", "--no-same-permissions", "--strip-components=1")
_LAYOUT = 2  # of upstream's tree: 1 had files of other users in it


def _source_tree(root: AptRoot, name: str, version: str, part: tuple[str, ...]) -> Path | None:
    """Return the unpacked tree; None if the archive does not have it, which is remembered too."""
    layout = [_LAYOUT] if part == _UPSTREAM else []
    kind, entry_name = "source", cache.key(name, version, root.release.codename, *part, *layout)

    def make(work: Path) -> None:
        with tempfile.TemporaryDirectory(prefix=".source-", dir=work.parent) as scratch:
            below = Path(scratch)
            _download_source(root, name, version, below, part)
            # apt has verified the files with the signed index; dpkg-source need not verify again.
            tree = work / "tree"
            words: list[str | Path]
            if part == _WHOLE:
                unpack = command.which("dpkg-source", "dpkg-dev")
                words = [unpack, "--no-check", "-x", next(below.glob("*.dsc")).name, tree]
            else:
                tree.mkdir()
                tar, tarball = command.which("tar", "tar"), next(below.glob("*.tar.*"))
                words = [tar, *UNPACK, "-C", tree, "-xf", tarball]
            command.run(words, cwd=below)
        for path in tree.rglob("*"):
            if path.is_file() and not path.is_symlink():
                path.chmod(path.stat().st_mode & ~0o222)

    def is_there() -> bool:
        try:
            cache.entry(kind, entry_name, make)
        except _Gone:
            return False
        return True

    if not root.answer(["source tree", name, version, *part], is_there):
        return None
    try:
        return cache.entry(kind, entry_name, make) / "tree"
    except _Gone:  # was deleted from the cache since that was remembered
        return None


def _download_source(
    root: AptRoot, name: str, version: str, into: Path, part: tuple[str, ...]
) -> None:
    words = ("--download-only", "--only-source", *part, f"{name}={version}")
    try:
        with root.lock():
            root.apt("apt-get", "source", *words, cwd=into, timeout=3600)
    except command.CommandFailed as error:
        if "404" in error.output:
            raise _Gone(()) from error
        raise _no_download(root, f"source of {name} {version}", error.output) from error
