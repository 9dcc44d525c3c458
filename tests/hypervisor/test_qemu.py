# SPDX-License-Identifier: GPL-2.0-or-later
"""Where QEMU's source comes from: a directory, or the newest package that has the emulation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from harness import apt
from harness.apt.archives import Release
from harness.hypervisor import qemu
from harness.verdict import ConfigError, LabError


def archive(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has: Mapping[str, str], gone: str = ""
) -> None:
    """Let apt have these versions of QEMU, by release; of ``gone``, only the index."""

    def source_package(name: str, *, codename: str, notice: apt.Notice) -> apt.Source:
        if has[codename] == gone:
            raise LabError("the archive lists it but does not have it")
        return apt.Source(has[codename], tmp_path)

    def source_versions(name: str, *, codename: str, notice: apt.Notice) -> list[str]:
        return [has[codename]] if codename in has else []

    monkeypatch.setattr(apt, "source_versions", source_versions)
    monkeypatch.setattr(apt, "source_package", source_package)


@pytest.fixture
def debian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "machine_release", lambda: Release("debian", "bookworm"))


@pytest.mark.usefixtures("debian")
@pytest.mark.parametrize(
    ("has", "gone", "version"),
    [
        ({"": "1:7.2+dfsg-7", "trixie": "1:10.0.2+ds-2"}, "", "1:10.0.2+ds-2"),
        ({"": "1:10.0.2+ds-2"}, "", "1:10.0.2+ds-2"),
        ({"": "1:11.1.2+ds-3", "trixie": "1:10.0.2+ds-2"}, "1:11.1.2+ds-3", "1:10.0.2+ds-2"),
    ],
)
def test_the_first_release_that_has_it(
    has: dict[str, str], gone: str, version: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive(monkeypatch, tmp_path, has, gone)
    assert qemu.from_apt().version == version


@pytest.mark.usefixtures("debian")
def test_an_archive_without_it_is_told_with_what_it_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive(monkeypatch, tmp_path, {"": "1:7.2+dfsg-7"})
    with pytest.raises(LabError, match=r"QEMU 8.0 or later: 1:7.2\+dfsg-7; give .* --qemu-src"):
        qemu.from_apt()


def test_a_tree_of_the_users(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no hw/i386/kvm/xen_evtchn.c there"):
        qemu.from_dir(tmp_path)
    file = tmp_path / qemu.EVENT_CHANNELS
    file.parent.mkdir(parents=True)
    file.touch()
    assert qemu.from_dir(tmp_path).version == "of no known version"
    (tmp_path / "VERSION").write_text("10.0.2\n")
    assert qemu.from_dir(tmp_path).version == "10.0.2"
