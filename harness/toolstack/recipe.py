# SPDX-License-Identifier: GPL-2.0-or-later
"""What is made of a tree's tools/, in which order, and make's words for it: data, mostly."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import cache, command
from harness.arch import NAMES, Arch
from harness.toolstack import eras


@dataclass(frozen=True)
class Product:
    """One file that is wanted, and where trees of different age have it: the first that is there.

    ``needed``: a tree that has none of the folders is no tree that we know.  ``first`` is a file,
    relative to the folder as its Makefile says it, that must be made before: 4.15 and 4.16 do not
    tell make so.
    """

    name: str
    folders: tuple[str, ...]
    needed: bool = True
    first: str = ""


def _library(
    name: str, *older: str, folder: str = "", needed: bool = True, first: str = ""
) -> Product:
    place = folder or name.removeprefix("xen")
    return Product(f"lib{name}.so", (f"tools/libs/{place}", *older), needed, first)


_JSON = "../../../tools/include/libxl_json.h"
HEADERS = Product("all", ("tools/include",))
# Each after those that it is linked against.
LIBRARIES = (
    _library("xentoolcore"),
    _library("xentoollog"),
    _library("xenevtchn"),
    _library("xengnttab"),
    _library("xencall"),
    _library("xenforeignmemory"),
    _library("xendevicemodel"),
    _library("xenhypfs", needed=False),
    _library("xenctrl", "tools/libxc"),
    _library("xenstore", "tools/xenstore"),
    _library("xenguest", "tools/libxc"),
    _library("xenmanage", needed=False),
    _library("xenlight", "tools/libxl", folder="light", first=_JSON),
    _library("xlutil", "tools/libxl", folder="util"),
)
PROGRAMS = (
    Product("libxl-save-helper", ("tools/libs/light", "tools/libxl")),
    Product("xenstored", ("tools/xenstored", "tools/xenstore")),
    Product("xenconsoled", ("tools/console/daemon", "tools/console")),
    Product("xen-init-dom0", ("tools/helpers",)),
    Product("xl", ("tools/xl",)),
)


@dataclass(frozen=True)
class Compiler:
    """The compiler and its friends for one architecture, with the sysroot they work in."""

    arch: Arch
    sysroot: Path
    programs: Path  # a folder with programs of this machine that nobody has installed: iasl

    @property
    def prefix(self) -> str:
        """Prefix of the tools, empty for the machine's own."""
        native = platform.machine() == NAMES[self.arch].qemu
        return "" if native else f"{NAMES[self.arch].triplet}-"

    def tool(self, name: str) -> str:
        """Return the path of gcc, ld or strip; LabError names the package that has it."""
        package = "gcc" if name == "gcc" else "binutils"
        if self.prefix:
            package += f"-{NAMES[self.arch].triplet.replace('_', '-')}"
        return command.which(self.prefix + name, package)

    def version(self) -> str:
        """Return what the compiler and the linker call themselves."""
        said = (command.run([self.tool(name), "--version"]) for name in ("gcc", "ld"))
        return ", ".join(text.splitlines()[0] for text in said)

    def cc(self) -> list[str]:
        """Return the words that begin a compilation."""
        return [command.which("ccache", "ccache"), self.tool("gcc"), f"--sysroot={self.sysroot}"]


def make(tree: Path, folder: Path, compiler: Compiler, *words: str) -> list[str]:
    """Return the words that run ``make words`` in ``folder`` of ``tree``, in a clean environment.

    Neither flags of the user nor of a make that called us reach the build; ccache sees paths
    relative to ``tree``.
    """
    variables = {
        "PATH": f"{os.environ.get('PATH', os.defpath)}:{compiler.programs}",
        "HOME": os.environ.get("HOME", "/"),
        "LC_ALL": "C",
        "CCACHE_DIR": cache.shelf("ccache"),
        "CCACHE_BASEDIR": tree,
        "CCACHE_NOHASHDIR": "1",
    }
    environment = [f"{name}={value}" for name, value in variables.items()]
    program = command.which("make", "make")
    jobs = f"-j{os.cpu_count() or 1}"
    return ["env", "-i", *environment, program, jobs, "-C", str(folder), *words]


def steps(tree: Path, compiler: Compiler) -> Iterator[tuple[Path, list[str]]]:
    """Yield the folder and the words of every call of make, in their order."""
    variables = {
        "XEN_TARGET_ARCH": NAMES[compiler.arch].xen,
        "CROSS_COMPILE": compiler.prefix,
        "CC": " ".join(compiler.cc()),
        "HOSTCC": command.which("gcc", "gcc"),
        "debug": "n",
        "APPEND_CFLAGS": eras.CFLAGS,
    }
    settings = [f"{name}={value}" for name, value in variables.items()]
    for product in (HEADERS, *LIBRARIES, *PROGRAMS):
        folder = find(tree, product)
        if folder is not None:
            if product.first and (folder / product.first).is_file():
                yield folder, make(tree, folder, compiler, *settings, f"{folder}/{product.first}")
            yield folder, make(tree, folder, compiler, *settings, product.name)


def find(tree: Path, product: Product) -> Path | None:
    """Return where ``tree`` has ``product``; None if it has it nowhere."""
    found = (tree / folder for folder in product.folders if (tree / folder / "Makefile").is_file())
    return next(found, None)


def answers(compiler: Compiler) -> dict[str, str]:
    """Return configure's answers about programs of this machine."""
    python = sys.executable
    return {"IASL": str(compiler.programs / "iasl"), "PYTHON": python, "PYTHONPATH": python}
