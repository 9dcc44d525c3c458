# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of instructions of each architecture."""

from __future__ import annotations

from harness.arch import Arch
from harness.binary.arm64 import Arm64Table
from harness.binary.x86 import X86Table

Table = X86Table | Arm64Table


def table_of(arch: Arch) -> Table:
    """Return the meaning of the instructions of ``arch``."""
    return X86Table() if arch is Arch.X86_64 else Arm64Table()
