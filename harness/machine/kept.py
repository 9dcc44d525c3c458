# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that were kept in the cache while they ran, so that the next run goes on from there.

An entry of the cache has the disk of a machine under QEMU, with the state of its CPUs, memory and
devices in it (QEMU's ``savevm``), and ``about.json``: the digest of that disk, and what was known
of the machine.  Its key is of everything that went in.  Every use copies the disk and compares the
digest of what it has copied: a damaged entry is told, and never runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import cache
from harness.verdict import LabError

_SHELF = "machine"
_DISK, _ABOUT = "root.qcow2", "about.json"
_DAYS = 7.0  # older ones are not used any more
_MOST = 6  # entries; of more, those that were not used for the longest time are removed
_CHUNK = 4 << 20  # bytes


@dataclass(frozen=True)
class Kept:
    """A machine in the cache; ``facts`` is what whoever kept it wrote down (JSON values)."""

    folder: Path
    sha256: str  # of the disk
    facts: Mapping[str, Any]

    def copy(self, target: Path) -> None:
        """Copy its disk to ``target``; LabError if it is not what was kept, or cannot be copied."""
        source = cache.trusted(self.folder / _DISK)
        try:
            found = copied(source, target)
        except OSError as error:
            raise LabError(
                f"cannot copy the snapshot: {error.strerror}", where=str(error.filename or source)
            ) from error
        if found != self.sha256:
            raise LabError("the snapshot is damaged: its digest is another one", where=str(source))

    def discard(self) -> None:
        """Remove it from the cache.  Never raises."""
        shutil.rmtree(self.folder, ignore_errors=True)


def find(key: str) -> Kept | None:
    """Return the machine of ``key``; None if there is none that can be used.

    One that is too old, or whose description cannot be read, is removed.
    """
    folder = cache.shelf(_SHELF) / key
    if not folder.is_dir():
        return None
    try:
        about = json.loads(cache.trusted(folder / _ABOUT).read_text())
        kept = Kept(cache.trusted(folder), str(about["sha256"]), dict(about["facts"]))
        aged = time.time() - float(about["when"]) > _DAYS * 86400
    except (OSError, ValueError, KeyError, TypeError):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    if aged:
        kept.discard()
        return None
    with contextlib.suppress(OSError):  # the cache may be read-only
        (folder / _ABOUT).touch()
    return kept


def keep(key: str, facts: Mapping[str, Any], save: Callable[[Path], str]) -> Path:
    """Make the entry ``key``: ``save`` writes the disk to the path that it gets and returns its
    digest.  Return the entry's directory; LabError if that fails, and nothing is left of it then.
    """

    def make(work: Path) -> None:
        digest = save(work / _DISK)
        about = {"when": time.time(), "sha256": digest, "facts": dict(facts)}
        (work / _ABOUT).write_text(json.dumps(about, indent=1))

    made = cache.entry(_SHELF, key, make)
    _prune(made)
    return made


def copied(source: Path, target: Path) -> str:
    """Copy a file; return the digest (SHA-256, hex) of what was copied."""
    digest = hashlib.sha256()
    with source.open("rb") as reading, target.open("wb") as writing:
        while chunk := reading.read(_CHUNK):
            digest.update(chunk)
            writing.write(chunk)
    return digest.hexdigest()


def _prune(latest: Path) -> None:
    """Remove the entries beyond the limit, except ``latest``."""
    used: list[tuple[float, Path]] = []
    for folder in cache.shelf(_SHELF).iterdir():
        with contextlib.suppress(OSError):
            if folder.is_dir() and not folder.name.startswith(".") and folder != latest:
                used.append(((folder / _ABOUT).stat().st_mtime, folder))
    for _, folder in sorted(used, reverse=True)[_MOST - 1 :]:
        shutil.rmtree(folder, ignore_errors=True)
