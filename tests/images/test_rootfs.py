# SPDX-License-Identifier: GPL-2.0-or-later
"""Unpacking packages and making the file system, seen with the real debugfs and e2fsck."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.command import which
from harness.images import rootfs
from harness.images.packagelist import PackageList
from harness.verdict import LabError

ALL = PackageList((), (), ())


def _debugfs(image: Path, order: str) -> str:
    argv: list[str | Path] = [which("debugfs", "e2fsprogs"), "-R", order, image]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def deb(tmp_path: Path) -> Path:
    tree = tmp_path / "package"
    for folder in ("DEBIAN", "bin", "usr/sbin", "usr/share/doc/x"):
        (tree / folder).mkdir(parents=True)
    control = "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: n <n@e.org>\nDescription: x\n"
    (tree / "DEBIAN/control").write_text(control)
    (tree / "bin/tool").write_text("tool")
    (tree / "bin/tool").chmod(0o4755)
    os.link(tree / "bin/tool", tree / "bin/tool-too")
    (tree / "usr/sbin/link").symlink_to("../bin/tool")
    (tree / "usr/share/doc/x/copyright").write_text("long")
    path = tmp_path / "x.deb"
    subprocess.run(["dpkg-deb", "-b", tree, path], check=True, stdout=subprocess.DEVNULL)
    return path


def test_unpacked_below_usr_without_what_is_left_out(deb: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    rootfs.unpack([deb], PackageList((), (), ("/usr/share/doc/*",)), tree)
    assert (tree / "bin").readlink() == Path("usr/bin")
    assert (tree / "usr/bin/tool").stat().st_mode & 0o7777 == 0o4755
    assert (tree / "bin/tool-too").read_text() == "tool"
    assert (tree / "usr/sbin/link").readlink() == Path("../bin/tool")
    assert not (tree / "usr/share").exists()


def test_a_broken_package_is_the_labs_fault(deb: Path, tmp_path: Path) -> None:
    deb.write_bytes(deb.read_bytes()[:-40])
    with pytest.raises(LabError, match=r"cannot unpack .*x\.deb"):
        rootfs.unpack([deb], ALL, tmp_path)


def test_file_system_is_clean_sparse_and_roots(deb: Path, tmp_path: Path) -> None:
    tree, image = tmp_path / "tree", tmp_path / "root.ext4"
    tree.mkdir()
    rootfs.unpack([deb], ALL, tree)
    if os.geteuid() == 0:  # as if an ordinary user had unpacked it
        for path in tree.rglob("*"):
            os.chown(path, 1000, 1000, follow_symlinks=False)
        (tree / "usr/bin/tool").chmod(0o4755)  # which chown takes away
    rootfs.make_ext4(tree, image)
    subprocess.run([which("e2fsck", "e2fsprogs"), "-fn", image], check=True, capture_output=True)
    assert image.stat().st_blocks * 512 < image.stat().st_size / 4
    for name in ("/", "/usr/bin/tool", "/usr/sbin/link"):
        assert "User:     0   Group:     0" in _debugfs(image, f"stat {name}")
    assert "Mode:  04755" in _debugfs(image, "stat /usr/bin/tool")
    assert _debugfs(image, "cat /usr/bin/tool") == "tool"
    assert "has_journal" not in _debugfs(image, "features")


def test_a_name_that_debugfs_cannot_take_is_said(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "with space").touch()
    with pytest.raises(LabError, match="with space"):
        rootfs.make_ext4(tree, tmp_path / "root.ext4")
