# SPDX-License-Identifier: GPL-2.0-or-later
"""The program that libvirt starts as the machine.

Usually that is QEMU itself.  But the user that libvirt runs QEMU as may not be allowed to open
/dev/kvm (in a container with root's device nodes).  libvirt 9 then sees that QEMU supports KVM but
cannot use it, so it discards what it knows of this QEMU and probes it again, nine times for every
machine (seen: 36 s).  In this case libvirt starts a script instead, which calls QEMU and removes
KVM from libvirt's question.
"""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from harness import cache, command
from harness.arch import NAMES, Arch

_PACKAGE = {Arch.X86_64: "qemu-system-x86", Arch.ARM64: "qemu-system-arm"}
_QEMU_USERS = ("libvirt-qemu", "qemu")  # Debian's name, Fedora's
_STAND_IN = """#!/bin/sh
# {qemu} without KVM, which libvirt's user may not open.
for word; do
    shift
    [ "$word" != none,accel=kvm:tcg ] || word=none,accel=tcg
    set -- "$@" "$word"
done
exec {qemu} "$@"
"""


def qemu(arch: Arch) -> str:
    """Return the path of QEMU for ``arch``; LabError names the package that has it."""
    return command.which(f"qemu-system-{NAMES[arch].qemu}", _PACKAGE[arch])


def emulator(arch: Arch, accel: str) -> str:
    """Return the program that libvirt must start for a machine of ``arch`` under ``accel``."""
    real = qemu(arch)
    if accel == "kvm" or os.geteuid() != 0 or not closed_to_qemu():
        return real

    def make(folder: Path) -> None:
        script = folder / Path(real).name
        script.write_text(_STAND_IN.format(qemu=real))
        script.chmod(0o755)

    name = cache.key(_STAND_IN, real)
    return str(cache.entry("emulator", name, make) / Path(real).name)


def closed_to_qemu(device: Path = Path("/dev/kvm")) -> bool:
    """Return whether ``device`` exists, but the user that libvirt runs QEMU as may not open it."""
    try:
        about = device.stat()
        user = next(user for user in pwd.getpwall() if user.pw_name in _QEMU_USERS)
    except (OSError, StopIteration):
        return False
    if about.st_uid == user.pw_uid:
        needs = stat.S_IRUSR | stat.S_IWUSR
    elif about.st_gid in os.getgrouplist(user.pw_name, user.pw_gid):
        needs = stat.S_IRGRP | stat.S_IWGRP
    else:
        needs = stat.S_IROTH | stat.S_IWOTH
    return about.st_mode & needs != needs
