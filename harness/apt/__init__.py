"""Packages of the machine's own distribution, for any architecture, without root.

A private apt root in the cache is made from the machine's apt configuration as it is at
run time (archives, keyrings, proxies), so that packages of another architecture and
source packages are found, verified and downloaded by apt itself and nothing of the
machine's own package state is read or changed.
"""

from harness.apt.packages import Deb, Source, download, fetch, resolve, source_package
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
]
