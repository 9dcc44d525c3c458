# SPDX-License-Identifier: GPL-2.0-or-later
"""Which series upstream's trees take; XEN_GIT names a repository of upstream Xen."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.hypervisor import flavour, patches, source

_FILES = (
    "xen/Makefile",
    "xen/arch/x86/irq.c",
    "xen/arch/x86/pv/shim.c",
    "xen/common/event_channel.c",
    "xen/include/xen/event.h",
    "xen/include/xen/sched.h",
)
# Not told by the number: 197ecd838a2a was applied to old branches, too.
TAKEN = {
    "RELEASE-4.14.6": "4.14",
    "RELEASE-4.16.5": "4.18",
    "RELEASE-4.16.6": "4.17",
    "RELEASE-4.17.3": "4.18",
    "RELEASE-4.17.4": "4.17",
    "RELEASE-4.18.0": "4.18",
    "RELEASE-4.18.1": "4.17",
    "RELEASE-4.19.0": "4.17",
    "RELEASE-4.20.0": "4.17",
    "RELEASE-4.21.0": "4.17",
    "RELEASE-4.22.0": "4.17",
    "master": "4.17",
}


@pytest.mark.parametrize("ref", TAKEN)
def test_every_flavour_fits(ref: str, tmp_path: Path) -> None:
    repository = os.environ.get("XEN_GIT", "")
    if not repository:
        pytest.skip("XEN_GIT names no repository of upstream Xen")
    for name in _FILES:
        said = subprocess.run(
            ["git", "-C", repository, "show", f"{ref}:{name}"], capture_output=True
        )
        if said.returncode:
            pytest.skip(f"XEN_GIT has no {ref}:{name}")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(said.stdout)
    xen = source.from_dir(tmp_path)
    (shelf,) = (each for each in flavour.order() if each.name == TAKEN[ref])
    for name in flavour.names(shelf.folders)[1:]:
        found = flavour.find(name, xen)
        assert found.shelf == shelf, name
        assert patches.misfit(flavour.delayed(found, xen).patches, tmp_path) is None
