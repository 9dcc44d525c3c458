# SPDX-License-Identifier: GPL-2.0-or-later
"""The rack's UEFI firmware: Debian 13 has no OVMF_CODE.fd any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.arch import Arch
from harness.verdict import LabError
from tests.real.rack.firmware import firmware


def test_takes_the_4_mb_file_where_there_is_no_other(tmp_path: Path) -> None:
    old, new = tmp_path / "OVMF_CODE.fd", tmp_path / "OVMF_CODE_4M.fd"
    files = {Arch.X86_64: (old, new)}
    with pytest.raises(LabError, match=r"no UEFI firmware for amd64.*apt-get install ovmf"):
        firmware(Arch.X86_64, files)
    new.touch()
    assert firmware(Arch.X86_64, files) == new
    old.touch()
    assert firmware(Arch.X86_64, files) == old
