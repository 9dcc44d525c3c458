# SPDX-License-Identifier: GPL-2.0-or-later
"""What of a build Xen loads and runs: equal for builds that cannot behave differently."""

from __future__ import annotations

import hashlib
from pathlib import Path

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from harness import cache


def digest_loaded(syms: Path, build_id: str, changeset: str) -> str:
    """Return a digest of the loaded sections of ``syms`` (xen-syms).

    The two names of a build (hex; what .scmversion said) are taken out first: they tell two
    builds apart that are otherwise the same bytes.  Xen's EFI loader has one in UTF-16.
    """
    names = bytes.fromhex(build_id), changeset.encode(), changeset.encode("utf-16-le")
    digests = []
    with syms.open("rb") as file:
        for section in ELFFile(file).iter_sections():
            if section["sh_flags"] & SH_FLAGS.SHF_ALLOC and section["sh_type"] != "SHT_NOBITS":
                data = section.data()
                for name in names:
                    data = data.replace(name, b"")
                digests.append([section.name, hashlib.sha256(data).hexdigest()])
    return cache.key(digests)
