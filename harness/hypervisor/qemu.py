# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's source, for its emulation of Xen's event channels: the distribution's, or a directory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from harness import apt
from harness.verdict import ConfigError, LabError

EVENT_CHANNELS = Path("hw/i386/kvm/xen_evtchn.c")  # from QEMU 8.0 on
FIRST = 8  # the first major version that has it
# Debian's release whose QEMU is taken where that of the computer's own is too old, or gone.
_NEWER = "trixie"


@dataclass(frozen=True)
class QemuSource:
    """A QEMU source tree that has the emulation.  Nothing of ours ever writes to ``tree``."""

    tree: Path
    version: str  # Debian's, or what the file VERSION says
    origin: str  # for people: where it comes from


def from_dir(tree: Path) -> QemuSource:
    """Return the user's own tree, as it is now; ConfigError if it has no such emulation."""
    tree = tree.expanduser().resolve()
    if not (tree / EVENT_CHANNELS).is_file():
        raise ConfigError(
            f"no {EVENT_CHANNELS} there",
            where=f"--qemu-src {tree}",
            hint=f"give the directory of QEMU's source, {FIRST}.0 or later",
        )
    try:
        version = (tree / "VERSION").read_text(errors="replace").strip()[:40]
    except OSError:
        version = ""
    return QemuSource(tree, version or "of no known version", str(tree))


def from_apt(notice: apt.Notice = lambda _: None) -> QemuSource:
    """Return the distribution's source package of QEMU, fetched into the cache.

    On a Debian whose own is older than 8.0, or is in the index only, that of Debian 13.  LabError
    when apt offers none.
    """
    debian = apt.machine_release().distribution == "debian"
    tried = []
    for codename in ("", _NEWER) if debian else ("",):
        try:
            versions = apt.source_versions("qemu", codename=codename, notice=notice)
            if versions and _major(versions[0]) >= FIRST:
                package = apt.source_package("qemu", codename=codename, notice=notice)
                where = f"the source package of {codename or 'this release'}"
                return QemuSource(package.tree, package.version, where)
            tried += versions
        except LabError as error:
            tried.append(error.what)
    raise LabError(
        f"no source package of QEMU {FIRST}.0 or later: {'; '.join(tried) or 'the index has none'}",
        where="apt",
        hint="give a tree of your own with --qemu-src",
    )


def _major(version: str) -> int:
    """Return the number before the first dot of a Debian version: 10 of 1:10.0.2+ds-2."""
    found = re.match(r"(?:\d+:)?(\d+)", version)
    return int(found[1]) if found else 0
