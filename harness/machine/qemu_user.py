# SPDX-License-Identifier: GPL-2.0-or-later
"""As which user QEMU runs."""

from __future__ import annotations

import os

import libvirt


def user() -> str:
    """Return as which user QEMU runs, in words for people, and what that means for a bad Xen.

    Xen's images lie in our cache, its sockets and disk in a scratch directory that is ours alone:
    libvirt's own user could read neither.  So QEMU runs as we do.
    """
    if os.geteuid() == 0:
        return (
            "as root, not confined by AppArmor or SELinux: a Xen that breaks out of QEMU is root "
            "here; run as an ordinary user to avoid that (docs/security.md)"
        )
    return "as you: a Xen that breaks out of QEMU can do here what you can (docs/security.md)"


def seclabels(connection: libvirt.virConnect) -> list[tuple[str, str]]:
    """Return (model, label) pairs with which QEMU runs as our user, so that it may read our cache.

    The full capabilities of libvirt name the models too; but if /dev/kvm exists and cannot be
    used, libvirt probes every QEMU again to make them (seen: 15 s).
    """
    if os.geteuid() != 0:
        return []
    labels = {"apparmor": "", "selinux": ""}
    primary = connection.getSecurityModel()[0]
    own = [(primary, labels[primary])] if primary in labels else []
    return [("dac", f"+{os.getuid()}:+{os.getgid()}"), *own]
