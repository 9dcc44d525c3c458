# SPDX-License-Identifier: GPL-2.0-or-later
"""Flavours: patch series for the per-channel lock, one folder per Xen release.

``images/xen/<release>/<flavour>/series`` lists patches in the order they apply, as
paths relative to the file (quilt's format).  A mutant, known to be bad, lies in
``images/xen/<release>/bad/<name>/``.  ``rwlock`` is the tree as it stands.

By which lock's rules a tree is judged is another question: its ``Model``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from harness import cache, command
from harness.config.options import DEFAULT_FLAVOUR, MODELS
from harness.data import IMAGES
from harness.hypervisor.own_lock import OwnLock, own_lock
from harness.hypervisor.source import Source
from harness.verdict import ConfigError

SHELF = IMAGES / "xen"
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
    judged_as: Model | None = None  # None: as what it was made to be

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


def find(name: str | None, source: Source, model: str | None = None) -> Flavour:
    """Return flavour ``name`` for ``source``, judged as ``model`` if that is given.

    Without ``name``: the default one of the distribution's Xen; any other tree, or a series of
    the user's, as it stands.  A tree that has the flavour's lock already (a developer's own
    branch) is taken as it stands, too.  ConfigError when there is no such series for the release,
    or nobody says as what a tree is to be judged.
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
    for folder, bad in ((_home(source.release) / name, False), (_bad(source.release) / name, True)):
        series = folder / "series"
        if _NAME.fullmatch(name) and series.is_file():
            return Flavour(name, _read_series(series), bad)
    raise ConfigError(
        f"no flavour {name} for Xen {'{}.{}'.format(*source.release)}",
        where="--flavour",
        hint=f"there are {', '.join(names(source.release))}; "
        f"a new one is a folder {_home(source.release) / name} with a series file",
    )


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
