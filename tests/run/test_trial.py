# SPDX-License-Identifier: GPL-2.0-or-later
"""The trial boot of Xen under KVM: what fails in it is not always KVM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.arch import Arch
from harness.config.host import QemuHost
from harness.evidence import Crash
from harness.machine import accel
from harness.machine.qemu_xml import Boot
from harness.run import machines
from harness.verdict import HypervisorError, LabError

PANIC = Crash(what="panic", stream="xen", text="Panic on CPU 0:")


@pytest.fixture
def boot(tmp_path: Path) -> Boot:
    return Boot(tmp_path, tmp_path, tmp_path, tmp_path, xen_args="", dom0_args="")


def test_a_libvirt_that_cannot_be_reached_says_nothing_about_kvm(
    boot: Boot, tmp_path: Path
) -> None:
    uri = f"qemu+unix:///session?socket={tmp_path}/none"
    host = QemuHost(name="h", arch=Arch.X86_64, libvirt_uri=uri)
    with pytest.raises(accel.NotTried, match="cannot reach libvirt"):
        machines._trial(host, boot)


@pytest.mark.parametrize(
    ("fails", "connected", "remembered"),
    [
        (LabError("Linux version did not come within 45 s"), True, True),
        (LabError("QEMU is gone"), True, True),
        (LabError("QEMU is gone: the socket of libvirt was closed"), False, False),
        (HypervisorError(PANIC), True, False),  # a Xen under test may do that anywhere
    ],
)
def test_what_is_remembered_of_a_trial(
    boot: Boot, monkeypatch: pytest.MonkeyPatch, fails: Exception, connected: bool, remembered: bool
) -> None:
    def nothing() -> None:
        pass

    def expect(*_: object, **__: object) -> None:
        raise fails

    machine = SimpleNamespace(
        power_on=nothing, power_off=nothing, check=nothing, connected=lambda: connected
    )
    made: Callable[..., Any] = lambda *_, **__: machine  # noqa: E731
    monkeypatch.setattr(machines, "QemuMachine", made)
    monkeypatch.setattr(machines, "Console", lambda _: SimpleNamespace(expect=expect))
    host = QemuHost(name="h", arch=Arch.X86_64)
    if remembered:
        assert machines._trial(host, boot).startswith("a trial boot under KVM failed: ")
    else:
        with pytest.raises(accel.NotTried):
            machines._trial(host, boot)
