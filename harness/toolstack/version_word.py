# SPDX-License-Identifier: GPL-2.0-or-later
"""A library that presents another version of domctl and sysctl than a toolstack has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness import cache, command
from harness.data import GUESTS
from harness.hypervisor.source import Source
from harness.toolstack.recipe import Compiler

NAME = "version_word.so"
_SOURCE = GUESTS / "dom0" / "version_word.c"


@dataclass(frozen=True)
class Interfaces:
    """XEN_DOMCTL_INTERFACE_VERSION and XEN_SYSCTL_INTERFACE_VERSION."""

    domctl: int
    sysctl: int

    def __str__(self) -> str:
        return f"domctl {self.domctl:#x}, sysctl {self.sysctl:#x}"


def interfaces(source: Source) -> Interfaces | None:
    """Return the versions of the interfaces of ``source``; None if it does not tell."""
    domctl, sysctl = source.interface("domctl"), source.interface("sysctl")
    return None if domctl is None or sysctl is None else Interfaces(domctl, sysctl)


def library(has: Interfaces, wanted: Interfaces, compiler: Compiler) -> Path:
    """Return the library that makes a toolstack with ``has`` present ``wanted``."""
    defines = [
        f"-DHAS_DOMCTL={has.domctl}u",
        f"-DHAS_SYSCTL={has.sysctl}u",
        f"-DWANTED_DOMCTL={wanted.domctl}u",
        f"-DWANTED_SYSCTL={wanted.sysctl}u",
    ]

    def make(folder: Path) -> None:
        words = [compiler.tool("gcc"), f"--sysroot={compiler.sysroot}", *defines]
        flags = ["-std=gnu99", "-O2", "-Wall", "-Werror", "-fPIC", "-shared"]
        command.run([*words, *flags, "-o", folder / NAME, _SOURCE])

    digest = cache.key(compiler.arch, compiler.version(), defines, _SOURCE.read_bytes())
    return cache.entry("version-word", digest, make) / NAME
