# SPDX-License-Identifier: GPL-2.0-or-later
"""Flavours: patch series for the per-channel lock, one folder per Xen release.

``images/xen/<release>/<flavour>/series`` lists patches in the order they apply, as
paths relative to the file (quilt's format).  A mutant, known to be bad, lies in
``images/xen/<release>/bad/<name>/``.  ``rwlock`` is the tree as it stands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from harness import cache, command
from harness.data import IMAGES
from harness.hypervisor.source import Source
from harness.verdict import ConfigError

SHELF = IMAGES / "xen"
AS_IT_STANDS = "rwlock"
DELAYS = SHELF / "delays.patch"  # for every flavour of every release

# Type of ``struct evtchn``'s lock -> flavours that it is (xen/include/xen/sched.h).
_LOCK_TYPES = {
    "rwlock_t": ("rwlock",),
    "spinlock_t": ("spinlock",),
    "atomic_t": ("counter", "counter-v2"),
}
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_LOCK_MEMBER = re.compile(r"struct evtchn\s*\{\s*(\w+)\s+lock;")


@dataclass(frozen=True)
class Flavour:
    """A named patch series; no patches means the tree is built as it stands."""

    name: str
    patches: tuple[Path, ...]
    bad: bool = False  # a mutant that a test must catch

    @property
    def design(self) -> str:
        """The flavour whose rules it should keep: a mutant's is the one it was made from."""
        if not self.bad:
            return self.name
        home = self.patches[0].parent
        return AS_IT_STANDS if home.parent.name == "bad" else home.name

    @property
    def digest(self) -> str:
        """Digest of the patches, in their order."""
        return cache.key(*(patch.read_bytes() for patch in self.patches))


def names(release: tuple[int, int]) -> list[str]:
    """Return the flavours there are for ``release``, good ones first."""
    home = _home(release)
    good = [path.parent.name for path in sorted(home.glob("*/series"))]
    return [AS_IT_STANDS, *good, *(path.parent.name for path in sorted(home.glob("bad/*/series")))]


def find(name: str, source: Source) -> Flavour:
    """Return flavour ``name`` for ``source``.

    A tree that has the flavour's lock already (a developer's own branch) is taken as it
    stands.  ConfigError when there is no such series for the release.
    """
    own = own_lock(source.tree)
    if own is not None and name in own:
        return Flavour(name, ())
    release = "{}.{}".format(*source.release)
    if name == AS_IT_STANDS and own is not None:
        raise ConfigError(
            f"this tree's event channel lock is not a rwlock: build it as {own[0]}",
            where=str(source.tree),
        )
    if name == AS_IT_STANDS:
        return Flavour(name, ())
    for folder, bad in ((_home(source.release) / name, False), (_bad(source.release) / name, True)):
        series = folder / "series"
        if _NAME.fullmatch(name) and series.is_file():
            return Flavour(name, _read_series(series), bad)
    raise ConfigError(
        f"no flavour {name} for Xen {release}",
        where="--flavour",
        hint=f"there are {', '.join(names(source.release))}; "
        f"a new one is a folder {_home(source.release) / name} with a series file",
    )


def delayed(flavour: Flavour, source: Source) -> Flavour:
    """Return the test build of ``flavour``: CPUs dawdle where they are about to touch the lock.

    ConfigError when there is nothing to build: the distribution's own binary has no delay points.
    """
    if source.kind == "deb":
        raise ConfigError(
            f"Xen {source.version} is here as the distribution built it: no test build can be made",
            where="--delays",
            hint="take a release whose source there is, or --xen-src",
        )
    patches = (*flavour.patches, DELAYS)
    return Flavour(flavour.name, patches, flavour.bad)


def as_it_stands(tree: Path) -> str:
    """Return the flavour to build ``tree`` as without any patch."""
    return (own_lock(tree) or (AS_IT_STANDS,))[0]


def own_lock(tree: Path) -> tuple[str, ...] | None:
    """Return the flavours that ``tree`` is without any patch; None if it is none of them."""
    try:
        text = (tree / "xen" / "include" / "xen" / "sched.h").read_text(errors="replace")
    except OSError:
        return None
    found = _LOCK_MEMBER.search(text)
    return _LOCK_TYPES.get(found[1]) if found else None


def apply(flavour: Flavour, tree: Path) -> None:
    """Apply the patches to ``tree``; ConfigError names the first one that does not fit."""
    patch = command.which("patch", "patch")
    for file in flavour.patches:
        try:
            command.run([patch, "-p1", "-N", "-F0", "-d", tree, "-i", file])
        except command.CommandFailed as error:
            failed = re.search(
                r"^Hunk #\d+ FAILED.*|^can't find file.*", error.output, re.MULTILINE
            )
            where = re.findall(r"^patching file (\S+)", error.output, re.MULTILINE)
            raise ConfigError(
                f"the patch does not fit this tree: {failed[0] if failed else error.what}"
                + (f" ({where[-1]})" if where else ""),
                where=str(file.relative_to(SHELF)) if file.is_relative_to(SHELF) else str(file),
                hint=f"build the tree as it stands with --flavour {AS_IT_STANDS}",
            ) from error


def _home(release: tuple[int, int]) -> Path:
    return SHELF / "{}.{}".format(*release)


def _bad(release: tuple[int, int]) -> Path:
    return _home(release) / "bad"


def _read_series(series: Path) -> tuple[Path, ...]:
    lines = (line.split("#")[0].strip() for line in series.read_text().splitlines())
    patches = tuple((series.parent / line).resolve() for line in lines if line)
    for patch in patches:
        if not patch.is_file():
            raise ConfigError(f"names {patch.name}, which is not there", where=str(series))
    return patches
