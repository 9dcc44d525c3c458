# SPDX-License-Identifier: GPL-2.0-or-later
"""The distribution's own build of a hypervisor, for a release whose source cannot be had.

Its packages have the image that boots and the public headers, but neither symbols nor source: a
hang of it cannot be explained, and no flavour but its own can be tested.
"""

from __future__ import annotations

import gzip
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness import apt, cache
from harness.apt import deb
from harness.apt.tree import Tree
from harness.arch import NAMES, Arch
from harness.verdict import LabError

_HEADERS = "libxen-dev"
# The note that the linker writes: name of 4 bytes, 20 bytes of description, type 3, "GNU".
_BUILD_ID = re.compile(rb"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0(.{20})", re.DOTALL)


@dataclass(frozen=True)
class Packages:
    """Both architectures' images in one tree: boot/<arch>/xen, and xen/include/public."""

    tree: Path
    version: str
    digest: str


def from_packages(release: str, codename: str) -> Packages | None:
    """Return Xen ``release`` of the distribution's release ``codename``; None if it has none."""
    files: dict[Arch, tuple[str, Path, Path]] = {}
    for arch in Arch:
        name = f"xen-hypervisor-{release}-{NAMES[arch].debian}"
        try:
            found = apt.fetch(arch, [name, _HEADERS], codename=codename)
        except LabError:
            return None
        debs = {one.name: (one.version, path) for one, path in found.items()}
        files[arch] = (*debs[name], debs[_HEADERS][1])
    version = files[Arch.X86_64][0]
    digest = cache.key(
        release, *sorted(str(path.name) for _, *both in files.values() for path in both)
    )

    def unpack(folder: Path) -> None:
        for arch, (_, image, headers) in files.items():
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                tree = Tree(Path(scratch))
                for package in (image, headers):
                    deb.unpack(package, tree)
                _take(tree, release, arch, folder)

    return Packages(cache.entry("xen-deb", digest, unpack), version, digest)


def image(tree: Path, arch: Arch) -> Path:
    """Return the image that boots on ``arch``."""
    return tree / "boot" / arch / "xen"


def image_build_id(path: Path) -> str:
    """Return the GNU build id in ``path``, whatever its format, in hex; LabError if it has none."""
    found = _BUILD_ID.search(path.read_bytes())
    if found is None:
        raise LabError("the hypervisor has no build id", where=str(path))
    return found[1].hex()


def _take(unpacked: Tree, release: str, arch: Arch, folder: Path) -> None:
    target = image(folder, arch)
    target.parent.mkdir(parents=True)
    boot = f"/boot/xen-{release}-{NAMES[arch].debian}"
    packed = f"{boot}.gz"
    target.write_bytes(
        gzip.decompress(unpacked.read(packed)) if unpacked.is_file(packed) else unpacked.read(boot)
    )
    public = folder / "xen" / "include" / "public"
    public.mkdir(parents=True, exist_ok=True)
    for header in ("domctl.h", "sysctl.h"):
        (public / header).write_bytes(unpacked.read(f"/usr/include/xen/{header}"))
