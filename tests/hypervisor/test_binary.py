# SPDX-License-Identifier: GPL-2.0-or-later
"""The distribution's own build as a hypervisor under test."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.arch import Arch
from harness.hypervisor import binary, build
from harness.hypervisor.source import Source, from_dir
from harness.verdict import ConfigError, LabError

from .tree import make_tree

_NOTE = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0" + bytes(range(20))


@pytest.fixture
def packages(tmp_path: Path) -> Source:
    for arch in Arch:
        image = binary.image(tmp_path, arch)
        image.parent.mkdir(parents=True)
        image.write_bytes(b"\x7fELF" + b"x" * 5000 + _NOTE + b"y" * 100)
    return Source("deb", tmp_path, "4.20.4", (4, 20), "d" * 32)


@pytest.mark.parametrize("arch", list(Arch))
def test_it_is_taken_as_it_is(packages: Source, arch: Arch) -> None:
    built = build.build(packages, "rwlock", arch)
    assert built.image == binary.image(packages.tree, arch)
    assert built.build_id == bytes(range(20)).hex()
    assert not built.has_symbols and built.cached


def test_no_other_flavour_can_be_made_of_it(packages: Source) -> None:
    with pytest.raises(ConfigError, match="no flavour counter"):
        build.build(packages, "counter", Arch.X86_64)


def test_an_image_without_a_build_id(tmp_path: Path) -> None:
    (tmp_path / "xen").write_bytes(b"no note")
    with pytest.raises(LabError, match="build id"):
        binary.image_build_id(tmp_path / "xen")


def test_interfaces_are_read_from_the_headers(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    public = tree / "xen" / "include" / "public"
    public.mkdir(parents=True, exist_ok=True)
    (public / "domctl.h").write_text("#define XEN_DOMCTL_INTERFACE_VERSION 0x00000015\n")
    source = from_dir(tree)
    assert source.interface("domctl") == 0x15
    assert source.interface("sysctl") is None
