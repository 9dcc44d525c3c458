# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of Xen's event channels, as they are built."""

from __future__ import annotations

import re
import shutil

from harness.hypervisor import patches
from harness.hypervisor.flavour import Flavour
from harness.hypervisor.source import Source
from harness.scratch import scratch
from harness.verdict import ConfigError

# The event channels, and the functions that take a channel's lock.  The general locks (rwlock.h,
# spinlock.c) are all of Xen's.
FILES = (
    "xen/common/event_channel.c",
    "xen/common/event_2l.c",
    "xen/common/event_fifo.c",
    "xen/common/event_channel.h",
    "xen/include/xen/event.h",
)
_TOUCHED = re.compile(r"^(?:---|\+\+\+) [^/\s]+/(\S+)", re.MULTILINE)


def flavoured(source: Source, flavour: Flavour) -> dict[str, bytes]:
    """Return the text of each file of FILES in ``source`` with the patches of ``flavour``.

    ConfigError if a patch does not fit, or the tree has no sources.
    """
    touched = {name for patch in flavour.patches for name in _TOUCHED.findall(patch.read_text())}
    with scratch() as folder:
        for name in {*FILES, *touched}:
            if (source.tree / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source.tree / name, folder / name)
        misfit = patches.apply(flavour.patches, folder)
        if misfit is not None:
            raise ConfigError(f"the patch does not fit: {misfit.reason}", where=str(misfit.patch))
        found = {name: (folder / name).read_bytes() for name in FILES if (folder / name).is_file()}
    if FILES[0] not in found:
        raise ConfigError(
            f"no {FILES[0]}: this Xen has no sources",
            where=str(source.tree),
            hint="take a release whose source there is, or --xen-src or --xen-git",
        )
    return found
