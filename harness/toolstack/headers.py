# SPDX-License-Identifier: GPL-2.0-or-later
"""Public headers of Xen: of a tree, and those that the distribution's toolstack was built from."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness import apt, cache
from harness.apt.deb import unpack as unpack_package
from harness.apt.tree import Tree
from harness.arch import Arch

PUBLIC = Path("xen/include/public")
_PACKAGE = "libxen-dev"
_OTHERS = ("foreign", "sys")  # not public headers of the tree: generated, or Linux's


@dataclass(frozen=True)
class Headers:
    """The public headers in a package, and its version."""

    folder: Path
    version: str


def of_package(arch: Arch, codename: str, *, notice: apt.Notice = lambda _: None) -> Headers:
    """Return the public headers of release ``codename``'s own Xen."""
    files = apt.fetch(arch, [_PACKAGE], codename=codename, notice=notice)
    deb, path = next((deb, path) for deb, path in files.items() if deb.name == _PACKAGE)

    def unpack(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            tree = Tree(Path(scratch))
            unpack_package(path, tree)
            tree.folder("/usr/include/xen").rename(folder / "xen")

    return Headers(cache.entry("xen-headers", deb.sha256, unpack) / "xen", deb.version)


def same(tree: Path, package: Path) -> bool:
    """Say whether every header of ``package`` is in ``tree``, the same byte for byte.

    What only the tree has, no toolstack of the package knows.
    """
    here = _texts(tree)
    return all(here.get(name) == text for name, text in _texts(package).items())


def _texts(folder: Path) -> dict[str, bytes]:
    paths = {path: path.relative_to(folder) for path in folder.rglob("*.h")}
    return {
        str(name): path.read_bytes() for path, name in paths.items() if name.parts[0] not in _OTHERS
    }
