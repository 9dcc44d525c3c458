# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU, or its stand-in where libvirt's user may not open /dev/kvm."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from harness import cache
from harness.arch import Arch
from harness.machine import emulator


@pytest.mark.parametrize(("mode", "closed"), [(0o600, True), (0o660, True), (0o666, False)])
def test_who_may_open_the_device(mode: int, closed: bool, tmp_path: Path) -> None:
    if not any(user.pw_name in ("libvirt-qemu", "qemu") for user in pwd.getpwall()):
        pytest.skip("libvirt's user is not there")
    device = tmp_path / "kvm"
    device.touch()
    device.chmod(mode)
    assert emulator.closed_to_qemu(device) is closed


def test_no_device_is_closed_to_nobody(tmp_path: Path) -> None:
    assert not emulator.closed_to_qemu(tmp_path / "kvm")


def test_the_stand_in_changes_one_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    echo = tmp_path / "echo"
    echo.write_text('#!/bin/sh\nfor word; do echo "<$word>"; done\n')
    echo.chmod(0o755)
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    monkeypatch.setattr(emulator, "qemu", lambda arch: str(echo))
    monkeypatch.setattr(emulator, "closed_to_qemu", lambda: True)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert emulator.emulator(Arch.X86_64, "kvm") == str(echo)
    program = emulator.emulator(Arch.X86_64, "tcg")
    words = ["-machine", "none,accel=kvm:tcg", "a b", "", "pc,accel=kvm:tcg"]
    said = subprocess.run([program, *words], capture_output=True, text=True, check=True).stdout
    words[1] = "none,accel=tcg"
    assert said.splitlines() == [f"<{word}>" for word in words]
