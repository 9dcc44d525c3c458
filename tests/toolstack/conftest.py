# SPDX-License-Identifier: GPL-2.0-or-later
"""What a build of a toolstack fetches, replaced by what the machine has."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from harness import apt, cache
from harness.apt import Source as AptSource
from harness.arch import NAMES, Arch
from harness.toolstack import build as builds
from harness.toolstack import libvirt
from harness.toolstack.sysroot import Sysroot

ARCH = next(arch for arch in Arch if NAMES[arch].qemu == platform.machine())


@pytest.fixture
def no_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    driver = tmp_path / "libvirt/src/libxl/libxl_conf.c"
    driver.parent.mkdir(parents=True)
    driver.write_text("int driver(void) { return 1; }\n")
    root = Sysroot(ARCH, Path("/"), "9.0.0", "digest")
    monkeypatch.setattr(builds, "sysroot", lambda *_, **__: root)
    monkeypatch.setattr(builds, "programs", lambda **_: tmp_path / "bin")
    monkeypatch.setattr(
        apt, "source_package", lambda *_, **__: AptSource("9.0.0-1", tmp_path / "libvirt")
    )
    monkeypatch.setattr(libvirt, "_write_headers", lambda _, made, __: made.mkdir(parents=True))
    monkeypatch.setattr(libvirt, "_flags", lambda _: [])
    monkeypatch.setattr(libvirt, "_libraries", lambda _: [])
