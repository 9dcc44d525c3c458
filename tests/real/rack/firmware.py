# SPDX-License-Identifier: GPL-2.0-or-later
"""The UEFI firmware that distributions ship for QEMU, by the names that its file has had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.arch import NAMES, Arch
from harness.verdict import LabError

# Debian until 12 and Ubuntu until 22.04 have the 2 MB file; both have the 4 MB one since Debian 11.
_FILES = {
    Arch.X86_64: (Path("/usr/share/OVMF/OVMF_CODE.fd"), Path("/usr/share/OVMF/OVMF_CODE_4M.fd")),
    Arch.ARM64: (Path("/usr/share/AAVMF/AAVMF_CODE.fd"),),
}


def firmware(arch: Arch, files: Mapping[Arch, Sequence[Path]] = _FILES) -> Path:
    """Return the file for ``arch``, without a place for variables; LabError if there is none."""
    for file in files[arch]:
        if file.exists():
            return file
    package = "ovmf" if arch is Arch.X86_64 else "qemu-efi-aarch64"
    raise LabError(
        f"no UEFI firmware for {NAMES[arch].debian}: {' or '.join(map(str, files[arch]))}",
        hint=f"run: sudo apt-get install {package}",
    )
