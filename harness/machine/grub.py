# SPDX-License-Identifier: GPL-2.0-or-later
"""Install Xen beside a server's default system: its files, and a GRUB entry that is booted once.

Only two things of the default system change: custom.cfg, which GRUB's own 41_custom reads, gets a
block of ours, and grubenv gets ``next_entry``.  GRUB deletes ``next_entry`` before it boots the
entry: so, whatever happens then, the next boot is the default system's.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.arch import NAMES, Arch
from harness.config.physical import Booting
from harness.machine.shell import Shell
from harness.verdict import LabError

ENTRY = "xen-evtchn-harness"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_BEGIN, _END = f"# {ENTRY}: begin", f"# {ENTRY}: end"
_SPARE_BYTES = 64 << 20  # of the server's disk that must stay free
_ROOM = "free space there, or set boot.folder in lab.yaml to another file system"
_BUILT_IN_DRIVERS = ("virtio_net",)  # network drivers in images/dom0/modules.txt

# All in one command, to save round trips; it prints lines "name=value".
_LOOK = r"""
set -- $(ip route show default | head -n 1)
while [ $# -gt 1 ]; do [ "$1" = via ] && gateway=$2; [ "$1" = dev ] && nic=$2; shift; done
nic=${nic:-$(ls /sys/class/net | grep -v '^lo$' | head -n 1)}
echo "arch=$(uname -m)"
echo "boot_id=$(cat BOOT_ID)"
echo "gateway=$gateway"
echo "mac=$(cat /sys/class/net/$nic/address)"
echo "address=$(ip -4 -o addr show dev $nic | sed -n 's/.* inet \([0-9./]*\).*/\1/p' | head -n 1)"
echo "driver=$(basename $(readlink /sys/class/net/$nic/device/driver/module ||
    readlink /sys/class/net/$nic/device/driver))"
why=$(mkdir -p FOLDER 2>&1) || echo "no_folder=$(echo $why)"
[ ! -d FOLDER ] || echo "free_kib=$(df -k FOLDER | tail -n 1 | awk '{print $4}')"
echo "uuid=$(grub-probe --target=fs_uuid FOLDER)"
echo "path=$(grub-mkrelpath FOLDER)"
echo "custom=$(grep -c custom.cfg GRUB/grub.cfg)"
echo "once=$(grep -c next_entry GRUB/grub.cfg)"
"""


@dataclass(frozen=True)
class System:
    """The facts about a server that its default system gives."""

    arch: str
    boot_id: str  # different after every boot
    mac: str
    address: str  # with the prefix's length
    gateway: str
    driver: str  # of the network interface
    free_bytes: int
    uuid: str  # of the file system that the files go to
    path: str  # of the folder of these files, in that file system


def inspect(shell: Shell, section: Booting, arch: Arch, extra: Sequence[str] = ()) -> System:
    """Examine the default system; LabError if it cannot boot Xen once.

    ``extra`` are kernel modules that dom0 gets in addition to those of its image.
    """
    look = _LOOK.replace("FOLDER", section.folder).replace("GRUB", section.grub)
    look = look.replace("BOOT_ID", _BOOT_ID)
    said = dict(line.partition("=")[::2] for line in shell.run(look).splitlines() if "=" in line)
    where = shell.where
    machine = said.get("arch", "")
    if machine != ("aarch64" if arch is Arch.ARM64 else "x86_64"):
        raise LabError(f"the server is {machine}, not {NAMES[arch].debian}", where=where)
    if problem := said.get("no_folder"):
        full = "No space left" in problem
        raise LabError(
            "the disk is full: there is no room for a folder" if full else problem,
            where=f"{where}:{section.folder}",
            hint=_ROOM,
        )
    for field, what in (
        ("custom", "does not read custom.cfg (GRUB's 41_custom)"),
        ("once", "does not know `grub-reboot` (next_entry)"),
    ):
        if said.get(field, "0") in ("", "0"):
            raise LabError(
                f"the GRUB entry cannot be booted: {section.grub}/grub.cfg {what}",
                where=where,
                hint="run update-grub there, or set boot.grub in lab.yaml",
            )
    for field in ("mac", "address", "uuid", "path"):
        if not said.get(field):
            raise LabError(f"the default system reports no {field}", where=where)
    driver = said.get("driver", "")
    if driver not in (*_BUILT_IN_DRIVERS, *extra):
        raise LabError(
            f"dom0 would have no network: dom0's image does not have the driver {driver}",
            where=where,
            hint=f"set boot.modules: [{driver}] in lab.yaml",
        )
    names = ("arch", "boot_id", "mac", "address", "gateway", "driver", "uuid", "path")
    return System(
        **{name: said.get(name, "") for name in names}, free_bytes=int(said["free_kib"]) << 10
    )


def boot_id(shell: Shell, timeout: float = 60.0) -> str:
    """Return the id that is different after every boot, as ``System.boot_id``."""
    return shell.run(f"cat {_BOOT_ID}", timeout=timeout).strip()


def place(
    shell: Shell, section: Booting, system: System, files: Mapping[str, tuple[Path, str]]
) -> None:
    """Copy ``files`` (name on the server -> local file, its SHA-256) into the server's folder.

    Files that are there already are not sent again.  LabError if the others do not fit on the disk.
    """
    folder = section.folder
    sums = shell.run(f"cd {folder} && sha256sum * 2>/dev/null || true", timeout=300)
    there = {name: digest for digest, name in (line.split(None, 1) for line in sums.splitlines())}
    missing = {name: file for name, (file, digest) in files.items() if there.get(name) != digest}
    needed = sum(file.stat().st_size for file in missing.values()) + _SPARE_BYTES
    if needed > system.free_bytes:
        raise LabError(
            f"the disk is full: {system.free_bytes >> 20} MiB free, {needed >> 20} MiB needed",
            where=f"{shell.where}:{folder}",
            hint=_ROOM,
        )
    for name, file in missing.items():
        shell.put(file, f"{folder}/{name}")


def write_entry(shell: Shell, section: Booting, lines: Sequence[str]) -> None:
    """Write the GRUB entry with these ``lines``; it replaces an earlier one of ours."""
    body = "\n".join(f"    {line}" for line in lines)
    block = f"{_BEGIN}\nmenuentry '{ENTRY}' --id {ENTRY} {{\n{body}\n}}\n{_END}\n"
    kept = _without_ours(_custom(shell, section))
    shell.put(f"{kept}{block}".encode(), f"{section.grub}/custom.cfg", mode=0o644)


def entry(arch: Arch, system: System, *, xen_args: str, dom0_args: str) -> list[str]:
    """Return the lines of the GRUB entry that loads Xen, dom0's kernel and dom0's initramfs."""
    found = f"search --no-floppy --fs-uuid --set=root {system.uuid}"
    path = system.path
    if arch is Arch.ARM64:
        return [
            found,
            f"xen_hypervisor {path}/xen {xen_args}",
            f"xen_module {path}/kernel {dom0_args}",
            f"xen_module --nounzip {path}/initrd",
        ]
    return [  # GRUB passes no file name here, but Xen skips the first word: hence the word
        "insmod multiboot2",
        found,
        f"multiboot2 {path}/xen placeholder {xen_args}",
        f"module2 {path}/kernel placeholder {dom0_args}",
        f"module2 --nounzip {path}/initrd",
    ]


def boot_once(shell: Shell, section: Booting) -> None:
    """Select our entry for the next boot only; LabError if grubenv does not have it then."""
    at = f"--boot-directory={shlex.quote(str(Path(section.grub).parent))}"
    shell.run(f"grub-reboot {at} {ENTRY}")
    said = shell.run(f"grub-editenv {section.grub}/grubenv list")
    if f"next_entry={ENTRY}" not in said.split():
        raise LabError(
            "grub-reboot did not set next_entry", where=f"{shell.where}:{section.grub}/grubenv"
        )


def placed(shell: Shell, section: Booting) -> list[str]:
    """Return the paths of all files on the server that the harness wrote."""
    files = shell.run(f"find {section.folder} ! -type d 2>/dev/null || true").split()
    mark = [f"{section.grub}/custom.cfg"] if _BEGIN in _custom(shell, section) else []
    return files + mark


def clean(shell: Shell, section: Booting) -> list[str]:
    """Remove from the server all that the harness wrote; return the paths."""
    gone = placed(shell, section)
    old = _custom(shell, section)
    kept = _without_ours(old)
    custom = f"{section.grub}/custom.cfg"
    if not kept:
        shell.run(f"rm -f {custom}")
    elif kept != old:
        shell.put(kept.encode(), custom, mode=0o644)
    environment = f"{section.grub}/grubenv"
    unset = f"[ ! -e {environment} ] || grub-editenv {environment} unset next_entry"
    shell.run(f"rm -rf {section.folder}; {unset}; sync")
    return gone


def _custom(shell: Shell, section: Booting) -> str:
    return shell.run(f"cat {section.grub}/custom.cfg 2>/dev/null || true")


def _without_ours(text: str) -> str:
    ours = rf"^{re.escape(_BEGIN)}$.*?^{re.escape(_END)}$\n?"
    return re.sub(ours, "", text, flags=re.MULTILINE | re.DOTALL)
