# SPDX-License-Identifier: GPL-2.0-or-later
"""Take the kernel from its package: an image that boots fast, and modules in loading order."""

from __future__ import annotations

import gzip
import lzma
import re
import struct
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness import command
from harness.apt.deb import check
from harness.verdict import LabError

_DEPENDS = re.compile(rb"(?:^|\0)depends=([^\0]*)\0")
_SUFFIX = re.compile(r"\.ko(?:\.(xz|gz))?$")


@dataclass(frozen=True)
class Kernel:
    """A kernel: ``version`` (uname -r), bootable ``image``, sets of modules in loading order."""

    version: str
    image: bytes
    modules: Mapping[str, tuple[Module, ...]]


@dataclass(frozen=True)
class Module:
    """A module: its name with "_", its (uncompressed) file, and parameters to load it with."""

    name: str
    body: bytes
    parameters: str = ""


def from_package(deb: Path, wanted: Mapping[str, Mapping[str, str]], *, scratch: Path) -> Kernel:
    """Take from package ``deb`` the kernel, and the ``wanted`` modules with their dependencies.

    ``wanted`` has sets of modules; a set maps names to parameters, in loading order.
    ``scratch`` is a directory in which the package is unpacked for a while (about 400 MB).
    Modules that are built into the kernel are left out; LabError if it does not have one at all.
    """
    tar = scratch / "kernel.tar"
    try:
        check(deb)
        # dpkg-deb writes the tar file to its output: command.run's log is just that.
        command.run([command.which("dpkg-deb", "dpkg"), "--fsys-tarfile", deb], log=tar)
        with tarfile.open(tar) as package:
            return _take(package, wanted)
    finally:
        tar.unlink(missing_ok=True)


def load_order(wanted: Iterable[str], needs: Callable[[str], Iterable[str]]) -> list[str]:
    """Return ``wanted`` and their dependencies (``needs``), each once and after its own ones."""
    order: list[str] = []

    def add(name: str) -> None:
        if name not in order:
            for other in needs(name):
                add(other)
            order.append(name)

    for name in wanted:
        add(name)
    return order


def uncompressed(vmlinuz: bytes) -> bytes:
    """Return the ELF kernel inside an x86 bzImage; return any other file as it is.

    Decompressing costs seconds in an emulator, and Xen and libxl take the ELF file as
    well.  The layout is Linux's boot protocol (Documentation/arch/x86/boot.rst): number of
    setup sectors at 0x1f1, magic at 0x202, payload's offset and length at 0x248 and 0x24c.
    """
    if vmlinuz[0x202:0x206] != b"HdrS":
        return vmlinuz
    offset, length = struct.unpack_from("<II", vmlinuz, 0x248)
    start = ((vmlinuz[0x1F1] or 4) + 1) * 512 + offset
    payload = vmlinuz[start : start + length]
    if payload.startswith(b"\xfd7zXZ"):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(b"\x1f\x8b"):
        return gzip.decompress(payload[:-4])  # the size follows the stream
    return vmlinuz


def _take(package: tarfile.TarFile, wanted: Mapping[str, Mapping[str, str]]) -> Kernel:
    members: dict[str, tarfile.TarInfo] = {}
    images: list[tarfile.TarInfo] = []
    built_in: set[str] = set()
    for member in package:
        path = PurePosixPath(member.name)
        if path.name.startswith("vmlinuz-"):
            images.append(member)
        elif path.name == "modules.builtin":
            built_in = {_name(line) for line in _read(package, member).decode().split()}
        elif _SUFFIX.search(path.name):
            members[_name(path.name)] = member
    if len(images) != 1:
        raise LabError(f"{len(images)} kernels in one package", where=str(package.name))
    bodies: dict[str, bytes] = {}

    def needs(name: str) -> list[str]:
        if name in built_in:
            return []
        if name not in members:
            raise LabError(f"this kernel has no module {name}", where=images[0].name)
        bodies[name] = _module(members[name].name, _read(package, members[name]))
        found = _DEPENDS.search(bodies[name])
        return [_name(word) for word in found[1].decode().split(",") if word] if found else []

    modules = {}
    for who, asked in wanted.items():
        parameters = {_name(name): text for name, text in asked.items()}
        order = load_order(parameters, needs)
        modules[who] = tuple(
            Module(name, bodies[name], parameters.get(name, "")) for name in order if name in bodies
        )
    version = PurePosixPath(images[0].name).name.removeprefix("vmlinuz-")
    return Kernel(version, uncompressed(_read(package, images[0])), modules)


def _read(package: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    try:
        stream = package.extractfile(member)  # of a link: what it leads to, in the package
    except KeyError:
        what = "a link in the kernel's package leads to nothing"
        raise LabError(what, where=member.name) from None
    return stream.read() if stream else b""


def _name(word: str) -> str:
    """Return a module's name as Linux writes it: no folder, no suffix, "_" instead of "-"."""
    return _SUFFIX.sub("", PurePosixPath(word).name).replace("-", "_")


def _module(name: str, body: bytes) -> bytes:
    if name.endswith(".xz"):
        return lzma.decompress(body)
    if name.endswith(".gz"):
        return gzip.decompress(body)
    return body
