# SPDX-License-Identifier: GPL-2.0-or-later
"""The package lists under images/: which packages and files a root file system gets."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from pathlib import Path

from harness.verdict import ConfigError

_LINE = re.compile(r"^(?P<minus>-?)(?P<word>\S+)(?:\s+\[(?P<arch>\w+)\])?$")


@dataclass(frozen=True)
class PackageList:
    """One list, for one architecture.

    ``wanted`` are names (or apt's ``^regular expressions$``) to resolve; packages that
    match ``unneeded`` and paths that match ``unneeded_paths`` are not unpacked.
    """

    wanted: tuple[str, ...]
    unneeded: tuple[str, ...]
    unneeded_paths: tuple[str, ...]

    def has_package(self, name: str) -> bool:
        """Say whether a package that apt resolved is to be unpacked."""
        return not any(fnmatch.fnmatchcase(name, pattern) for pattern in self.unneeded)

    def has_path(self, path: str) -> bool:
        """Say whether the file ``path`` (absolute) is to be unpacked."""
        return not any(fnmatch.fnmatchcase(path, pattern) for pattern in self.unneeded_paths)


def read(path: Path, debian_arch: str) -> PackageList:
    """Read a list with one word per line: ``-name`` and ``-/path`` leave a package or path out;
    ``[amd64]`` limits the line to this architecture."""
    wanted, unneeded, paths = [], [], []
    for number, line in lines(path):
        match = _LINE.match(line)
        if match is None:
            raise ConfigError(f"not a package: {line!r}", where=f"{path}:{number}")
        if match["arch"] not in (None, debian_arch):
            continue
        if not match["minus"]:
            wanted.append(match["word"])
        elif match["word"].startswith("/"):
            paths.append(match["word"])
        else:
            unneeded.append(match["word"])
    return PackageList(tuple(wanted), tuple(unneeded), tuple(paths))


def lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a data file without comments and empty lines, with their numbers."""
    stripped = (line.split("#", 1)[0].strip() for line in path.read_text().splitlines())
    return [(number, line) for number, line in enumerate(stripped, 1) if line]
