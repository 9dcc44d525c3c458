# SPDX-License-Identifier: GPL-2.0-or-later
"""Install Xen beside a server's default system: its files, and a GRUB entry that is booted once.

Only two things of the default system change: custom.cfg, which GRUB's own 41_custom reads, gets a
block of ours, and grubenv gets ``next_entry``.  GRUB deletes ``next_entry`` before it boots the
entry: so, whatever happens then, the next boot is the default system's.  Where GRUB cannot delete
it (it does not write to LVM, RAID or btrfs), nothing is installed.
"""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.arch import NAMES, Arch
from harness.config.physical import Booting
from harness.machine import network
from harness.machine.shell import Shell
from harness.verdict import LabError

ENTRY = "xen-evtchn-harness"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_BEGIN, _END = f"# {ENTRY}: begin", f"# {ENTRY}: end"
_NO_END = ", after a line without an end"  # which is ours, then, as the block is
_SPARE_BYTES = 64 << 20  # of the server's disk that must stay free
_ROOM = "free space there, or set boot.folder in lab.yaml to another file system"
_BUILT_IN_DRIVERS = ("virtio_net",)  # network drivers in images/dom0/modules.txt

# Debian's names of GRUB's programs, or Fedora's and openSUSE's.
_PROGRAMS = r"""
grub() {
    tool=grub-$1
    command -v "$tool" >/dev/null || tool=grub2-$1
    shift
    "$tool" "$@"
}
"""
# All in one command, to save round trips; it prints lines "name=value".
_LOOK = (
    _PROGRAMS
    + r"""
echo "arch=$(uname -m)"
echo "boot_id=$(cat BOOT_ID)"
why=$(mkdir -p FOLDER 2>&1) || echo "no_folder=$(echo $why)"
[ ! -d FOLDER ] || echo "free_kib=$(df -k FOLDER | tail -n 1 | awk '{print $4}')"
for program in probe mkrelpath reboot editenv; do
    command -v "grub-$program" >/dev/null || command -v "grub2-$program" >/dev/null ||
        echo "no_program=grub-$program"
done
echo "uuid=$(grub probe --target=fs_uuid FOLDER)"
echo "path=$(grub mkrelpath FOLDER)"
for target in partmap abstraction fs; do
    echo "folder_$target=$(grub probe --target=$target FOLDER 2>/dev/null | tr '\n' ' ')"
done
home=GRUB # Fedora has a link to grubenv on another file system
[ ! -L GRUB/grubenv ] || home=$(dirname "$(realpath GRUB/grubenv)")
for target in abstraction fs; do
    echo "env_$target=$(grub probe --target=$target "$home" 2>/dev/null | tr '\n' ' ')"
done
[ ! -e GRUB/grub.cfg ] || echo "configured=yes"
secure=$(cat /sys/firmware/efi/efivars/SecureBoot-* 2>/dev/null | od -An -t u1 | tr -d '\n')
echo "secure_boot=${secure##* }"
echo "leads=$(grep -c '^[[:space:]]*configfile ' GRUB/grub.cfg)"
echo "generated=$(grep -c -e 'DO NOT EDIT' -e '### BEGIN' GRUB/grub.cfg)"
echo "custom=$(grep -c custom.cfg GRUB/grub.cfg)"
echo "once=$(grep -c next_entry GRUB/grub.cfg)"
echo "taken=$(grep -c 'default=.*next_entry' GRUB/grub.cfg)"
echo "cleared=$(grep -c 'save_env.*next_entry' GRUB/grub.cfg)"
"""
)
# Where GRUB cannot write grubenv, so that ``next_entry`` would stay: grub-probe's abstractions, and
# the file systems that GRUB's own 10_linux leaves out for that reason.
_NOT_WRITTEN = re.compile(
    r"lvm|ldm|diskfilter|(md|dm)?raid\w*|cryptodisk|luks2?|geli|loopback"
    r"|btrfs|zfs|bcachefs|cpiofs|newc|odc|romfs|squash4|tarfs|iso9660"
)
_STAYS = "will remain the default"  # grub-reboot's own warning of the same
# What a hand-written grub.cfg needs, for the error that asks for it.
_HEAD = (
    'load_env; if [ "${next_entry}" ]; then set default="${next_entry}"; set next_entry=; '
    "save_env next_entry; fi"
)
_TAIL = "source $prefix/custom.cfg"


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
    modules: tuple[str, ...] = ()  # of GRUB, that it needs to see that file system
    vlan: int = 0  # of dom0's network; 0: none

    @property
    def network(self) -> str:
        """Return dom0's network as guests/dom0/init reads it."""
        tag = f" vlan={self.vlan}" if self.vlan else ""
        return f"mac={self.mac} address={self.address} gateway={self.gateway}{tag}\n"


def inspect(shell: Shell, section: Booting, arch: Arch, extra: Sequence[str] = ()) -> System:
    """Examine the default system; LabError if it cannot boot Xen once.

    ``extra`` are kernel modules that dom0 gets in addition to those of its image.
    """
    look = _LOOK.replace("FOLDER", shlex.quote(section.folder))
    look = look.replace("GRUB", shlex.quote(section.grub)).replace("BOOT_ID", _BOOT_ID)
    lines = shell.run(f"{look}{network.LOOK}").splitlines()
    said = dict(line.partition("=")[::2] for line in lines if "=" in line)
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
    if program := said.get("no_program"):
        other = program.replace("grub", "grub2", 1)
        raise LabError(
            f"the default system has neither {program} nor {other}",
            where=where,
            hint="the server must boot by GRUB 2; its programs are in grub-common or grub2-tools",
        )
    _see_that_it_boots_once(said, section, where)
    if "cryptodisk" in said.get("folder_abstraction", ""):
        raise LabError(
            f"{section.folder} is encrypted: GRUB would ask for the passphrase",
            where=where,
            hint="set boot.folder in lab.yaml to a file system that is not encrypted",
        )
    for field in ("uuid", "path"):
        if not said.get(field):
            raise LabError(f"the default system reports no {field}", where=where)
    found = network.read(lines, where)
    if found.driver not in (*_BUILT_IN_DRIVERS, *extra):
        raise LabError(
            f"dom0 would have no network: dom0's image does not have the driver {found.driver}",
            where=where,
            hint=f"set boot.modules: [{found.driver}] in lab.yaml",
        )
    return System(
        arch=machine,
        boot_id=said.get("boot_id", ""),
        mac=found.mac,
        address=found.address,
        gateway=found.gateway,
        driver=found.driver,
        free_bytes=int(said["free_kib"]) << 10,
        uuid=said["uuid"],
        path=said["path"],
        modules=_modules(said),
        vlan=found.vlan,
    )


def _see_that_it_boots_once(said: Mapping[str, str], section: Booting, where: str) -> None:
    """Raise LabError unless GRUB boots an entry of custom.cfg once, and the default ever after."""
    words = f"{said.get('env_abstraction', '')} {said.get('env_fs', '')}".split()
    if bad := [word for word in words if _NOT_WRITTEN.fullmatch(word)]:
        raise LabError(
            f"GRUB cannot write {section.grub}/grubenv ({', '.join(bad)}): it would boot Xen every "
            "time, even after a crash",
            where=where,
            hint="put GRUB's folder on a partition of its own, with ext4 or xfs and without LVM or "
            "RAID, and set boot.grub in lab.yaml",
        )

    def has(field: str) -> bool:
        return said.get(field, "0") not in ("", "0")

    if said.get("secure_boot") == "1":
        raise LabError(
            "Secure Boot is on: GRUB would not load Xen, which nobody has signed",
            where=where,
            hint="switch Secure Boot off in the server's firmware",
        )
    does_not = (
        "does not read custom.cfg (GRUB's 41_custom)"
        if not has("custom")
        else "does not know `grub-reboot` (next_entry)"
        if not has("once")
        else "takes next_entry but never clears it (save_env)"
        if has("taken") and not has("cleared")
        else ""
    )
    if not does_not:
        return
    if "configured" not in said:
        hint = "set boot.grub in lab.yaml to the folder that has grub.cfg"
    elif has("leads") and not has("generated"):
        hint = (
            "it only leads to another grub.cfg, as that of an EFI partition does: set boot.grub in "
            "lab.yaml to the other's folder, /boot/grub or /boot/grub2"
        )
    elif has("generated"):
        hint = "run update-grub there (or grub2-mkconfig), or set boot.grub in lab.yaml"
    else:
        hint = (
            "it is hand-written (as by XCP-ng and XenServer): add at its head "
            f"`{_HEAD}` and at its end `{_TAIL}`"
        )
    raise LabError(
        f"the GRUB entry cannot be booted: {section.grub}/grub.cfg {does_not}",
        where=where,
        hint=hint,
    )


def _modules(said: Mapping[str, str]) -> tuple[str, ...]:
    """Return the modules with which GRUB sees the folder of our files, in the order it needs."""
    maps = [f"part_{word}" for word in said.get("folder_partmap", "").split()]
    others = f"{said.get('folder_abstraction', '')} {said.get('folder_fs', '')}".split()
    return tuple(word for word in (*maps, *others) if re.fullmatch(r"(part_)?[a-z]\w*", word))


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
    """Write the GRUB entry with these ``lines``; it replaces an earlier one of ours.

    It is for everybody to boot, also where the menu has a password (--unrestricted).  Whatever
    else custom.cfg has stays as it is, byte for byte, as do its mode, its owner and a link.
    """
    body = "\n".join(f"    {line}" for line in lines)
    kept = _without_ours(_custom(shell, section))
    begin = _BEGIN if not kept or kept.endswith("\n") else f"\n{_BEGIN}{_NO_END}"
    title = f"menuentry '{ENTRY}' --unrestricted --id {ENTRY}"
    _write_custom(shell, section, f"{kept}{begin}\n{title} {{\n{body}\n}}\n{_END}\n")


def entry(arch: Arch, system: System, *, xen_args: str, dom0_args: str) -> list[str]:
    """Return the lines of the GRUB entry that loads Xen, dom0's kernel and dom0's initramfs."""
    found = [f"insmod {module}" for module in system.modules]
    found += [f"search --no-floppy --fs-uuid --set=root {shlex.quote(system.uuid)}"]
    xen, kernel, initrd = (shlex.quote(f"{system.path}/{n}") for n in ("xen", "kernel", "initrd"))
    xen_args, dom0_args = _quoted(xen_args), _quoted(dom0_args)
    if arch is Arch.ARM64:
        return [
            *found,
            f"xen_hypervisor {xen} {xen_args}",
            f"xen_module {kernel} {dom0_args}",
            f"xen_module --nounzip {initrd}",
        ]
    return [  # GRUB passes no file name here, but Xen skips the first word: hence the word
        "insmod multiboot2",
        *found,
        f"multiboot2 {xen} placeholder {xen_args}",
        f"module2 {kernel} placeholder {dom0_args}",
        f"module2 --nounzip {initrd}",
    ]


def _quoted(arguments: str) -> str:
    """Return ``arguments`` with each word as GRUB's script language takes it literally."""
    return " ".join(map(shlex.quote, arguments.split()))


def boot_once(shell: Shell, section: Booting) -> None:
    """Select our entry for the next boot only; LabError if grubenv does not have it then.

    Also if GRUB warns that it could not take it back; then nothing is selected.
    """
    at = f"--boot-directory={shlex.quote(str(Path(section.grub).parent))}"
    grubenv = shlex.quote(f"{section.grub}/grubenv")
    where = f"{shell.where}:{section.grub}/grubenv"
    warned = shell.run(f"{_PROGRAMS}grub reboot {at} {ENTRY} 2>&1")
    if _STAYS in warned or "environment block on" in warned:
        shell.run(f"{_PROGRAMS}grub editenv {grubenv} unset next_entry; sync")
        lines = [line.strip() for line in warned.splitlines() if "WARNING" in line]
        raise LabError(
            f"GRUB would boot Xen every time: {' '.join(lines)}",
            where=where,
            hint="put GRUB's folder on a partition that GRUB can write to",
        )
    said = shell.run(f"{_PROGRAMS}grub editenv {grubenv} list")
    if f"next_entry={ENTRY}" not in said.split():
        raise LabError("grub-reboot did not set next_entry", where=where)


def placed(shell: Shell, section: Booting) -> list[str]:
    """Return the paths of all files on the server that the harness wrote."""
    files = shell.run(f"find {shlex.quote(section.folder)} ! -type d 2>/dev/null || true").split()
    mark = [f"{section.grub}/custom.cfg"] if _BEGIN in _custom(shell, section) else []
    return files + mark


def clean(shell: Shell, section: Booting) -> list[str]:
    """Remove from the server all that the harness wrote; return the paths."""
    gone = placed(shell, section)
    old = _custom(shell, section)
    kept = _without_ours(old)
    if not kept:
        shell.run(f"rm -f {shlex.quote(f'{section.grub}/custom.cfg')}")
    elif kept != old:
        _write_custom(shell, section, kept)
    environment = shlex.quote(f"{section.grub}/grubenv")
    unset = f"[ ! -e {environment} ] || grub editenv {environment} unset next_entry"
    shell.run(f"{_PROGRAMS}rm -rf {shlex.quote(section.folder)}; {unset}; sync")
    return gone


def _custom(shell: Shell, section: Booting) -> str:
    """Return custom.cfg, one character for each of its bytes, "" if there is none."""
    custom = shlex.quote(f"{section.grub}/custom.cfg")
    return base64.b64decode(shell.run(f"[ ! -e {custom} ] || base64 {custom}")).decode("latin-1")


def _write_custom(shell: Shell, section: Booting, text: str) -> None:
    """Replace the contents of custom.cfg, given as ``_custom`` returns them, and nothing else."""
    custom = shlex.quote(f"{section.grub}/custom.cfg")
    look = f'if [ -e {custom} ]; then realpath {custom}; stat -L -c "%a %u:%g" {custom}; fi'
    target, mode, owner = f"{section.grub}/custom.cfg", 0o644, ""
    if said := shell.run(look).splitlines():
        octal, owner = said[1].split()
        target, mode = said[0], int(octal, 8)
    shell.put(text.encode("latin-1"), target, mode=mode)
    if owner:
        shell.run(f"chown {owner} {shlex.quote(target)}")


def _without_ours(text: str) -> str:
    begin = rf"(?:\n{re.escape(_BEGIN + _NO_END)}|^{re.escape(_BEGIN)})"
    ours = rf"{begin}$.*?^{re.escape(_END)}$\n?"
    return re.sub(ours, "", text, flags=re.MULTILINE | re.DOTALL)
