# SPDX-License-Identifier: GPL-2.0-or-later
"""Module order and the kernel inside a bzImage, on a package made here."""

from __future__ import annotations

import gzip
import lzma
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.images import kernel
from harness.verdict import LabError


@given(
    st.lists(st.tuples(st.integers(0, 11), st.sets(st.integers(0, 11), max_size=4)), max_size=12)
)
def test_every_module_comes_once_and_after_what_it_needs(
    graph: list[tuple[int, set[int]]],
) -> None:
    # Module n needs only smaller numbers: like depends=, a graph without cycles.
    needs = {str(n): sorted(str(m) for m in below if m < n) for n, below in graph}
    order = kernel.load_order(needs, lambda name: needs.get(name, []))
    assert len(order) == len(set(order))
    assert set(needs) <= set(order)
    for name in order:
        for other in needs.get(name, []):
            assert order.index(other) < order.index(name)


def _bzimage(payload: bytes) -> bytes:
    setup = bytearray(5 * 512)
    setup[0x1F1] = 4
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", setup, 0x248, 64, len(payload))
    return bytes(setup) + bytes(64) + payload + b"tail"


def test_elf_inside_a_bzimage() -> None:
    elf = b"\x7fELF" + bytes(100_000)
    size = struct.pack("<I", len(elf))  # what Linux's build appends
    assert kernel.uncompressed(_bzimage(lzma.compress(elf) + size)) == elf
    assert kernel.uncompressed(_bzimage(gzip.compress(elf) + size)) == elf


def test_what_cannot_be_uncompressed_stays_bootable() -> None:
    unknown = _bzimage(b"\x28\xb5\x2f\xfd zstd")
    assert kernel.uncompressed(unknown) == unknown
    arm64 = b"MZ" + bytes(2000)
    assert kernel.uncompressed(arm64) == arm64


def _module(needs: str) -> bytes:
    return b"\x7fELF..license=GPL\0depends=" + needs.encode() + b"\0name=x\0"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    modules = tree / "lib/modules/6.1/kernel/fs"
    modules.mkdir(parents=True)
    (tree / "boot").mkdir()
    (tree / "boot/vmlinuz-6.1").write_bytes(b"MZ" + bytes(2000))
    (modules / "ext4.ko").write_bytes(_module("mbcache,jbd2-x"))
    (modules / "mbcache.ko.xz").write_bytes(lzma.compress(_module("")))
    (modules / "jbd2-x.ko.gz").write_bytes(gzip.compress(_module("mbcache")))
    (modules.parents[1] / "modules.builtin").write_text("kernel/drivers/virtio/virtio.ko\n")
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        "Package: linux-image-6.1\nVersion: 1\nArchitecture: amd64\n"
        "Maintainer: n <n@example.org>\nDescription: x\n"
    )
    deb = tmp_path / "kernel.deb"
    subprocess.run(["dpkg-deb", "-b", tree, deb], check=True, stdout=subprocess.DEVNULL)
    return deb


def test_kernel_and_modules_from_a_package(package: Path, tmp_path: Path) -> None:
    wanted = {"dom0": {"virtio": "", "ext4": "option=1"}, "domu": {"mbcache": ""}}
    linux = kernel.from_package(package, wanted, scratch=tmp_path)
    assert linux.version == "6.1"
    names = [(module.name, module.parameters) for module in linux.modules["dom0"]]
    assert names == [("mbcache", ""), ("jbd2_x", ""), ("ext4", "option=1")]
    assert linux.modules["dom0"][0].body == _module("")
    assert [module.name for module in linux.modules["domu"]] == ["mbcache"]
    assert not (tmp_path / "kernel.tar").exists()


def test_a_module_that_is_not_there(package: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no module xen_evtchn"):
        kernel.from_package(package, {"dom0": {"xen-evtchn": ""}}, scratch=tmp_path)
