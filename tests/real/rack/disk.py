# SPDX-License-Identifier: GPL-2.0-or-later
"""The disk of a rack server: GRUB, and a small Debian as its default system.  Needs no root."""

from __future__ import annotations

import shutil
import struct
import tarfile
from dataclasses import dataclass
from pathlib import Path

from harness import apt, cache, command
from harness.arch import NAMES, Arch
from harness.data import IMAGES
from harness.domains.keys import RunKeys
from harness.images import cpio, kernel, packagelist, rootfs

HERE = Path(__file__).parent
_SECTOR, _FIRST = 512, 2048  # partitions begin at 1 MiB
_ESP_MIB = 16
_FREE_BYTES = 900 << 20  # for what the harness places; sparse
_SERIAL = {Arch.X86_64: "ttyS0,115200", Arch.ARM64: "ttyAMA0"}
_ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n",
    "group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "shadow": "root:*:::::::\nsshd:!:::::::\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
    "hostname": "server\n",
    "shells": "/bin/sh\n",
}
_SSHD = """\
HostKey /etc/ssh/host_key
AuthorizedKeysFile /etc/ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
StrictModes no
PidFile none
"""
_REBOOT = "#!/bin/sh\nsync\nmount -o remount,ro /\nexec busybox reboot -f\n"


@dataclass(frozen=True)
class Disk:
    """A raw image (never written: a server gets an overlay) and the keys to its system."""

    image: Path
    keys: RunKeys


def disk(arch: Arch, firmware: str) -> Disk:
    """Return the disk of a server with ``firmware`` "bios" or "uefi", made if need be."""
    wanted = packagelist.read(HERE / "packages.txt", NAMES[arch].debian)
    files = apt.fetch(arch, wanted.wanted)
    ours = [path for path in HERE.iterdir() if path.is_file()]
    what = sorted((deb.name, deb.sha256) for deb in files)
    digest = cache.key(str(arch), firmware, what, cache.digest_files(ours, base=HERE))

    def make(work: Path) -> None:
        _make(arch, firmware, wanted, files, work)

    entry = cache.entry("rack", digest, make)
    names = ("user_private", "user_public", "host_private", "host_public")
    return Disk(entry / "disk.raw", RunKeys(*((entry / name).read_text() for name in names)))


def _make(
    arch: Arch,
    firmware: str,
    wanted: packagelist.PackageList,
    files: dict[apt.Deb, Path],
    work: Path,
) -> None:
    keys = RunKeys.new()
    for name, text in vars(keys).items():
        (work / name).write_text(text)
        (work / name).chmod(0o600)
    tree = work / "tree"
    tree.mkdir()
    unpacked = [path for deb, path in files.items() if wanted.has_package(deb.name)]
    rootfs.unpack(unpacked, wanted, tree)
    package = next(
        p for d, p in files.items() if d.name.startswith("linux-image-") and d.size > 1e7
    )
    _system(tree, keys)
    _boot(tree, arch, firmware, package, work)
    _assemble(tree, arch, firmware, work)
    shutil.rmtree(tree)


def _system(tree: Path, keys: RunKeys) -> None:
    for folder in ("dev/pts", "proc", "sys", "run", "tmp", "root", "var/tmp", "boot/grub"):
        (tree / folder).mkdir(parents=True, exist_ok=True)
    (tree / "etc/ssh").mkdir(parents=True, exist_ok=True)
    for name, text in _ETC.items():
        (tree / "etc" / name).write_text(text)
    (tree / "etc/ssh/rack_sshd_config").write_text(_SSHD)
    (tree / "etc/ssh/host_key").write_text(keys.host_private)
    (tree / "etc/ssh/host_key").chmod(0o600)
    (tree / "etc/ssh/authorized_keys").write_text(keys.user_public)
    reboot = tree / "usr/sbin/reboot"
    reboot.write_text(_REBOOT)
    reboot.chmod(0o755)
    for applet in _applets().split():
        if not any((tree / "usr" / place / applet).exists() for place in ("bin", "sbin")):
            (tree / "usr/bin" / applet).symlink_to("busybox")
    shutil.copy2(HERE / "init.sh", tree / "usr/sbin/rack-init")
    (tree / "usr/sbin/rack-init").chmod(0o755)
    mtab = tree / "etc/mtab"
    if not mtab.is_symlink():
        mtab.symlink_to("/proc/self/mounts")


def _applets() -> str:
    lines = packagelist.lines(IMAGES / "dom0/applets.txt")
    return " ".join(line for _, line in lines) + " findfs expr tac"


def _boot(tree: Path, arch: Arch, firmware: str, package: Path, work: Path) -> None:
    modules = dict.fromkeys(
        ("virtio_pci", "virtio_mmio", "virtio_blk", "crc32c_generic", "ext4", "virtio_net"), ""
    )
    linux = kernel.from_package(package, {"server": modules}, scratch=work)
    members: dict[str, cpio.Member] = {
        name: cpio.Folder() for name in ("dev", "proc", "sys", "root", "run")
    }
    members["init"] = cpio.File(HERE / "stage1.sh", 0o755)
    members["bin/busybox"] = cpio.File(tree / "usr/bin/busybox", 0o755)
    members |= {f"modules/{m.name}.ko": cpio.File(m.body) for m in linux.modules["server"]}
    order = "".join(f"{m.name}.ko {m.parameters}\n" for m in linux.modules["server"])
    members["modules/order"] = cpio.File(order.encode())
    (tree / "boot/initrd.img").write_bytes(cpio.archive(members))
    (tree / "boot/vmlinuz").write_bytes(_vmlinuz(package, work))
    config = (HERE / "grub.cfg").read_text().replace("@ARGUMENTS@", f"console={_SERIAL[arch]}")
    (tree / "boot/grub/grub.cfg").write_text(config)
    grub = _grub(arch, firmware, work)
    target = tree / "boot/grub" / grub.name
    target.mkdir()
    for path in (*grub.glob("*.mod"), *grub.glob("*.lst")):
        shutil.copy2(path, target / path.name)


def _grub(arch: Arch, firmware: str, work: Path) -> Path:
    """Return GRUB's folder for that firmware, unpacked: no package for it is installed."""
    name = {"bios": "grub-pc-bin", "uefi": f"grub-efi-{NAMES[arch].debian}-bin"}[firmware]
    files = apt.fetch(arch, [name])
    package = next(path for deb, path in files.items() if deb.name == name)
    command.run([command.which("dpkg-deb", "dpkg"), "-x", package, work / "grub"])
    return work / "grub/usr/lib/grub" / _platform(arch, firmware)


def _platform(arch: Arch, firmware: str) -> str:
    if arch is Arch.ARM64:
        return "arm64-efi"
    return "x86_64-efi" if firmware == "uefi" else "i386-pc"


def _vmlinuz(package: Path, work: Path) -> bytes:
    tar = work / "kernel.tar"
    command.run([command.which("dpkg-deb", "dpkg"), "--fsys-tarfile", package], log=tar)
    try:
        with tarfile.open(tar) as members:
            for member in members:
                if "/boot/vmlinuz-" in member.name:
                    stream = members.extractfile(member)
                    assert stream is not None
                    return stream.read()
    finally:
        tar.unlink()
    raise AssertionError(f"no kernel in {package}")


def _assemble(tree: Path, arch: Arch, firmware: str, work: Path) -> None:
    root = work / "root.ext4"
    used = sum(path.lstat().st_size for path in tree.rglob("*"))
    size = (used + _FREE_BYTES) >> 20 << 20
    with root.open("wb") as file:
        file.truncate(size)
    features = ["-O", "^metadata_csum,^64bit", "-E", "root_owner=0:0", "-m", "0", "-L", "server"]
    words = ["-q", "-F", "-t", "ext4", *features, "-d"]
    command.run([command.which("mke2fs", "e2fsprogs"), *words, tree, root], timeout=600)
    esp = _esp(arch, work) if firmware == "uefi" else None
    first = _FIRST + (_ESP_MIB << 11 if esp else 0)
    parts = [(_FIRST, _ESP_MIB << 11, 0xEF)] if esp else []
    parts.append((first, size // _SECTOR, 0x83))
    image = work / "disk.raw"
    with image.open("wb") as file:
        file.truncate(first * _SECTOR + size + (1 << 20))
    _partition(image, parts)
    _copy(root, image, first)
    if esp:
        _copy(esp, image, _FIRST)
    else:
        _bios_grub(image, work)
    shutil.rmtree(work / "grub")
    root.unlink()


def _partition(image: Path, parts: list[tuple[int, int, int]]) -> None:
    """Write a DOS partition table: first sector, sectors and type of each, no CHS addresses."""
    entries = [struct.pack("<BxxxBxxxII", 0, kind, first, size) for first, size, kind in parts]
    with image.open("r+b") as file:
        file.seek(446)
        file.write(b"".join(entries).ljust(64, b"\0") + b"\x55\xaa")


def _copy(part: Path, image: Path, sector: int) -> None:
    dd = ["dd", "bs=1M", "conv=sparse,notrunc", f"if={part}", f"of={image}", "status=none"]
    command.run([*dd, f"seek={sector * _SECTOR >> 20}"], timeout=300)


def _bios_grub(image: Path, work: Path) -> None:
    """Put GRUB's boot.img into the first sector and its core behind it, as grub-install does."""
    core = work / "core.img"
    folder = work / "grub/usr/lib/grub/i386-pc"
    _mkimage(folder, core, "(hd0,msdos1)/boot/grub", ["biosdisk", "part_msdos", "ext2"])
    with image.open("r+b") as file:
        file.write((folder / "boot.img").read_bytes()[:440])
        file.seek(_SECTOR)
        file.write(core.read_bytes())
    core.unlink()


def _esp(arch: Arch, work: Path) -> Path:
    platform = work / "grub/usr/lib/grub" / _platform(arch, "uefi")
    name = "BOOTAA64.EFI" if arch is Arch.ARM64 else "BOOTX64.EFI"
    program, esp = work / name, work / "esp.img"
    _mkimage(platform, program, "(hd0,msdos2)/boot/grub", ["part_msdos", "ext2", "fat"])
    with esp.open("wb") as file:
        file.truncate(_ESP_MIB << 20)
    command.run([command.which("mkfs.vfat", "dosfstools"), esp])
    command.run([command.which("mmd", "mtools"), "-i", esp, "::EFI", "::EFI/BOOT"])
    command.run([command.which("mcopy", "mtools"), "-i", esp, program, f"::EFI/BOOT/{name}"])
    program.unlink()
    return esp


def _mkimage(folder: Path, path: Path, prefix: str, modules: list[str]) -> None:
    mkimage = command.which("grub-mkimage", "grub-common")
    words: list[str | Path] = ["-d", folder, "-O", folder.name, "-o", path, "-p", prefix]
    command.run([mkimage, *words, *modules, "normal"])
