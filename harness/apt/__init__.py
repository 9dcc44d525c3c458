# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages of this computer's distribution, for any architecture, without root.

We make a private apt root in the cache from the computer's apt configuration (archives, keyrings,
proxies) at run time.  With it, apt itself finds, verifies and downloads packages of another
architecture and source packages, and does not read or change the computer's package state.
"""

from harness.apt.packages import (
    Deb,
    Source,
    download,
    fetch,
    resolve,
    source_package,
    source_versions,
)
from harness.apt.root import Notice, machine_release

__all__ = [
    "Deb",
    "Notice",
    "Source",
    "download",
    "fetch",
    "machine_release",
    "resolve",
    "source_package",
    "source_versions",
]
