# SPDX-License-Identifier: GPL-2.0-or-later
"""Make a root file system from packages, without root, chroot, mount or maintainer scripts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import command
from harness.apt import deb
from harness.apt.tree import Tree
from harness.images.packagelist import PackageList
from harness.verdict import LabError

_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # links to the same name below usr
_FREE_BYTES = 96 << 20  # room for logs and a core file


def unpack(debs: Iterable[Path], wanted: PackageList, tree: Path) -> None:
    """Unpack ``debs`` into the directory ``tree``, only the files that ``wanted`` allows."""
    for name in _MERGED:
        (tree / "usr" / name).mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to(f"usr/{name}")
    below = Tree(tree)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(deb.unpack, path, below, wanted.has_path) for path in debs]:
            done.result()


def make_ext4(tree: Path, image: Path) -> None:
    """Write ``tree`` as a sparse ext4 file system into ``image``, everything owned by root.

    It has no journal and no checksums: nothing in it outlives a run, and they would cost an
    emulated CPU time at every mount and write.
    """
    used = sum(_blocks(path) for path in tree.rglob("*"))
    with image.open("wb") as disk:
        disk.truncate(max(used + used // 8 + _FREE_BYTES, 256 << 20))
    features = "^has_journal,^metadata_csum,^64bit,^resize_inode,^huge_file,^uninit_bg"
    extended = "root_owner=0:0,lazy_itable_init=1,nodiscard"
    words = f"-q -F -t ext4 -O {features} -E {extended} -b 4096 -I 256 -m 0 -L dom0 -d".split()
    argv: list[str | Path] = [command.which("mke2fs", "e2fsprogs"), *words, tree, image]
    command.run(argv, timeout=600)
    _give_to_root(tree, image)


def _blocks(path: Path) -> int:
    size = path.lstat().st_size if path.is_file() and not path.is_symlink() else 1
    return 4096 * (1 + size // 4096)


def _give_to_root(tree: Path, image: Path) -> None:
    """Set the owner of every inode to root: mke2fs takes the user who unpacked the tree."""
    orders = []
    for path in tree.rglob("*"):
        name = "/" + str(path.relative_to(tree))
        if re.search(r'[\s"]', name):
            raise LabError(f"debugfs cannot name the file {name!r}", where=str(image))
        orders += [f"set_inode_field {name} {field} 0" for field in ("uid", "gid")]
    debugfs = command.which("debugfs", "e2fsprogs")
    said = command.run(
        [debugfs, "-w", "-f", "/dev/stdin", image], stdin="\n".join(orders).encode(), timeout=600
    )
    # debugfs prints every command after its own name; any other line is an error.
    complaints = [line for line in said.splitlines()[1:] if not line.startswith("debugfs: ")]
    if complaints:
        raise LabError(f"debugfs: {complaints[0]}", where=str(image))
