# SPDX-License-Identifier: GPL-2.0-or-later
"""What QEMU is asked for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from harness import command
from harness.machine.qemu import disk_io, user


def test_io_uring_is_used_where_it_works(tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    qemu_img = shutil.which("qemu-img")
    if qemu_img is None:
        pytest.skip("needs qemu-img")
    command.run([qemu_img, "create", "-q", "-f", "qcow2", disk, "1M"])
    assert disk_io(qemu_img, disk) in ("io_uring", "threads")
    assert disk_io(shutil.which("false") or "/bin/false", disk) == "threads"


@pytest.mark.parametrize(("number", "words"), [(0, "as root, not confined"), (1000, "as you")])
def test_it_is_said_plainly_as_whom_qemu_runs(
    number: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: number)
    assert user().startswith(words) and "docs/security.md" in user()
