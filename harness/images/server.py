# SPDX-License-Identifier: GPL-2.0-or-later
"""dom0 for a server: the initramfs has its whole root, so that it needs no disk."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterable
from pathlib import Path

from harness import apt, cache, command
from harness.images import cpio, kernel
from harness.images.dom0 import Dom0Image, kernel_package

_FAST = 3  # gzip's level: smaller files would not boot noticeably faster


def server_root(
    image: Dom0Image, modules: Iterable[str], *, notice: apt.Notice = lambda _: None
) -> Path:
    """Return a compressed cpio archive with dom0's root below root/; make it if it is not cached.

    modules/extra in it has ``modules`` and their dependencies, and their loading order.  The output
    of ``write_initramfs`` (harness.images.dom0) must be appended to it.
    """
    names = sorted(set(modules))
    digest = cache.key(image.digest, names, Path(__file__).read_bytes())

    def make(work: Path) -> None:
        notice(f"packing dom0's root for servers ({image.arch})")
        with tempfile.TemporaryDirectory(dir=work) as scratch:
            tree = Path(scratch, "tree")
            tree.mkdir()
            debugfs = command.which("debugfs", "e2fsprogs")
            command.run([debugfs, "-R", f"rdump / {tree}", image.root], timeout=600)
            members = dict(_members(tree))
            members |= _modules(image, names, Path(scratch)) if names else {}
            pack(cpio.archive(members), work / "root.cpio.gz")

    return cache.entry("server-root", digest, make) / "root.cpio.gz"


def pack(archive: bytes, path: Path) -> None:
    """Compress ``archive`` into ``path``, padded to a multiple of four bytes.

    Only at such an offset does Linux look for the next archive (init/initramfs.c,
    unpack_to_rootfs).
    """
    with gzip.GzipFile(path, "wb", _FAST, mtime=0) as packed:
        packed.write(archive)
    with path.open("ab") as file:
        file.write(bytes(-file.tell() % 4))


def _members(tree: Path) -> Iterable[tuple[str, cpio.Member]]:
    for path in sorted(tree.rglob("*")):
        name = f"root/{path.relative_to(tree)}"
        if path.is_symlink():
            yield name, cpio.Link(str(path.readlink()))
        elif path.is_dir():
            if path.name != "lost+found":
                yield name, cpio.Folder(path.stat().st_mode & 0o7777)
        elif path.is_file():
            yield name, cpio.File(path, path.stat().st_mode & 0o7777)


def _modules(image: Dom0Image, names: list[str], scratch: Path) -> dict[str, cpio.Member]:
    package = kernel_package(image.arch)
    wanted = {"extra": dict.fromkeys(names, "")}
    found = kernel.from_package(package, wanted, scratch=scratch).modules["extra"]
    members: dict[str, cpio.Member] = {
        f"modules/extra/{module.name}.ko": cpio.File(module.body) for module in found
    }
    members["modules/extra/order"] = cpio.File("".join(f"{m.name}\n" for m in found).encode())
    return members
