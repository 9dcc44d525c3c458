# SPDX-License-Identifier: GPL-2.0-or-later
"""The device tree for Xen on Arm, made by the real QEMU and fdtput, read back by fdtget."""

from __future__ import annotations

from pathlib import Path

from harness import command
from harness.machine import device_tree


def test_chosen_tells_xen_where_dom0_lies(tmp_path: Path) -> None:
    tree = tmp_path / "machine.dtb"
    device_tree.write(
        tree,
        emulator=command.which("qemu-system-aarch64", "qemu-system-arm"),
        machine=["-machine", "virt,virtualization=on,gic-version=3", "-smp", "2", "-m", "2048"],
        xen_args="console=dtuart dom0_mem=1024M,max:1024M",
        dom0_args="console=hvc0",
        kernel_size=0x123456,
        ramdisk_size=0xABCDEF,
    )
    fdtget = command.which("fdtget", "device-tree-compiler")

    def get(kind: str, node: str, name: str) -> str:
        return command.run([fdtget, "-t", kind, tree, node, name]).strip()

    assert get("s", "/chosen", "xen,xen-bootargs") == "console=dtuart dom0_mem=1024M,max:1024M"
    assert get("s", "/chosen", "xen,dom0-bootargs") == "console=hvc0"
    kernel = f"/chosen/module@{device_tree.KERNEL_AT:x}"
    assert get("s", kernel, "compatible").split() == ["multiboot,kernel", "multiboot,module"]
    assert get("x", kernel, "reg") == f"0 {device_tree.KERNEL_AT:x} 0 123456"
    ramdisk = f"/chosen/module@{device_tree.RAMDISK_AT:x}"
    assert get("s", ramdisk, "compatible").split() == ["multiboot,ramdisk", "multiboot,module"]
    assert get("x", ramdisk, "reg") == f"0 {device_tree.RAMDISK_AT:x} 0 abcdef"
    assert get("x", "/memory@40000000", "reg").split()[-1] == "80000000", "QEMU's own nodes stay"
