# SPDX-License-Identifier: GPL-2.0-or-later
"""The two architectures, and what every neighbour calls them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Arch(StrEnum):
    """Architecture of a machine, as users name it."""

    X86_64 = "x86_64"
    ARM64 = "arm64"


@dataclass(frozen=True)
class ArchNames:
    """Names of one architecture in the tools around us."""

    debian: str  # dpkg architecture
    triplet: str  # GNU triplet of the compiler
    xen: str  # XEN_TARGET_ARCH
    qemu: str  # suffix of qemu-system-*
    libvirt: str  # arch attribute in domain XML


NAMES: dict[Arch, ArchNames] = {
    Arch.X86_64: ArchNames("amd64", "x86_64-linux-gnu", "x86_64", "x86_64", "x86_64"),
    Arch.ARM64: ArchNames("arm64", "aarch64-linux-gnu", "arm64", "aarch64", "aarch64"),
}
