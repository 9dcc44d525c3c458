# SPDX-License-Identifier: GPL-2.0-or-later
"""The content-addressed cache, which parallel runs share and anybody may delete.

An entry is a directory ``<cache>/<kind>/<key>``.  It is made under another name beside its place
and then renamed, so it exists whole or not at all.  The key is a digest of all inputs, so an
entry is never updated.  A lock file beside the entry makes a second run wait, instead of making
the same entry again; the kernel releases the lock if its holder dies.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import platformdirs
from filelock import FileLock

from harness.verdict import HarnessError, LabError

ENVIRONMENT = "EVTCHN_HARNESS_CACHE"
_FULL_BYTES = 1 << 20


def root() -> Path:
    """Return the cache directory: $EVTCHN_HARNESS_CACHE, else a folder in the user's cache."""
    chosen = os.environ.get(ENVIRONMENT)
    return (
        Path(chosen).absolute()
        if chosen
        else Path(platformdirs.user_cache_dir("xen-evtchn-harness"))
    )


def key(*parts: object) -> str:
    """Return the digest (32 hex digits) of ``parts``: bytes, or any JSON value."""
    digest = hashlib.sha256()
    for part in parts:
        blob = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        digest.update(len(blob).to_bytes(8, "little") + blob)
    return digest.hexdigest()[:32]


def digest_files(paths: Iterable[Path], *, base: Path) -> str:
    """Return the digest of the files ``paths``: names relative to ``base``, modes and contents."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        if path.is_symlink():
            kind, body = "link", os.fsencode(path.readlink())
        else:
            kind, body = str(int(os.access(path, os.X_OK))), path.read_bytes()
        digest.update(os.fsencode(f"{path.relative_to(base)}\0{kind}\0{len(body)}\0") + body)
    return digest.hexdigest()[:32]


def entry(kind: str, name: str, make: Callable[[Path], None]) -> Path:
    """Return the directory of entry ``kind``/``name``; call ``make(directory)`` if it is not there.

    ``make`` gets an empty directory and fills it; when ``make`` returns, the directory becomes the
    entry.  If ``make`` raises, the directory is removed; its OSError (for example because the
    disk is full) becomes a LabError.
    """
    shelf = root() / kind
    final = shelf / name
    if final.is_dir():
        with contextlib.suppress(OSError):  # the cache may be read-only
            os.utime(final)
        return final
    try:
        shelf.mkdir(parents=True, exist_ok=True)
        with FileLock(shelf / f".{name}.lock"):
            if final.is_dir():
                return final
            for stale in shelf.glob(f".{name}.new-*"):  # we hold the lock: so its maker was killed
                shutil.rmtree(stale, ignore_errors=True)
            work = Path(tempfile.mkdtemp(prefix=f".{name}.new-", dir=shelf))
            work.chmod(0o755)
            try:
                make(work)
                work.rename(final)
            except HarnessError as error:
                if shutil.disk_usage(shelf).free >= _FULL_BYTES:
                    raise
                full = errno.ENOSPC  # programs report a full disk in many ways, some not clearly
                raise OSError(full, os.strerror(full), str(shelf)) from error
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise _cannot_make(kind, shelf, error) from error
    return final


def _cannot_make(kind: str, shelf: Path, error: OSError) -> LabError:
    what = f"cannot make {kind} in the cache: {error.strerror or error}"
    where = Path(str(error.filename or shelf))
    at_fault = error.errno in (errno.ENOSPC, errno.EDQUOT) or where.is_relative_to(root())
    hint = f"free space or correct the permissions there, or set {ENVIRONMENT} to another directory"
    return LabError(what, where=str(where), hint=hint if at_fault else "")
