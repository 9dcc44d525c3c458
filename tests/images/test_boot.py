# SPDX-License-Identifier: GPL-2.0-or-later
"""dom0's image on a machine without Xen: what must still work when no toolstack does."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from harness.arch import Arch
from harness.command import which
from harness.images import cpio, dom0

SECONDS = 180.0


def _power_on(image: dom0.Dom0Image, initramfs: Path, folder: Path) -> subprocess.Popen[bytes]:
    disk, console = folder / "disk.qcow2", folder / "console"
    make = [which("qemu-img", "qemu-utils"), "create", "-q", "-f", "qcow2"]
    subprocess.run([*make, "-F", "raw", "-b", image.root, disk], check=True)
    words = (
        f"-machine pc,accel=tcg -m 1024 -smp 2 -display none -nic user,model=virtio,restrict=on \
        -serial file:{console} -drive if=virtio,format=qcow2,cache=unsafe,file={disk} \
        -kernel {image.kernel} -initrd {initramfs} -no-reboot".split()
    )
    append = f"console=ttyS0 quiet loglevel=4 {dom0.LINUX_ARGUMENTS}"
    program = which("qemu-system-x86_64", "qemu-system-x86")
    return subprocess.Popen([program, *words, "-append", append])


@pytest.mark.real
def test_sshd_serves_and_each_failure_is_named(tmp_path: Path) -> None:
    image = dom0.dom0_image(Arch.X86_64)
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    payload = {
        "host_key": cpio.File(key, 0o600),
        "authorized_keys": cpio.File(tmp_path / "key.pub"),
    }
    dom0.write_initramfs(image, tmp_path / "initramfs", payload)
    machine = _power_on(image, tmp_path / "initramfs", tmp_path)
    try:
        deadline = time.monotonic() + SECONDS
        said = ""
        while time.monotonic() < deadline and machine.poll() is None:
            time.sleep(0.2)
            console = tmp_path / "console"
            said = console.read_text(errors="replace") if console.exists() else ""
            if "dom0 sshd up at" in said and "dom0 cpus up at" in said:
                break
    finally:
        machine.kill()
        machine.wait()
    assert "harness: dom0 sshd up at" in said
    assert "harness: dom0 xenstore failed at" in said
    assert "libvirtd up" not in said
