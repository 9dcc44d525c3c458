# SPDX-License-Identifier: GPL-2.0-or-later
"""What QEMU is asked for, and how its end is told."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import Any

import libvirt
import pytest

from harness import command
from harness.arch import Arch
from harness.config.host import QemuHost
from harness.machine import ending
from harness.machine.accel import Choice
from harness.machine.console import Console
from harness.machine.qemu import QemuMachine
from harness.machine.qemu_disk import disk_io
from harness.machine.qemu_user import user
from harness.machine.qemu_xml import Boot
from harness.verdict import HypervisorError, LabError


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


class _Ended:
    """A domain of libvirt, and its connection, as they are when QEMU has ended by ``detail``."""

    def __init__(self, state: int | None, detail: int) -> None:
        self._state, self._detail = state, detail

    def state(self) -> list[int]:
        if self._state is None:
            raise libvirt.libvirtError("Domain not found")
        return [self._state, 0]

    def domainEventRegisterAny(self, _domain: Any, _id: int, heard: Any, _opaque: Any) -> int:
        heard(self, self, libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, self._detail, None)
        if self._state is None:
            heard(self, self, libvirt.VIR_DOMAIN_EVENT_STOPPED, 0, None)
        return 0


# libvirt shows the domain as shut down, or shut off, before it does not find it any more.
@pytest.mark.parametrize(
    "state", [None, libvirt.VIR_DOMAIN_SHUTDOWN, libvirt.VIR_DOMAIN_SHUTOFF], ids=str
)
@pytest.mark.parametrize(
    ("detail", "error"),
    [
        (libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_GUEST, HypervisorError),
        (libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_HOST, LabError),  # a signal, or an order to QEMU
    ],
)
def test_a_machine_that_ended_by_itself_is_xens_fault(
    state: int | None,
    detail: int,
    error: type[Exception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ending, "_TOLD_SECONDS", 0.1)
    ours, theirs = socket.socketpair()
    console = Console(tmp_path / "console")
    console.attach(ours)
    theirs.sendall(b"(XEN) Xen version 4.17\r\n")
    theirs.close()
    boot = Boot(tmp_path, tmp_path, tmp_path, None, "", "")
    host = QemuHost(name="qemu", arch=Arch.ARM64)
    machine = QemuMachine(host, boot, Choice("tcg", ""), folder=tmp_path, console=console)
    domain: Any = _Ended(state, detail)
    machine._domain, machine._ending = domain, ending.Ending(domain, domain)
    with pytest.raises(error, match=r"nobody asked for it|QEMU is gone"):
        machine.check()
    console.close()
