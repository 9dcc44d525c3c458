# SPDX-License-Identifier: GPL-2.0-or-later
"""dom0's real images, for both architectures: from the cache, or made now (20 s, network)."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from harness.arch import Arch
from harness.command import which
from harness.images import cpio, dom0

MACHINE = {Arch.X86_64: "Advanced Micro Devices X86-64", Arch.ARM64: "AArch64"}


def _debugfs(image: Path, order: str) -> str:
    argv: list[str | Path] = [which("debugfs", "e2fsprogs"), "-R", order, image]
    done = subprocess.run(argv, check=True, capture_output=True)
    return done.stdout.decode(errors="replace")


def _names(image: Path, folder: str) -> set[str]:
    lines = _debugfs(image, f"ls -p {folder}").splitlines()
    return {line.split("/")[5] for line in lines if line.count("/") > 5}


def _extract(base: Path, archive: bytes, into: Path) -> Path:
    """Unpack ``archive``, which continues ``base``; cpio(1) reads only one archive at a time."""
    into.mkdir()
    size = base.stat().st_size
    for blob in (archive[:size], archive[size:]):
        argv = [which("cpio", "cpio"), "-idu", "--quiet"]
        subprocess.run(argv, input=blob, cwd=into, check=True)
    return into


@pytest.fixture(scope="module", params=list(Arch))
def image(request: pytest.FixtureRequest) -> dom0.Dom0Image:
    return dom0.dom0_image(request.param)


@pytest.mark.real
def test_root_file_system(image: dom0.Dom0Image) -> None:
    root = image.root
    subprocess.run([which("e2fsck", "e2fsprogs"), "-fn", root], check=True, capture_output=True)
    assert {"libvirtd", "sshd"} <= _names(root, "/usr/sbin")
    assert {"virsh", "xenstore-ls", "busybox", "sh", "poweroff"} <= _names(root, "/usr/bin")
    assert {"xenstored", "xenconsoled", "xen-init-dom0", "xl"} <= _names(
        root, f"/usr/lib/{_xen(root)}/bin"
    )
    assert not any(re.match("python|perl", name) for name in _names(root, "/usr/bin"))
    assert "console" in _names(root, "/var/log/xen")
    assert 'Fast link dest: "/run"' in _debugfs(root, "stat /var/run")
    assert "root:x:0:0" in _debugfs(root, "cat /etc/passwd")
    assert _debugfs(root, "stat /boot/vmlinux").count("Type: regular") == 1


def _xen(root: Path) -> str:
    (found,) = {name for name in _names(root, "/usr/lib") if re.match(r"xen-\d", name)}
    return found


@pytest.mark.real
def test_libvirt_has_only_the_driver_of_xen_and_models_without_sep(image: dom0.Dom0Image) -> None:
    triplet = {Arch.X86_64: "x86_64-linux-gnu", Arch.ARM64: "aarch64-linux-gnu"}[image.arch]
    drivers = _names(image.root, f"/usr/lib/{triplet}/libvirt/connection-driver")
    assert drivers - {".", ".."} == {"libvirt_driver_libxl.so"}
    models = "/usr/share/libvirt/cpu_map"
    assert "'sep'" not in _debugfs(image.root, f"cat {models}/x86_qemu64.xml")
    assert "'sep'" in _debugfs(image.root, f"cat {models}/x86_features.xml")


@pytest.mark.real
def test_every_program_finds_its_libraries(image: dom0.Dom0Image, tmp_path: Path) -> None:
    subprocess.run(
        [which("debugfs", "e2fsprogs"), "-R", f"rdump /usr {tmp_path}", image.root],
        check=True,
        capture_output=True,
    )
    have = {path.name for path in (tmp_path / "usr/lib").rglob("*.so*")}
    programs = ["sbin/sshd", "sbin/libvirtd", "bin/virsh", "bin/xenstore-ls", "bin/strace"]
    programs += [
        f"lib/{_xen(image.root)}/bin/{name}" for name in ("xenstored", "xenconsoled", "xl")
    ]
    queue = [tmp_path / "usr" / name for name in programs]
    queue += (tmp_path / "usr/lib").rglob("libvirt_driver_*.so")
    seen: set[str] = set()
    while queue:
        path = queue.pop()
        said = subprocess.run(["readelf", "-dhW", path], capture_output=True, text=True).stdout
        assert MACHINE[image.arch] in said, path
        for library in set(re.findall(r"NEEDED.*\[(.*)\]", said)) - seen:
            assert library in have, f"{path.name} needs {library}"
            seen.add(library)
            queue += [found for found in (tmp_path / "usr/lib").rglob(library)][:1]


@pytest.mark.real
def test_initramfs_of_a_run(image: dom0.Dom0Image, tmp_path: Path) -> None:
    payload = {"host_key": cpio.File(b"secret", 0o600), "agent": cpio.File(b"\x7fELF", 0o755)}
    dom0.write_initramfs(image, tmp_path / "initramfs", payload)
    tree = _extract(image.initramfs, (tmp_path / "initramfs").read_bytes(), tmp_path / "tree")
    assert os.access(tree / "init", os.X_OK)
    assert (tree / "payload/host_key").stat().st_mode & 0o777 == 0o600
    assert {"init", "agent", "sshd_config", "libvirtd.conf"} <= {
        path.name for path in (tree / "payload").iterdir()
    }
    order = [line.split()[0] for line in (tree / "modules/order").read_text().splitlines()]
    assert all((tree / "modules" / name).is_file() for name in order)
    assert order.index("jbd2.ko") < order.index("ext4.ko")
    assert {"virtio_blk.ko", "virtio_net.ko", "xen_evtchn.ko", "xen_privcmd.ko"} <= set(order)


@pytest.mark.real
def test_initramfs_of_a_domu(image: dom0.Dom0Image, tmp_path: Path) -> None:
    (tmp_path / "agent").write_bytes(b"\x7fELF agent")
    whole = dom0.domu_initramfs(image, tmp_path / "agent")
    tree = _extract(image.domu_initramfs, whole, tmp_path / "tree")
    assert (tree / "agent").read_bytes() == b"\x7fELF agent"
    assert os.access(tree / "init", os.X_OK)
    assert "xen_privcmd.ko unrestricted=1" in (tree / "modules/order").read_text().splitlines()
    said = subprocess.run(["readelf", "-lhW", tree / "bin/busybox"], capture_output=True, text=True)
    assert MACHINE[image.arch] in said.stdout
    assert "INTERP" not in said.stdout  # static: there are no libraries


@pytest.mark.real
def test_kernel_is_what_xen_boots(image: dom0.Dom0Image) -> None:
    head = image.kernel.open("rb").read(64)
    if image.arch == Arch.X86_64:
        assert head.startswith(b"\x7fELF")
    else:
        assert head[56:60] == b"ARM\x64"  # Linux's arm64 Image header
    assert f"linux-image-{image.kernel_version}" in dict(image.packages)


@pytest.mark.real
def test_made_once(image: dom0.Dom0Image) -> None:
    notices: list[str] = []
    assert dom0.dom0_image(image.arch, notice=notices.append) == image
    assert notices == []
