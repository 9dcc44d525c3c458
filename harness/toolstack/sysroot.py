# SPDX-License-Identifier: GPL-2.0-or-later
"""What a toolstack is compiled against: headers and libraries of dom0's release, unpacked."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from harness import apt, cache
from harness.arch import NAMES, Arch
from harness.data import IMAGES
from harness.images import packagelist, rootfs
from harness.verdict import LabError

_LISTS = IMAGES / "toolstack"
_LIBVIRT = "libvirt0"


@dataclass(frozen=True)
class Sysroot:
    """Headers and libraries for one architecture; ``digest`` names the packages that went in."""

    arch: Arch
    tree: Path  # for the compiler's --sysroot
    libvirt: str  # upstream's version of the libvirt in it, such as "9.0.0"
    digest: str


def sysroot(arch: Arch, *, codename: str = "", notice: apt.Notice = lambda _: None) -> Sysroot:
    """Return the sysroot of release ``codename`` (default: the machine's), made if need be."""
    debs, tree, digest = _unpacked("packages.txt", arch, codename, notice)
    found = next((deb.version for deb in debs if deb.name == _LIBVIRT), "")
    if not found:
        raise LabError(f"{_LIBVIRT} is not among the packages", where=str(_LISTS / "packages.txt"))
    return Sysroot(arch, tree, found.rpartition("-")[0] or found, digest)


def programs(*, notice: apt.Notice = lambda _: None) -> Path:
    """Return a folder with the programs of this machine that a build runs and nobody installed."""
    native = next(arch for arch in Arch if NAMES[arch].qemu == platform.machine())
    return _unpacked("programs.txt", native, "", notice)[1] / "usr/bin"


def _unpacked(
    name: str, arch: Arch, codename: str, notice: apt.Notice
) -> tuple[list[apt.Deb], Path, str]:
    """Return the packages of list ``name``, the tree they are unpacked in, and its digest."""
    wanted = packagelist.read(_LISTS / name, NAMES[arch].debian)
    files = apt.fetch(arch, wanted.wanted, codename=codename, notice=notice)
    debs = [deb for deb in files if wanted.has_package(deb.name)]
    digest = cache.key(
        arch,
        sorted(deb.sha256 for deb in debs),
        (_LISTS / name).read_bytes(),
        Path(rootfs.__file__).read_bytes(),
    )

    def make(work: Path) -> None:
        notice(f"unpacking {len(debs)} packages to compile against ({arch})")
        rootfs.unpack([files[deb] for deb in debs], wanted, work)

    return debs, cache.entry("sysroot", digest, make), digest
