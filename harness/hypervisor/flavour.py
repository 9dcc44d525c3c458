# SPDX-License-Identifier: GPL-2.0-or-later
"""Flavours: patch series for the per-channel lock, in folders that are tried in a fixed order.

``images/xen/<folder>/<flavour>/series`` lists patches in the order they apply, as
paths relative to the file (quilt's format).  A mutant, known to be bad, lies in
``images/xen/<folder>/bad/<name>/``.  ``rwlock`` is the tree as it stands.  The folders are in
``images/xen/order.yaml``; the first one whose series fits the tree is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import yaml

from harness import cache
from harness.data import IMAGES
from harness.hypervisor import patches as patching
from harness.hypervisor.patches import Misfit
from harness.hypervisor.source import Source
from harness.verdict import ConfigError

SHELF = IMAGES / "xen"
ORDER = SHELF / "order.yaml"
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
    shelf: Shelf | None = None  # where its series was found
    home: Path | None = None  # the folder of the series itself

    @property
    def origin(self) -> str:
        """Where the series is from: "4.17/counter", "4.18 with 4.17/counter"; "" without one."""
        if self.shelf is None or self.home is None:
            return ""
        place = self.home.relative_to(SHELF)
        own = place.parts[0] == self.shelf.name
        return str(place) if own else f"{self.shelf.name} with {place}"

    @property
    def design(self) -> str:
        """The flavour whose rules it should keep: a mutant's is the one it was made from."""
        if not self.bad:
            return self.name
        # What is applied before a shared series lies in a folder of the order, not of a flavour.
        home = next(patch.parent for patch in self.patches if patch.parent.parent != SHELF)
        return AS_IT_STANDS if home.parent.name == "bad" else home.name

    @property
    def digest(self) -> str:
        """Digest of the patches, in their order."""
        return cache.key(*(patch.read_bytes() for patch in self.patches))


@dataclass(frozen=True)
class Shelf:
    """One folder of the order: where the series of a flavour is looked for."""

    name: str
    shares: str = ""  # the folder whose series it has, where it has none of its own
    first: str = ""  # the patch that is applied before such a series

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders that have its series, below images/xen/."""
        return (self.name, self.shares) if self.shares else (self.name,)

    def read(self, flavour: str) -> Flavour | None:
        """Return the series of ``flavour``; None if there is none.

        ConfigError if it names a file that is not there.
        """
        if not _NAME.fullmatch(flavour):
            return None
        for folder in self.folders:
            shared = folder != self.name
            first = (SHELF / self.name / self.first,) if shared and self.first else ()
            for kind in ("", "bad"):
                home = SHELF / folder / kind / flavour
                if (home / "series").is_file():
                    patches = (*first, *_read_series(home / "series"))
                    return Flavour(flavour, patches, bool(kind), self, home)
        return None


@lru_cache
def order() -> tuple[Shelf, ...]:
    """Return the folders of images/xen/order.yaml, in the order in which they are tried."""
    return tuple(Shelf(**fields) for fields in yaml.safe_load(ORDER.read_text()))


def names(folders: Sequence[str] = ()) -> list[str]:
    """Return the flavours that ``folders`` have (by default, all folders), good ones first."""
    found = (
        path.parent.name
        for pattern in ("*/series", "bad/*/series")
        for folder in folders or [shelf.name for shelf in order()]
        for path in sorted((SHELF / folder).glob(pattern))
    )
    return list(dict.fromkeys([AS_IT_STANDS, *found]))


def find(name: str, source: Source) -> Flavour:
    """Return flavour ``name`` for ``source``.

    A tree that has the flavour's lock already (a developer's own branch) is taken as it
    stands.  ConfigError when there is no such series, or when none fits the tree: it tells what
    of the series that comes closest does not.
    """
    own = own_lock(source.tree)
    if own is not None and name in own:
        return Flavour(name, ())
    if name == AS_IT_STANDS and own is not None:
        raise ConfigError(
            f"this tree's event channel lock is not a rwlock: build it as {own[0]}",
            where=str(source.tree),
        )
    if name == AS_IT_STANDS:
        return Flavour(name, ())
    known = list(_series(name)) if source.kind != "deb" else []
    if not known:
        raise _unknown(name, source)
    misfits = []
    for flavour in known:
        misfit = patching.misfit(flavour.patches, source.tree)
        if misfit is None:
            return flavour
        misfits.append(misfit)
    raise _refusal(max(misfits, key=lambda misfit: misfit.applied))


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
    return replace(flavour, patches=(*flavour.patches, DELAYS))


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
    misfit = patching.apply(flavour.patches, tree)
    if misfit is not None:
        raise _refusal(misfit)


def _series(name: str) -> Iterator[Flavour]:
    found = (shelf.read(name) for shelf in order())
    return (flavour for flavour in found if flavour is not None)


def _refusal(misfit: Misfit) -> ConfigError:
    file = misfit.patch
    return ConfigError(
        f"the patch does not fit this tree: {misfit.reason}",
        where=str(file.relative_to(SHELF) if file.is_relative_to(SHELF) else file),
        hint=f"build the tree as it stands with --flavour {AS_IT_STANDS}",
    )


def _unknown(name: str, source: Source) -> ConfigError:
    release = "{}.{}".format(*source.release)
    if source.kind == "deb":
        hint = "it is here as the distribution built it: only rwlock; give --xen-git or --xen-src"
    else:
        hint = (
            f"there are {', '.join(names())}; "
            f"a new one is a folder {SHELF / order()[0].name / name} with a series file"
        )
    return ConfigError(f"no flavour {name} for Xen {release}", where="--flavour", hint=hint)


def _read_series(series: Path) -> tuple[Path, ...]:
    lines = (line.split("#")[0].strip() for line in series.read_text().splitlines())
    patches = tuple((series.parent / line).resolve() for line in lines if line)
    for patch in patches:
        if not patch.is_file():
            raise ConfigError(f"names {patch.name}, which is not there", where=str(series))
    return patches
