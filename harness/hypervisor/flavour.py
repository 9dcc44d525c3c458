# SPDX-License-Identifier: GPL-2.0-or-later
"""Flavours: patch series for the per-channel lock, in folders that are tried in a fixed order.

``images/xen/<folder>/<flavour>/series`` lists patches in the order they apply, as
paths relative to the file (quilt's format).  A mutant, known to be bad, lies in
``images/xen/<folder>/bad/<name>/``.  ``rwlock`` is the tree as it stands.  The folders are in
``images/xen/order.yaml``; the first one whose series fits the tree is taken.

By which lock's rules a tree is judged is another question: its ``Model``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from harness import cache
from harness.config import bounded_yaml
from harness.config.options import DEFAULT_FLAVOUR, MODELS
from harness.data import IMAGES
from harness.hypervisor import patches as patching
from harness.hypervisor.own_lock import OwnLock, own_lock
from harness.hypervisor.patches import Misfit
from harness.hypervisor.source import Source
from harness.verdict import ConfigError

SHELF = IMAGES / "xen"
ORDER = SHELF / "order.yaml"
AS_IT_STANDS = "rwlock"
DELAYS = SHELF / "delays.patch"  # for every flavour of every release

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")


@dataclass(frozen=True)
class Model:
    """The lock by whose rules a hypervisor is judged."""

    name: str  # counter, counter-v2, rwlock or spinlock: a key of the model's FLAVOURS
    how: Literal["recognised", "given"]
    source: str  # one line: in which text of the tree it was recognised, or which option gave it


@dataclass(frozen=True)
class Flavour:
    """A named patch series; no patches means the tree is built as it stands."""

    name: str
    patches: tuple[Path, ...]
    bad: bool = False  # a mutant that a test must catch
    shelf: Shelf | None = None  # where its series was found
    home: Path | None = None  # the folder of the series itself
    judged_as: Model | None = None  # None: as what it was made to be

    @property
    def origin(self) -> str:
        """Where the series is from: "4.17/counter", "4.18 with 4.17/counter"; "" without one."""
        if self.shelf is None or self.home is None:
            return ""
        place = self.home.relative_to(SHELF)
        own = place.parts[0] == self.shelf.name
        return str(place) if own else f"{self.shelf.name} with {place}"

    @property
    def model(self) -> Model:
        """The lock by whose rules it is judged: a mutant's is the one it was made from."""
        return self.judged_as or Model(self._own_design(), "given", f"flavour {self.name}")

    @property
    def design(self) -> str:
        """The name of the model: the flavour whose rules it should keep."""
        return self.model.name

    def _own_design(self) -> str:
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
    return tuple(Shelf(**fields) for fields in bounded_yaml.read(ORDER))


def names(folders: Sequence[str] = ()) -> list[str]:
    """Return the flavours that ``folders`` have (by default, all folders), good ones first."""
    found = (
        path.parent.name
        for pattern in ("*/series", "bad/*/series")
        for folder in folders or [shelf.name for shelf in order()]
        for path in sorted((SHELF / folder).glob(pattern))
    )
    return list(dict.fromkeys([AS_IT_STANDS, *found]))


def find(name: str | None, source: Source, model: str | None = None) -> Flavour:
    """Return flavour ``name`` for ``source``, judged as ``model`` if that is given.

    Without ``name``: the default one of the distribution's Xen; any other tree, or a series of
    the user's, as it stands.  A tree that has the flavour's lock already (a developer's own
    branch) is taken as it stands, too.  ConfigError when there is no such series, when none fits
    the tree (it tells what of the series that comes closest does not), or when nobody says as
    what a tree is to be judged.
    """
    if name is None:
        own_tree = source.kind in ("dir", "git") or source.series
        found = _as_it_stands(source, model) if own_tree else _find(DEFAULT_FLAVOUR, source)
    else:
        found = _find(name, source)
    return replace(found, judged_as=Model(model, "given", "--model")) if model else found


def _find(name: str, source: Source) -> Flavour:
    own = own_lock(source.tree)
    if own is not None and name in (AS_IT_STANDS, own.designs[0]):
        return Flavour(own.designs[0], (), judged_as=_recognised(own))
    if name == AS_IT_STANDS or (own is not None and name in own.designs):
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


def _as_it_stands(source: Source, model: str | None) -> Flavour:
    """Return ``source`` as it stands, named after its own lock."""
    own = own_lock(source.tree)
    if own is not None:
        return Flavour(own.designs[0], (), judged_as=_recognised(own))
    if model is not None:
        return Flavour(model, ())
    raise ConfigError(
        "cannot recognise the lock of this tree's event channels: struct evtchn has no lock of "
        "type rwlock_t, spinlock_t or atomic_t",
        where=str(source.tree),
        hint=f"say by whose rules to judge it: --model {', '.join(MODELS)}",
    )


def _recognised(own: OwnLock) -> Model:
    return Model(own.designs[0], "recognised", own.seen)


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
