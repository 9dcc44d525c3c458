# SPDX-License-Identifier: GPL-2.0-or-later
"""What libvirt is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.arch import Arch
from harness.config.host import QemuHost
from harness.machine import qemu_disk
from harness.machine.accel import Choice
from harness.machine.qemu_xml import Asked, Boot


class _Connection:
    def getSecurityModel(self) -> list[str]:
        return ["none", "0"]


def asked(folder: Path, *, stub: bool, domus: int = 2) -> list[str]:
    """Return the words that QEMU gets of an x86-64 machine under KVM, behind what libvirt gives."""
    boot = Boot(folder / "xen", folder / "a,b", folder / "initramfs", None, "sync_console", "quiet")
    host = QemuHost(name="qemu", arch=Arch.X86_64, domus=domus)
    qemu_disk.make(folder / "root.qcow2", None)
    connection: Any = _Connection()
    machine = Asked("qemu-1", host, boot, Choice("kvm", ""), folder, stub)
    tree = ElementTree.fromstring(machine.xml(connection, 2222))
    assert tree.findtext("name") == "qemu-1"
    sockets = {each.get("path") for each in tree.iter("source")} & set(map(str, machine.lines))
    assert len(sockets) == 2 + domus
    return [str(each.get("value")) for each in tree.iter() if each.tag.endswith("}arg")]


@pytest.mark.parametrize("stub", [False, True])
def test_only_a_machine_with_a_stub_has_a_spare_port(stub: bool, tmp_path: Path) -> None:
    words = asked(tmp_path, stub=stub)
    assert (f"unix:{tmp_path}/stub,server=on,wait=off" in words) is stub
    assert ("pci-serial,chardev=spare,id=spare-serial,addr=0x1c" in words) is stub


def test_a_comma_in_a_path_is_no_end_of_a_module(tmp_path: Path) -> None:
    words = asked(tmp_path, stub=False)
    modules = words[words.index("-initrd") + 1]
    assert modules == f"{tmp_path}/a,,b quiet,{tmp_path}/initramfs"
    assert any("hostfwd=tcp:127.0.0.1:2222-10.0.2.15:22" in word for word in words)
