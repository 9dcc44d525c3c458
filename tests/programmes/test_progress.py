# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a programme has come is found in a dump of the machine's memory."""

from __future__ import annotations

import struct
from pathlib import Path

from harness.agent.build import BARE_SOURCES
from harness.fuzz.progress import _MAGIC, steps_begun


def _dump(path: Path, *found: tuple[int, int, int]) -> Path:
    parts = [b"EVTCHNPG" + struct.pack("<QII", *each) + b"\xa5" * 100 for each in found]
    path.write_bytes(b"\0" * 5000 + b"".join(parts))
    return path


def test_the_programme_of_that_number_is_found(tmp_path: Path) -> None:
    dump = _dump(tmp_path / "memory", (0, 9, 9), (77, 12, 3), (78, 1, 1))
    assert steps_begun(dump, 77) == (12, 3)
    assert steps_begun(dump, 5) is None


def test_what_is_cut_off_is_not_read(tmp_path: Path) -> None:
    dump = tmp_path / "memory"
    dump.write_bytes(b"\0" * 100 + b"EVTCHNPG" + struct.pack("<QI", 77, 1))
    assert steps_begun(dump, 77) is None


def test_the_guest_has_the_same_sign() -> None:
    assert f'"{_MAGIC.decode()}"' in BARE_SOURCES.joinpath("programme.c").read_text()
