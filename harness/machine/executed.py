# SPDX-License-Identifier: GPL-2.0-or-later
"""Which instructions a machine under QEMU's TCG has executed, by a plugin of ours
(images/host/executed.c)."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from harness import cache
from harness.arch import Arch
from harness.command import CommandFailed, run, which
from harness.data import IMAGES
from harness.machine import emulator
from harness.verdict import BuildError, LabError

_SOURCE = IMAGES / "host" / "executed.c"
_FLAGS = (
    *("-std=c11", "-D_GNU_SOURCE", "-O2", "-fPIC", "-shared", "-fvisibility=hidden"),
    *("-Wall", "-Wextra", "-Werror"),
)
_MAGIC = b"EVTCHNX1"
_HEADER, _RANGE = struct.Struct("=8sQ"), struct.Struct("=QQ")
_VERSION = re.compile(r"version (\d+)\.")
_SECOND_INTERFACE = 9  # the QEMU that takes version 2 of the plugin interface, and no older one


class Executed:
    """What one machine has executed of some address ranges; it can be read while QEMU runs."""

    def __init__(self, path: Path, ranges: Sequence[tuple[int, int]]) -> None:
        """Make the file ``path`` for the plugin.

        ``ranges``: first address and the first one behind it, in Xen's (virtual) addresses; they
        ascend and do not overlap.
        """
        self._path = path
        self._ranges = tuple(ranges)
        size = sum(end - begin for begin, end in ranges)
        pairs = b"".join(_RANGE.pack(*each) for each in ranges)
        path.write_bytes(_HEADER.pack(_MAGIC, len(ranges)) + pairs + bytes(size))

    def arguments(self, arch: Arch) -> list[str]:
        """Return the arguments of QEMU for ``arch`` that load the plugin.

        LabError if there is no compiler, BuildError if it does not compile.
        """
        words = (str(plugin(arch)), f"map={self._path}")
        return ["-plugin", ",".join(word.replace(",", ",,") for word in words)]

    def read(self) -> Callable[[int, int], bool]:
        """Return a function that says whether an instruction at ``begin`` or later, and before
        ``end``, was executed until now.

        LabError if the file is damaged.
        """
        skipped = _HEADER.size + _RANGE.size * len(self._ranges)
        try:
            body = self._path.read_bytes()[skipped:]
        except OSError as error:
            raise LabError(f"cannot be read: {error.strerror}", where=str(self._path)) from error
        if len(body) != sum(end - begin for begin, end in self._ranges):
            raise LabError("was cut off", where=str(self._path))
        addresses = (address for begin, end in self._ranges for address in range(begin, end))
        seen = {address for address, byte in zip(addresses, body, strict=True) if byte}
        return lambda begin, end: any(address in seen for address in range(begin, end))


def plugin(arch: Arch) -> Path:
    """Return the plugin for QEMU of ``arch``; compile it if it is not in the cache."""
    gcc = which("gcc", "gcc libc6-dev")
    interface = _interface(run([emulator.qemu(arch), "--version"]))
    flags = (*_FLAGS, f"-DINTERFACE={interface}")

    def make(folder: Path) -> None:
        try:
            run([gcc, *flags, "-o", folder / "executed.so", _SOURCE], timeout=60)
        except CommandFailed as error:
            raise BuildError(
                f"the plugin for QEMU does not compile: {error.output.strip()[:200]}",
                where=str(_SOURCE),
            ) from error

    name = cache.key(_SOURCE.read_text(), flags, run([gcc, "--version"]).partition("\n")[0])
    return cache.entry("plugin", name, make) / "executed.so"


def _interface(version: str) -> int:
    found = _VERSION.search(version)
    return 2 if found is not None and int(found[1]) >= _SECOND_INTERFACE else 1
