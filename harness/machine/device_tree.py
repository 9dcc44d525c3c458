# SPDX-License-Identifier: GPL-2.0-or-later
"""The device tree that tells Xen on Arm where dom0's kernel and initramfs lie.

QEMU writes the tree of its machine (``-machine dumpdtb=``); we add the /chosen node that Xen's
docs/misc/arm/device-tree/booting.txt describes.
"""

from __future__ import annotations

from pathlib import Path

from harness import command

# QEMU's virt board puts RAM at 1 GiB, Xen's image low in it and its own DTB 128 MiB up.
KERNEL_AT = 0x5000_0000
RAMDISK_AT = 0x5800_0000


def write(
    path: Path,
    *,
    emulator: str,
    machine: list[str],
    xen_args: str,
    dom0_args: str,
    kernel_size: int,
    ramdisk_size: int,
) -> None:
    """Write to ``path`` the device tree for ``emulator`` with the arguments ``machine``.

    Sizes in bytes.  LabError when QEMU or fdtput fails.
    """
    words = list(machine)
    words[words.index("-machine") + 1] += f",dumpdtb={path}"
    command.run([emulator, *words, "-display", "none"], timeout=60)
    fdtput = command.which("fdtput", "device-tree-compiler")

    def put(kind: str, node: str, name: str, *values: str) -> None:
        command.run([fdtput, "-p", "-t", kind, path, node, name, *values], timeout=20)

    put("s", "/chosen", "xen,xen-bootargs", xen_args)
    put("s", "/chosen", "xen,dom0-bootargs", dom0_args)
    put("x", "/chosen", "#address-cells", "2")
    put("x", "/chosen", "#size-cells", "2")
    for what, address, size in (
        ("kernel", KERNEL_AT, kernel_size),
        ("ramdisk", RAMDISK_AT, ramdisk_size),
    ):
        node = f"/chosen/module@{address:x}"
        put("s", node, "compatible", f"multiboot,{what}", "multiboot,module")
        put("x", node, "reg", "0", f"{address:x}", "0", f"{size:x}")
