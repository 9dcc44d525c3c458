# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a programme had come when Xen hung: read from a dump of the machine's memory."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

_MAGIC = b"EVTCHNPG"  # guests/agent/steps.h
_VCPUS = 2
_AT = struct.Struct(f"<{_VCPUS}I")


def steps_begun(dump: Path, number: int) -> tuple[int, int] | None:
    """Return which step each side is at (vCPU 0; vCPU 1 or dom0) in programme ``number``; None if
    it is not in ``dump``."""
    sign = _MAGIC + struct.pack("<Q", number)
    with dump.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        at = memory.find(sign)
        if at < 0 or at + len(sign) + _AT.size > len(memory):
            return None
        first, second = _AT.unpack_from(memory, at + len(sign))
        return first, second
