# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian without Xen under QEMU, all in its initramfs: a default system with disks and cards."""

from __future__ import annotations

import base64
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness import apt, command
from harness.arch import Arch
from harness.images import cpio, kernel, packagelist, rootfs
from harness.machine.shell import Shell
from harness.verdict import LabError

_HERE = Path(__file__).parent
_BOOT_SECONDS = 180.0
_MODULES = (
    *("virtio_pci", "virtio_blk", "virtio_net", "8021q", "bonding", "bridge"),
    *("crc32c_generic", "ext4", "xfs", "btrfs", "dm_mod", "raid1"),
)
_SECTOR, _FIRST = 512, 2048  # the partition begins at 1 MiB


class Serial(Shell):
    """A root shell over a serial port."""

    def __init__(self, wire: socket.socket) -> None:
        self.where = "linux"
        self._wire = wire.makefile("rwb")
        self.ssh_to = ""  # the address that sshd would say it was reached at

    def run(self, command: str, *, timeout: float = 60.0, stdin: bytes = b"") -> str:
        """Run a shell ``command``; return its output.  LabError if it fails."""
        command = f"export SSH_CONNECTION='192.0.2.77 4242 {self.ssh_to} 22'\n{command}"
        words = [base64.b64encode(each) for each in (command.encode(), stdin)]
        self._wire.write(b" ".join(words) + b"\n")
        self._wire.flush()
        said, status = self._wire.readline().decode().rsplit(" ", 1)
        output = base64.b64decode(said).decode(errors="replace")
        if int(status):
            raise LabError(output, where=self.where)
        return output


@contextmanager
def linux(folder: Path, disks: Sequence[Path], cards: int) -> Iterator[Serial]:
    """Boot it with ``disks`` (/dev/vda...) and that many network cards (eth0...)."""
    folder.mkdir()
    image, initramfs = _files(folder)
    words = ["-kernel", str(image), "-initrd", str(initramfs), "-append", "console=ttyS0 quiet"]
    words += ["-chardev", f"socket,id=shell,path={folder}/shell,server=on,wait=off"]
    words += ["-serial", f"file:{folder}/console", "-serial", "chardev:shell"]
    for number in range(cards):
        words += ["-netdev", f"user,id=n{number},restrict=on"]
        words += ["-device", f"virtio-net-pci,netdev=n{number},romfile="]
    with _qemu([*words, *drives(disks)]) as child:
        wire = _connected(folder / "shell", child)
        with wire:
            wire.settimeout(_BOOT_SECONDS)
            shell = Serial(wire)
            assert shell._wire.readline() == b"ready\n"
            yield shell


def drives(disks: Sequence[Path]) -> list[str]:
    """Return QEMU's arguments for raw ``disks``."""
    return [
        word
        for disk in disks
        for word in ("-drive", f"file={disk},if=virtio,format=raw,cache=unsafe")
    ]


def blank(path: Path, mib: int) -> Path:
    """Make a disk with one partition, of all but its first MiB."""
    entry = struct.pack("<BxxxBxxxII", 0x80, 0x83, _FIRST, (mib << 20) // _SECTOR - _FIRST)
    with path.open("wb") as disk:
        disk.truncate(mib << 20)
        disk.seek(446)
        disk.write(entry.ljust(64, b"\0") + b"\x55\xaa")
    return path


@contextmanager
def _qemu(words: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    qemu = command.which("qemu-system-x86_64", "qemu-system-x86")
    fixed = ("-machine", "pc,accel=tcg", "-m", "1024", "-nodefaults", "-display", "none")
    child = subprocess.Popen(["nice", "-n", "10", qemu, *fixed, *words])
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def _connected(path: Path, child: subprocess.Popen[bytes]) -> socket.socket:
    deadline = time.monotonic() + 30
    while True:
        wire = socket.socket(socket.AF_UNIX)
        try:
            wire.connect(str(path))
            return wire
        except OSError:
            wire.close()
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)


def _files(folder: Path) -> tuple[Path, Path]:
    """Return the kernel and the initramfs, made in ``folder``."""
    wanted = packagelist.read(_HERE / "packages.txt", "amd64")
    files = apt.fetch(Arch.X86_64, wanted.wanted)
    tree = folder / "tree"
    tree.mkdir()
    rootfs.unpack([p for deb, p in files.items() if wanted.has_package(deb.name)], wanted, tree)
    package = next(
        p for d, p in files.items() if d.name.startswith("linux-image-") and d.size > 1e7
    )
    found = kernel.from_package(package, {"all": dict.fromkeys(_MODULES, "")}, scratch=folder)
    members: dict[str, cpio.Member] = {
        name: cpio.Folder() for name in ("dev", "proc", "sys", "root", "run", "tmp", "mnt")
    }
    for path in sorted(tree.rglob("*")):
        name = str(path.relative_to(tree))
        if path.is_symlink():
            members[name] = cpio.Link(str(path.readlink()))
        elif path.is_file():
            members[name] = cpio.File(path, path.stat().st_mode & 0o7777)
    members["usr/lib/busybox"] = cpio.Folder()
    members["init"] = cpio.File(_HERE / "init.sh", 0o755)
    members |= {f"modules/{m.name}.ko": cpio.File(m.body) for m in found.modules["all"]}
    order = "".join(f"{m.name}\n" for m in found.modules["all"])
    members["modules/order"] = cpio.File(order.encode())
    (folder / "initramfs").write_bytes(cpio.archive(members))
    (folder / "kernel").write_bytes(found.image)
    return folder / "kernel", folder / "initramfs"
