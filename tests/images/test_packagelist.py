# SPDX-License-Identifier: GPL-2.0-or-later
"""The format of the package lists, and the lists that ship."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.data import IMAGES
from harness.images import packagelist
from harness.verdict import ConfigError

TEXT = """\
# what it is
kernel-amd64 [amd64]
kernel-arm64 [arm64]
^tool-4\\.[0-9]+$      # a comment
-perl*
-/usr/share/doc/*
-/usr/lib/driver_[!l]*
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "packages.txt"
    file.write_text(TEXT)
    return file


def test_one_architecture(path: Path) -> None:
    assert packagelist.read(path, "arm64").wanted == ("kernel-arm64", r"^tool-4\.[0-9]+$")
    assert packagelist.read(path, "amd64").wanted[0] == "kernel-amd64"


def test_what_is_left_out(path: Path) -> None:
    wanted = packagelist.read(path, "amd64")
    assert wanted.has_package("libperl5.36")
    assert not wanted.has_package("perl-base")
    assert not wanted.has_path("/usr/share/doc/a/deep/file")
    assert wanted.has_path("/usr/lib/driver_libxl.so")
    assert not wanted.has_path("/usr/lib/driver_qemu.so")


def test_a_bad_line_is_named(path: Path) -> None:
    path.write_text("good\n\ntwo words\n")
    with pytest.raises(ConfigError, match=r"packages\.txt:3: not a package"):
        packagelist.read(path, "amd64")


@pytest.mark.parametrize("who", ["dom0", "domu"])
@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_shipped_lists(who: str, arch: str) -> None:
    wanted = packagelist.read(IMAGES / who / "packages.txt", arch)
    assert "busybox-static" in wanted.wanted
    assert not any("xen-hypervisor" in name for name in wanted.wanted)
    for name in wanted.wanted:  # nothing that is asked for by name is left out again
        assert wanted.has_package(name) or name.startswith("linux-image")
